"""Random changes of the training images, in the order of the paper (Appendix C.2), z-normalisation last.

Every random number comes from torch's global generator on the CPU, as in TorchIO, so that seeding it fixes the result.
"""

from __future__ import annotations

from typing import Any

import torch
import torchio as tio

from sauron_train.config import Config
from sauron_train.data.spatial import Elastic, InPlaneAffine, affine_reach
from sauron_train.errors import ConfigError

REFERENCE = "reference"
"""Key of a subject under which voxels (C, N) of the whole image lie; z-normalisation takes its statistics from them."""

_SMALLEST_DEVIATION = 1e-6


def augmentation(config: Config, margin: tuple[int, int, int] = (0, 0, 0), *, in_place: bool = False) -> tio.Transform:
    """The recipe's augmentation as one TorchIO transform: scale, rotation, gamma, flip, elastic, z-normalisation.

    A subject holds images (C, X, Y, Z), for 2D recipes (C, X, Y, 1); the plane is that of the first two axes. `margin`
    voxels are cut off on each side after scaling and rotation; `in_place` spares the copy of the subject.

    Raises:
        ConfigError: too few control points for an elastic deformation.
    """
    augment = config.augment
    quick = {"copy": False, "parse_input": False}
    steps: list[Any] = []
    if augment.scale_p > 0 or augment.rotation_p > 0:
        steps.append(InPlaneAffine(augment, margin, **quick))
    if augment.gamma_p > 0:
        steps.append(Gamma(augment.gamma, p=augment.gamma_p, **quick))
    if augment.flip_axes and augment.flip_p > 0:
        steps.append(Flip(augment.flip_axes, augment.flip_p, **quick))
    if augment.elastic_p > 0:
        if augment.elastic_control_points < 5:
            raise ConfigError(
                "augment.elastic_control_points must be at least 5, because two on each side stay in place"
            )
        steps.append(
            Elastic(augment.elastic_control_points, augment.elastic_displacement, p=augment.elastic_p, **quick)
        )
    if augment.z_normalise:
        steps.append(ZNormalise(**quick))
    return tio.Compose(steps, copy=not in_place)


def affine_margin(config: Config) -> tuple[int, int, int]:
    """Voxels that a patch needs on each side so that scaling and rotation bring in no border; 0 where both are off."""
    return (*affine_reach(config.augment, (config.data.patch[0], config.data.patch[1])), 0)


def normalise(image: torch.Tensor, config: Config) -> torch.Tensor:
    """What training does to an image last of all, for images that are not augmented.

    `image` (C, *spatial), one whole slice or volume, gets zero mean and unit variance per channel; a constant channel
    becomes zero. It stays as it is where the recipe does not z-normalise.
    """
    return z_normalised(image.float(), image.flatten(1).float()) if config.augment.z_normalise else image.float()


def z_normalised(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Shift and scale `image` (C, *spatial) so that the voxels `reference` (C, N) have zero mean and unit variance.

    A channel that is constant in `reference` becomes zero, never NaN.
    """
    deviation, mean = torch.std_mean(reference, dim=1, correction=0)
    # The deviation of a constant channel consists of rounding errors, which must not be blown up to unit variance.
    constant = deviation <= _SMALLEST_DEVIATION * mean.abs().clamp(min=_SMALLEST_DEVIATION)
    scale = torch.where(constant, 0.0, 1 / deviation)
    shape = (-1, *[1] * (image.dim() - 1))
    return (image - mean.reshape(shape)) * scale.reshape(shape)


class Gamma(tio.RandomGamma):  # type: ignore[misc]
    """TorchIO's RandomGamma, which changes the reference voxels of a subject with the image."""

    def apply_transform(self, subject: Any) -> Any:
        """Raise every channel, and its reference voxels, to its own power."""
        for image in self.get_images(subject):
            gammas = torch.tensor([self.get_params(self.log_gamma_range) for _ in image.data], dtype=torch.float32)
            image.set_data(_power(image.data, gammas[:, None, None, None]))
            if REFERENCE in subject:
                subject[REFERENCE] = _power(subject[REFERENCE], gammas[:, None])
        return subject


class Flip(tio.SpatialTransform):  # type: ignore[misc]
    """Reverse each of the axes by itself with a probability (TorchIO's RandomFlip fails on images of one voxel)."""

    def __init__(self, axes: tuple[int, ...], flip_probability: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = axes
        self.flip_probability = flip_probability

    def apply_transform(self, subject: Any) -> Any:
        """Draw the axes and flip every image of the subject."""
        fires = torch.rand(3) < self.flip_probability
        dims = [1 + axis for axis in self.axes if fires[axis]]
        if dims:
            for image in self.get_images(subject):
                image.set_data(image.data.flip(dims))
        return subject


class ZNormalise(tio.IntensityTransform):  # type: ignore[misc]
    """z-normalisation per channel with the statistics of the whole image, where the subject carries its voxels."""

    def apply_transform(self, subject: Any) -> Any:
        """Normalise every image of the subject."""
        for image in self.get_images(subject):
            data = image.data.float()
            image.set_data(z_normalised(data, subject.get(REFERENCE, data.flatten(1))))
        return subject


def _power(values: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    return values.sign() * values.abs() ** gamma

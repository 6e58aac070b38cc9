"""Whole cases as the network sees them, for validation, prediction and the probe images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sauron_train.config import Config
from sauron_train.data.augment import normalise
from sauron_train.data.patches import fit
from sauron_train.data.types import Volume
from sauron_train.errors import DataError
from sauron_train.runlog import Probe


def network_input(volume: Volume, config: Config) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A whole case, normalised but not augmented, padded or cut.

    Returns:
        3D: image (1, C, X, Y, Z) and label (1, X, Y, Z); 2D: one per slice, image (S, C, H, W) and label (S, H, W).
        Images are float32, labels uint8 or None. Where the network needs more voxels, pad with zeros, as training does.
    """
    if config.network.dim == 3:
        label = None if volume.label is None else volume.label[None]
        return normalise(volume.image, config)[None], label
    axis = config.data.slice_axis
    image = torch.stack([normalise(piece, config) for piece in volume.image.unbind(1 + axis)])
    return image, None if volume.label is None else volume.label.movedim(axis, 0).contiguous()


def stack_back(labels: torch.Tensor, config: Config) -> torch.Tensor:
    """Undo what `network_input` does to the axes: (1, X, Y, Z) or (S, H, W) become (X, Y, Z)."""
    if config.network.dim == 3:
        return labels[0]
    return labels.movedim(0, config.data.slice_axis).contiguous()


def classes_back(scores: torch.Tensor, config: Config) -> torch.Tensor:
    """The same for one volume per class: (1, K, X, Y, Z) or (S, K, H, W) become (K, X, Y, Z), without a copy."""
    if config.network.dim == 3:
        return scores[0]
    return scores.movedim(0, 1).movedim(1, 1 + config.data.slice_axis)


def network_spacing(volume: Volume, config: Config) -> tuple[float, ...]:
    """Voxel size in mm of the axes that the network sees."""
    if config.network.dim == 3:
        return volume.spacing
    return tuple(side for axis, side in enumerate(volume.spacing) if axis != config.data.slice_axis)


def probe(volumes: Sequence[Volume], config: Config) -> Probe:
    """The fixed images on which maps are measured: at most `probe.images` cases, chosen by `probe.seed`.

    Cases with labelled voxels are taken first. In 3D an image is the whole volume, in 2D the slice with most labelled
    voxels; it is cut to the patch size around the labelled voxels, or zeros are put around it. A name is that of the
    case, in 2D with the number of the slice counted from 0: "CASE slice 7". The voxel size is that of the first image.

    Raises:
        DataError: no volumes, or one without labels.
    """
    if not volumes:
        raise DataError("there is no case for the probe images; the validation side of the split is empty")
    seed = config.seed if config.probe.seed is None else config.probe.seed
    order = np.random.default_rng(seed).permutation(len(volumes))
    by_name = sorted(volumes, key=lambda volume: volume.name)
    shuffled = [by_name[i] for i in order]
    chosen = sorted(shuffled, key=lambda volume: not _has_foreground(volume))[: config.probe.images]
    cuts = [_probe_image(volume, config) for volume in chosen]
    return Probe(
        images=np.stack([cut.image.numpy() for cut in cuts]).astype(np.float32),
        labels=np.stack([cut.label.numpy() for cut in cuts]).astype(np.uint8),
        names=tuple(cut.name for cut in cuts),
        spacing=network_spacing(chosen[0], config),
    )


def probe_of_image(volume: Volume, config: Config) -> Probe:
    """An image of one's own, without label, as probe images are: in 2D at most `probe.images` slices spread over it.

    It is cut to the patch size around its middle, or zeros are put around it; labels are empty.
    """
    images, _ = network_input(volume, config)
    count = min(config.probe.images, len(images))
    places = [round((i + 0.5) * len(images) / count - 0.5) for i in range(count)]
    cuts = [_cut(images[place], torch.zeros(images.shape[2:], dtype=torch.uint8), config) for place in places]
    named = config.network.dim == 2
    return Probe(
        images=np.stack([image.numpy() for image, _ in cuts]).astype(np.float32),
        labels=np.stack([label.numpy() for _, label in cuts]).astype(np.uint8),
        names=tuple(f"{volume.name} slice {place}" if named else volume.name for place in places),
        spacing=network_spacing(volume, config),
    )


class _Cut(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor
    name: str


def _has_foreground(volume: Volume) -> bool:
    if volume.label is None:
        raise DataError(
            f"case {volume.name} has no label, so it cannot be a probe image; remove it from the validation cases"
        )
    return bool(volume.label.any())


def _probe_image(volume: Volume, config: Config) -> _Cut:
    images, labels = network_input(volume, config)
    if labels is None:
        raise DataError(
            f"case {volume.name} has no label, so it cannot be a probe image; remove it from the validation cases"
        )
    index = int((labels > 0).flatten(1).sum(dim=1).argmax())
    name = volume.name if config.network.dim == 3 else f"{volume.name} slice {index}"
    return _Cut(*_cut(images[index], labels[index], config), name)


def _cut(image: torch.Tensor, label: torch.Tensor, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (C, *spatial) and label (*spatial) as large as the patch, around what is labelled or else the middle."""
    slices = _around_foreground(label, config.data.patch)
    return fit(image[(slice(None), *slices)], config.data.patch), fit(label[slices], config.data.patch)


def _around_foreground(label: torch.Tensor, patch: Sequence[int]) -> tuple[slice, ...]:
    places = label.nonzero()
    centre = [side / 2 for side in label.shape]
    if len(places):
        centre = ((places.amin(dim=0) + places.amax(dim=0) + 1) / 2).tolist()
    starts = [
        min(max(round(middle - wanted / 2), 0), max(side - wanted, 0))
        for middle, wanted, side in zip(centre, patch, label.shape, strict=True)
    ]
    return tuple(slice(start, start + wanted) for start, wanted in zip(starts, patch, strict=True))

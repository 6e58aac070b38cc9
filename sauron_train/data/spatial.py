"""Random scaling, rotation and elastic deformation, each as one sampling of the image with torch.

They mean what TorchIO's RandomAffine and RandomElasticDeformation mean, whose parameters they share; sampling a slice
or a patch directly takes a fraction of their time, and that is what a training step on a CPU can afford.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torchio as tio
from torch.nn import functional as F

from sauron_train.config_data import AugmentConfig

_ELASTIC_LOCKED = 2


class InPlaneAffine(tio.SpatialTransform):  # type: ignore[misc]
    """Scale, then rotate within the plane of the first two axes, each with its own probability.

    Both are done by one interpolation (linear for images, nearest neighbour for labels). Each axis of the plane draws
    its own scale, as in TorchIO. What comes from outside the image is the channel's minimum, in labels 0. `margin`
    voxels are cut off on each side afterwards, so that a patch that was taken with this margin has no such border.

    Source: paper, Appendix C.2.
    """

    def __init__(self, config: AugmentConfig, margin: tuple[int, int, int] = (0, 0, 0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.margin = margin

    def apply_transform(self, subject: Any) -> Any:
        """Draw the two scales and the angle, and sample every image of the subject."""
        scales, degrees = self.draw()
        for image in self.get_images(subject):
            data = _cut(image.data, self.margin)
            if scales != (1.0, 1.0) or degrees != 0.0:
                shape = (int(data.shape[1]), int(data.shape[2]))
                data = affine_in_plane(image.data, image.spacing, scales, degrees, shape, _is_label(image))
                data = _cut(data, (0, 0, self.margin[2]))
            image.set_data(data)
        return subject

    def draw(self) -> tuple[tuple[float, float], float]:
        """Scales of the two axes and the angle in degrees; what does not happen is 1 and 0."""
        fires = torch.rand(2)
        draws = torch.rand(3)
        scales, degrees = (1.0, 1.0), 0.0
        if fires[0] < self.config.scale_p:
            scales = (_between(self.config.scale, draws[0]), _between(self.config.scale, draws[1]))
        if fires[1] < self.config.rotation_p:
            degrees = _between(self.config.rotation, draws[2])
        return scales, degrees


class Elastic(tio.SpatialTransform):  # type: ignore[misc]
    """Displace the image along cubic B-splines through a coarse grid of random vectors.

    The two outermost control points on every side stay in place. At most a sixth of the displacement reaches the
    border, and there the border voxel is repeated. An axis with one voxel is a slice's and is not displaced.

    Source: paper, Appendix C.2; parameters as in TorchIO's RandomElasticDeformation.
    """

    def __init__(self, control_points: int, displacement: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.control_points = control_points
        self.displacement = displacement

    def apply_transform(self, subject: Any) -> Any:
        """Draw one field in mm and sample every image of the subject with it."""
        field = self.draw()
        for image in self.get_images(subject):
            image.set_data(elastic(image.data, image.spacing, field, _is_label(image)))
        return subject

    def draw(self) -> torch.Tensor:
        """Displacements (3, K, K, K) of the control points in mm, zero at the locked ones."""
        k, locked = self.control_points, _ELASTIC_LOCKED
        field = torch.zeros(3, k, k, k)
        free = slice(locked, k - locked)
        side = k - 2 * locked
        field[:, free, free, free] = (torch.rand(3, side, side, side) * 2 - 1) * self.displacement
        return field


def affine_in_plane(
    data: torch.Tensor,
    spacing: tuple[float, ...],
    scales: tuple[float, float],
    degrees: float,
    shape: tuple[int, int],
    label: bool,
) -> torch.Tensor:
    """Scale and rotate (C, X, Y, Z) about the centre; the result is the central `shape` of the plane, all of Z.

    Angles are right in mm also where the voxels of the plane are not square.
    """
    channels, x, y, z = data.shape
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    # Out of a voxel of the result into the image: rotate back, then scale back.
    inverse = ((cos / scales[0], sin / scales[0]), (-sin / scales[1], cos / scales[1]))
    extent_in = (x * spacing[0], y * spacing[1])
    extent_out = (shape[0] * spacing[0], shape[1] * spacing[1])
    # grid_sample counts axes from the last one.
    rows = [[inverse[a][b] * extent_out[b] / extent_in[a] for b in (1, 0)] + [0.0] for a in (1, 0)]
    # Some releases of TorchIO give spacings as numbers of numpy, which would make it double.
    theta = torch.tensor([rows], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 1, *shape], align_corners=False)
    plane = data.permute(0, 3, 1, 2).reshape(1, channels * z, x, y)
    sampled = _sample(plane, grid, label).reshape(channels, z, *shape)
    outside = (grid[0].abs() > 1).any(dim=-1)
    if bool(outside.any()):
        fill = 0.0 if label else data.amin(dim=(1, 2, 3))[:, None, None, None].float()
        sampled = torch.where(outside, fill, sampled)
    return sampled.to(data.dtype).permute(0, 2, 3, 1).contiguous()


def elastic(data: torch.Tensor, spacing: tuple[float, ...], field: torch.Tensor, label: bool) -> torch.Tensor:
    """Sample (C, X, Y, Z) where the spline through `field` (3, K, K, K), in mm, points to from every voxel."""
    x, y, z = (int(side) for side in data.shape[1:])
    weights = [spline_weights(side, field.shape[1]) for side in (x, y, z)]
    # One axis after the other: the field has three times the voxels of the image only in the last product.
    dense = torch.einsum("dabc,zc->dzab", field, weights[2])
    dense = torch.einsum("dzab,yb->dzay", dense, weights[1])
    dense = torch.einsum("dzay,xa->dxyz", dense, weights[0])
    if z == 1:
        grid = _grid((x, y)) + _as_grid(dense[:2, ..., 0], (x, y), spacing)
        return _sample(data[..., 0][None], grid, label)[0, ..., None].to(data.dtype)
    grid = _grid((x, y, z)) + _as_grid(dense, (x, y, z), spacing)
    return _sample(data[None], grid, label)[0].to(data.dtype)


def spline_weights(side: int, control_points: int) -> torch.Tensor:
    """Weights (side, K) of K control points of a cubic B-spline at the centres of `side` voxels.

    The spline's K - 3 spans cover the axis from the outer face of its first voxel to that of its last.
    """
    spans = control_points - 3
    position = (torch.arange(side) + 0.5) / side * spans
    span = position.floor().clamp(max=spans - 1)
    t = position - span
    basis = torch.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=1
    ) / 6  # fmt: skip
    weights = torch.zeros(side, control_points)
    return weights.scatter_(1, span.long()[:, None] + torch.arange(4), basis)


def affine_reach(config: AugmentConfig, patch: tuple[int, int]) -> tuple[int, int]:
    """Voxels beyond each side of a patch (X, Y) that scaling and rotation may reach, for square voxels."""
    shrink = min(config.scale[0], 1.0) if config.scale_p > 0 else 1.0
    low, high = config.rotation if config.rotation_p > 0 else (0.0, 0.0)
    angles = torch.deg2rad(torch.linspace(low, high, 721, dtype=torch.float64))
    cos, sin = angles.cos().abs(), angles.sin().abs()
    x, y = patch
    reach_x = float((cos * x + sin * y).max()) / shrink
    reach_y = float((sin * x + cos * y).max()) / shrink
    return max(0, math.ceil((reach_x - x) / 2)), max(0, math.ceil((reach_y - y) / 2))


def _sample(data: torch.Tensor, grid: torch.Tensor, label: bool) -> torch.Tensor:
    mode = "nearest" if label else "bilinear"
    return F.grid_sample(data.float(), grid, mode=mode, padding_mode="border", align_corners=False)


def _grid(shape: tuple[int, ...]) -> torch.Tensor:
    identity = torch.eye(len(shape), len(shape) + 1)[None]
    return F.affine_grid(identity, [1, 1, *shape], align_corners=False)


def _as_grid(dense: torch.Tensor, shape: tuple[int, ...], spacing: tuple[float, ...]) -> torch.Tensor:
    scale = torch.tensor([2 / (side * mm) for side, mm in zip(shape, spacing, strict=False)], dtype=torch.float32)
    return (dense.movedim(0, -1) * scale).flip(-1)[None]


def _cut(data: torch.Tensor, margin: tuple[int, int, int]) -> torch.Tensor:
    slices: Iterator[slice] = (
        slice(m, side - m) for m, side in zip(margin, data.shape[1:], strict=True)
    )  # fmt: skip
    return data[(slice(None), *slices)]


def _between(bounds: tuple[float, float], draw: torch.Tensor) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(draw)


def _is_label(image: Any) -> bool:
    return isinstance(image, tio.LabelMap)

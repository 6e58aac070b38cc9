"""δ_opt and δ_prune: how far the maps of a layer are from a reference map (paper, Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Normalization = Literal["maps", "none", "distances"]


class _PoolWithRange(torch.autograd.Function):
    """Average pooling together with each map's minimum and maximum.

    Pooling commutes with min-max scaling, so the scaling can be done afterwards on a fraction of the voxels; only the
    places of the extrema are kept for backward, not the maps.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, windows: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        flat = maps.flatten(2)
        low, low_at = flat.min(dim=-1)
        high, high_at = flat.max(dim=-1)
        ctx.save_for_backward(low_at, high_at)
        ctx.shape, ctx.windows = maps.shape, windows
        return _average(maps, windows), low, high

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        pooled, low, high = gradients
        low_at, high_at = ctx.saved_tensors
        result = _spread(pooled, ctx.windows, ctx.shape)
        flat = result.flatten(2)
        flat.scatter_add_(-1, low_at.unsqueeze(-1), low.unsqueeze(-1))
        flat.scatter_add_(-1, high_at.unsqueeze(-1), high.unsqueeze(-1))
        return flat.view(ctx.shape), None


def pool(maps: Tensor, window: int) -> Tensor:
    """Average pooling with stride = window over all spatial axes; what does not fill a window is left out.

    The window is clamped on an axis that is shorter (design choice).

    Args:
        maps: (B, C, *spatial).
        window: ω in voxels.
    """
    return _average(maps, _windows(maps, window))


def delta_opt(maps: Tensor, normalization: Normalization = "maps", window: int = 2, reference: int = 0) -> Tensor:
    """RMS distance of every map to the reference map, channel 0 unless told (authors' code), per sample.

    Differentiable; the gradient is finite everywhere, also where two maps are equal or a map is constant (design
    choice). A constant map scales to zeros.

    Args:
        maps: (B, C, *spatial).
        normalization: how it is normalised (paper, Appendix A). `maps`: each map scaled to [0, 1] over all its spatial
            axes at full resolution; `none`: not at all; `distances`: a sample's distances divided by their maximum.
        window: ω, side of the pooling before distances are taken.
        reference: position of the reference map.

    Returns:
        (B, C - 1) to the other maps in their order, in the type of the maps but at least float32.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    if normalization == "maps":
        pooled, low, high = _PoolWithRange.apply(maps, _windows(maps, window))  # type: ignore[no-untyped-call]
        extent = (high - low)[(...,) + (None,) * (maps.ndim - 2)]
        flat = extent == 0
        scaled = (pooled - low.view_as(extent)) / extent.masked_fill(flat, 1)
        pooled = scaled.masked_fill(flat, 0)
    else:
        pooled = pool(maps, window)
    others = pooled[:, 1:] if reference == 0 else torch.cat([pooled[:, :reference], pooled[:, reference + 1 :]], dim=1)
    distances = _rms(others - pooled[:, reference : reference + 1])
    return _by_maximum(distances) if normalization == "distances" else distances


def mean_delta_opt(
    layers: Sequence[Tensor],
    normalization: Normalization = "maps",
    window: int = 2,
    references: Sequence[int] | None = None,
) -> Tensor:
    """Mean over the layers of a network of δ_opt(l), the mean over samples and maps; one-filter layers count as 0.

    Args:
        layers: maps (B, C, *spatial) of each prunable layer; heads are no part of it (design choice).
        normalization: see `delta_opt`.
        window: see `delta_opt`.
        references: position of the reference map of each layer; channel 0 of all if left out.
    """
    values = [
        delta_opt(maps, normalization, window, reference).mean() if maps.shape[1] > 1 else maps.new_zeros(())
        for maps, reference in zip(layers, references or [0] * len(layers), strict=True)
    ]
    return torch.stack(values).mean()


def delta_prune(maps: Tensor, references: Sequence[int], window: int = 2) -> Tensor:
    """What thresholds are compared with: RMS distance of all maps to π, relative to the farthest (authors' code).

    Args:
        maps: (B, C, *spatial), not scaled.
        references: positions of the maps that are π, each by itself.
        window: ω.

    Returns:
        (references, C) in [0, 1]: each sample's distances divided by their maximum, then averaged over the batch; 0 at
        π.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    pooled = precise(pool(maps, window)).flatten(2)
    pooled = pooled - pooled.mean(dim=1, keepdim=True)  # nearer to each other than to 0: less is lost in the products
    products = pooled @ pooled.transpose(1, 2) / pooled.shape[2]
    squares = products.diagonal(dim1=1, dim2=2)
    rows = torch.as_tensor(references, device=maps.device)
    distances = (squares[:, rows, None] + squares[:, None, :] - 2 * products[:, rows]).clamp_min(0).sqrt()
    distances[:, torch.arange(len(rows)), rows] = 0
    largest = distances.amax(dim=2, keepdim=True)
    return (distances / largest.masked_fill(largest == 0, 1)).mean(dim=0)


def precise(tensor: Tensor) -> Tensor:
    """In float64 where the device knows it."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _by_maximum(distances: Tensor) -> Tensor:
    largest = distances.amax(dim=1, keepdim=True) if distances.shape[1] else distances
    return distances / largest.masked_fill(largest == 0, 1)


def _rms(difference: Tensor) -> Tensor:
    mean_square = difference.flatten(2).square().mean(dim=-1)
    # The derivative of the root is infinite at 0, where the loss drives to: there the gradient is set to zero.
    zero = mean_square == 0
    return mean_square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _windows(maps: Tensor, window: int) -> tuple[int, ...]:
    return tuple(min(window, side) for side in maps.shape[2:])


def _average(maps: Tensor, windows: tuple[int, ...]) -> Tensor:
    # Adding strided slices axis by axis is several times faster on a CPU than the pooling kernels.
    for axis, window in enumerate(windows, start=2):
        if window == 1:
            continue
        length = maps.shape[axis] // window * window
        parts = [_strided(maps, axis, start, length, window) for start in range(window)]
        total = parts[0] + parts[1]
        for part in parts[2:]:
            total += part
        maps = total / window
    return maps


def _strided(maps: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    return maps[(slice(None),) * axis + (slice(start, stop, step),)]


def _spread(gradient: Tensor, windows: tuple[int, ...], shape: torch.Size) -> Tensor:
    cells = 1
    for axis, window in enumerate(windows, start=2):
        cells *= window
        gradient = gradient.repeat_interleave(window, dim=axis) if window > 1 else gradient
    if gradient.shape == shape:
        return (gradient / cells).contiguous()
    result = gradient.new_zeros(shape)
    result[tuple(slice(side) for side in gradient.shape)] = gradient / cells
    return result

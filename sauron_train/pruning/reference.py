"""How far the maps of a layer are from one of them, with a backward pass that keeps next to nothing in memory."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sauron_train.pruning.pooling import pool, spread


def distances_to_reference(maps: Tensor, reference: int, window: int, scale: bool) -> Tensor:
    """RMS distance of every pooled map to the reference map, per sample.

    Differentiable once; the gradient is finite everywhere, also where two maps are equal or a map is constant (design
    choice).

    Args:
        maps: (B, C, *spatial).
        reference: position of the reference map.
        window: ω, side of the pooling.
        scale: whether each map is first scaled to [0, 1] over all its spatial axes; a constant map scales to zeros.

    Returns:
        (B, C) in the type of the maps but at least float32; 0 at the reference.
    """
    # What an activation gives is kept for backward anyway, by it or its reader; what a bare convolution gives is not.
    bare = "Convolution" in type(maps.grad_fn).__name__
    distances: Tensor = _Distances.apply(maps, reference, window, scale, bare)  # type: ignore[no-untyped-call]
    return distances


class _Range(NamedTuple):
    """Of each map: its minimum, 1 / (maximum - minimum) or 0 where it is constant, and where these two are."""

    low: Tensor
    inverse: Tensor
    low_at: Tensor
    high_at: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> Self:
        rows = maps.reshape(*maps.shape[:2], -1, maps.shape[-1])
        low, low_at = _end(rows, rows.amin(dim=3), largest=False)
        high, high_at = _end(rows, rows.amax(dim=3), largest=True)
        low = _at_least_single(low)
        extent = _at_least_single(high) - low
        flat = extent == 0
        return cls(low, (1 / extent.masked_fill(flat, 1)).masked_fill(flat, 0), low_at, high_at)


class _Distances(torch.autograd.Function):
    """Pooling commutes with min-max scaling, so the scaling is done afterwards, on a fraction of the voxels."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, reference: int, window: int, scale: bool, bare: bool) -> Tensor:
        spans = _Range.of(maps) if scale else None
        pooled = pool(_at_least_single(maps), window)
        ctx.sides, ctx.shape, ctx.dtype = pooled.shape, maps.shape, maps.dtype
        ctx.reference, ctx.window, ctx.bare = reference, window, bare
        flat = _scaled(pooled, spans)
        distances: Tensor = (flat - flat[:, reference, None]).norm(dim=2) / flat.shape[2] ** 0.5
        ctx.save_for_backward(flat if bare else maps, distances, *(spans or ()))
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        kept, distances, *found = ctx.saved_tensors
        spans = _Range(*found) if found else None
        flat = kept if ctx.bare else _scaled(pool(_at_least_single(kept), ctx.window), spans)
        # The derivative of the root is infinite at 0, where the loss drives to: there the gradient is set to zero.
        equal = distances == 0
        weights = (gradient / (distances.masked_fill(equal, 1) * flat.shape[2])).masked_fill(equal, 0)
        moves = (flat - flat[:, ctx.reference, None]).mul_(weights.unsqueeze(2))
        moves[:, ctx.reference] = -moves.sum(dim=1)
        ends = _moved_ends(moves, flat, spans) if spans else None
        if spans:
            moves *= spans.inverse.unsqueeze(2)
        result = spread(moves.view(ctx.sides).to(ctx.dtype), ctx.window, ctx.shape)
        if spans and ends:
            voxels = result.view(*ctx.shape[:2], -1)
            for at, change in zip((spans.low_at, spans.high_at), ends, strict=True):
                voxels.scatter_add_(2, at.unsqueeze(2), change.unsqueeze(2).to(ctx.dtype))
        return result, None, None, None, None


def _scaled(pooled: Tensor, spans: _Range | None) -> Tensor:
    flat = pooled.flatten(2)
    return flat if spans is None else (flat - spans.low.unsqueeze(2)).mul_(spans.inverse.unsqueeze(2))


def _moved_ends(moves: Tensor, scaled: Tensor, spans: _Range) -> tuple[Tensor, Tensor]:
    """Gradients at the minimum and the maximum of each map, from those at its scaled voxels."""
    along = torch.linalg.vecdot(moves, scaled)
    return (along - moves.sum(dim=2)) * spans.inverse, -along * spans.inverse


def _end(rows: Tensor, of_rows: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """A map's largest or smallest value and where it is, by its rows (B, C, n, side) and the same of each row.

    PyTorch finds values several times faster than places, so places are looked for in one row of each map.
    """
    values, row = of_rows.max(dim=2) if largest else of_rows.min(dim=2)
    line = rows.take_along_dim(row[..., None, None], dim=2).squeeze(2)
    return values, row * rows.shape[3] + (line.argmax(dim=2) if largest else line.argmin(dim=2))


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()

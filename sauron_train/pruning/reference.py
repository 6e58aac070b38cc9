"""How far the maps of a layer are from one of them, with a backward pass that keeps next to nothing in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sauron_train.pruning.common import Chosen, Images, among_images, inverse, of_images
from sauron_train.pruning.compiled import compiled_distances, fits
from sauron_train.pruning.pooling import pooled_sides, spread, window_sums, windows


def distances_to_reference(
    maps: Tensor,
    reference: int,
    window: int,
    scale: bool,
    images: Images | None = None,
    with_loss: bool = False,
) -> Tensor:
    """RMS distance of every pooled map to the reference map, per sample.

    Differentiable once; the gradient is finite everywhere, also where two maps are equal or a map is constant (design
    choice).

    Args:
        maps: (B, C, *spatial).
        reference: position of the reference map.
        window: ω, side of the pooling.
        scale: whether each map is first scaled to [0, 1] over all its spatial axes; a constant map scales to zeros.
        images: which of the batch are looked at; all if left out.
        with_loss: whether the maps are sure to get a gradient from elsewhere in the same backward pass, a dense one as
            a network's loss gives. Then that of some images may be sparse, and is added to theirs alone.

    Returns:
        (images, C) in the type of the maps but at least float32; 0 at the reference.

    Raises:
        IndexError: there is no such reference map or image.
        ValueError: an image is named twice.
    """
    reference = range(maps.shape[1])[reference]
    # What an activation gives is kept for backward anyway, by it or its reader; what a bare convolution gives is not.
    bare = "Convolution" in type(maps.grad_fn).__name__
    chosen = images if images is None or isinstance(images, Tensor) else _positions(images, len(maps))
    if fits(maps):
        sparse = with_loss and chosen is not None
        distances = compiled_distances(maps, reference, window, scale, bare, chosen, sparse)
        # A sparse gradient is added in place if it is there first.
        return distances if sparse else _in_its_turn(distances, maps)
    distances = _Distances.apply(maps, reference, window, scale, bare, chosen)  # type: ignore[no-untyped-call]
    return _in_its_turn(distances, maps)


def _in_its_turn(distances: Tensor, maps: Tensor) -> Tensor:
    """The distances, whose gradient will be calculated when that of the network has come to the maps.

    Autograd goes back in the order in which things were done, so all layers' gradients of δ_opt would be made first,
    and lie in memory, as much as the maps themselves, until the network's come to them.
    """
    node, before = distances.grad_fn, maps.grad_fn
    if node is not None and before is not None and hasattr(node, "_set_sequence_nr"):
        node._set_sequence_nr(before._sequence_nr())
    return distances


def _positions(images: Sequence[int], batch: int) -> tuple[int, ...]:
    positions = tuple(range(batch)[image] for image in images)
    if len(set(positions)) < len(positions):
        raise ValueError(f"images of a batch can be looked at once each, not {list(images)}")
    return positions


class _Range(NamedTuple):
    """By what sums of windows of each map (B, C) are taken times, and what is added, so that it lies in [0, 1].

    A constant map becomes zeros. `low_at` and `high_at` are where its minimum and maximum are.
    """

    factor: Tensor
    offset: Tensor
    low_at: Tensor
    high_at: Tensor

    @classmethod
    def of(cls, maps: Tensor, window: int) -> Self:
        if maps.is_cuda:  # finds values and places in one pass, where launching a pass is what takes long
            (low, low_at), (high, high_at) = maps.flatten(2).min(dim=2), maps.flatten(2).max(dim=2)
        else:
            rows = maps.reshape(*maps.shape[:2], -1, maps.shape[-1])
            low, low_at = _end(rows, rows.amin(dim=3), largest=False)
            high, high_at = _end(rows, rows.amax(dim=3), largest=True)
        low = low.to(_kind(maps))
        per_extent = inverse(high.to(_kind(maps)) - low)
        return cls(per_extent / _cells(maps.shape, window), -low * per_extent, low_at, high_at)


class _Distances(torch.autograd.Function):
    """By PyTorch's operations, for what there is no compiled kernel for: GPUs, other types, other layouts in memory.

    Pooling commutes with min-max scaling, so the scaling is done afterwards, on a fraction of the voxels.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        reference: int,
        window: int,
        scale: bool,
        bare: bool,
        images: Chosen,
    ) -> Tensor:
        seen = of_images(maps, images)
        ranges = _Range.of(seen, window) if scale else None
        scaled = _scaled(seen, window, ranges)
        distances: Tensor = (scaled - scaled[:, reference, None]).norm(dim=2) / scaled.shape[2] ** 0.5
        ctx.save_for_backward(scaled if bare else maps, distances, *(ranges or ()))
        ctx.reference, ctx.window, ctx.bare, ctx.images = reference, window, bare, images
        ctx.shape, ctx.dtype = maps.shape, maps.dtype
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, distances, *found = ctx.saved_tensors
        ranges = _Range(*found) if found else None
        scaled = kept if ctx.bare else _scaled(of_images(kept, ctx.images), ctx.window, ranges)
        # The derivative of the root is infinite at 0, where the loss drives to: there the gradient is set to zero.
        weights = gradient * inverse(distances * scaled.shape[2])
        at, differences = ctx.reference, scaled - scaled[:, ctx.reference, None]
        # What pulls the reference is the sum of what pulls the others, the other way.
        differences.select(1, at).sub_((weights.unsqueeze(1) @ differences).squeeze(1))
        weights.select(1, at).fill_(1)
        shape = torch.Size((*scaled.shape[:2], *ctx.shape[2:]))
        result = _unpooled(differences, scaled, weights, ranges, ctx.window, shape, ctx.dtype)
        return among_images(result, ctx.images, ctx.shape), None, None, None, None, None


def _scaled(maps: Tensor, window: int, ranges: _Range | None) -> Tensor:
    """(B, C, n): maps pooled, and scaled if there are ranges to scale by."""
    sums = window_sums(maps.to(_kind(maps)), window).flatten(2)
    if ranges is None:
        cells = _cells(maps.shape, window)
        return sums / cells if cells > 1 else sums
    # In one pass over the voxels: the mean of a window less the minimum, over the extent.
    return torch.addcmul(ranges.offset.unsqueeze(2), sums, ranges.factor.unsqueeze(2))


def _unpooled(
    moves: Tensor,
    scaled: Tensor,
    weights: Tensor,
    ranges: _Range | None,
    window: int,
    shape: torch.Size,
    dtype: torch.dtype,
) -> Tensor:
    """Gradient at maps of some shape, from that at what `_scaled` made of them: moves, each map's times its weight."""
    cells = _cells(shape, window)
    factors = weights / cells if ranges is None else weights * ranges.factor
    ends = () if ranges is None else _ends(moves, scaled, factors * cells)
    small = (moves * factors.unsqueeze(2)).view(*shape[:2], *pooled_sides(shape, window))
    result = spread(small.to(dtype), window, shape)
    if ranges is not None:
        voxels = result.view(*shape[:2], -1)
        for at, change in zip((ranges.low_at, ranges.high_at), ends, strict=True):
            voxels.scatter_add_(2, at.unsqueeze(2), change.unsqueeze(2).to(dtype))
    return result


def _ends(moves: Tensor, scaled: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients at the minimum and the maximum of each map."""
    along = torch.linalg.vecdot(moves, scaled)
    return (along - moves.sum(dim=2)) * factors, -along * factors


def _cells(shape: torch.Size, window: int) -> int:
    return math.prod(windows(shape, window))


def _end(rows: Tensor, of_rows: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """A map's largest or smallest value and where it is, by its rows (B, C, n, side) and the same of each row.

    PyTorch finds values several times faster than places, so places are looked for in one row of each map.
    """
    values, row = of_rows.max(dim=2) if largest else of_rows.min(dim=2)
    line = rows.take_along_dim(row[..., None, None], dim=2).squeeze(2)
    return values, row * rows.shape[3] + (line.argmax(dim=2) if largest else line.argmin(dim=2))


def _kind(maps: Tensor) -> torch.dtype:
    """What is calculated in: float32 at least."""
    return torch.float64 if maps.dtype == torch.float64 else torch.float32

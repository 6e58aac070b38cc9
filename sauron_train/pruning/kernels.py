"""δ_opt on a CPU, map by map: each map is read from memory once, where PyTorch's operations read it several times.

Compiled by Numba at the first use and kept on disk from then on. Maps are (B, C, D, H, W), contiguous, float32; in 2D
D is 1. A range of maps is counted over images and channels, so that threads can share them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit, prange

from sauron_train.pruning.pooling import windows

# Sums may be taken in any order, and products added without rounding in between; what is no number stays none.
_SUMS = {"reassoc", "contract", "nsz"}
# Of so many values sums are taken in float32, and of those in float64; and so many are searched for a place.
_BLOCK = 4096


class How(NamedTuple):
    """What the kernels are told of the maps; sides are those on the three spatial axes."""

    reference: int
    """Position of the reference map."""
    scale: bool
    """Whether maps are scaled to [0, 1] first."""
    sides: tuple[int, ...]
    """Of a window."""
    inside: tuple[int, ...]
    """Of a pooled map."""
    size: int
    """Voxels of a pooled map."""

    @classmethod
    def of(cls, shape: Sequence[int], reference: int, window: int, scale: bool) -> Self:
        """For maps of a shape (B, C, D, H, W)."""
        sides = windows(shape, window)
        inside = tuple(whole // own for whole, own in zip(shape[2:], sides, strict=True))
        return cls(reference, scale, sides, inside, math.prod(inside))


@njit(nogil=True, cache=True)
def forward(maps: Any, how: Any, span: tuple[int, int], distances: Any, ranges: Any, places: Any, kept: Any) -> None:
    """Distances of a range of maps to the reference map of their image.

    Args:
        maps: see above.
        how: see `How`.
        span: first map of the range, and the one after the last.
        distances: filled; (B, C).
        ranges: filled; by what sums of windows are taken times, and what is added, (B, C, 2).
        places: filled if maps are scaled; where a map's minimum and maximum are, (B, C, 2).
        kept: filled with the pooled maps, (B, C, n), or of no maps where they are not wanted.
    """
    channels = maps.shape[1]
    reference, own = np.empty(how.size, np.float32), np.empty(how.size, np.float32)
    ends = np.empty(2, np.int64)
    image = -1
    for i in range(span[0], span[1]):
        b, c = i // channels, i % channels
        if b != image:
            image = b
            factor, offset = _range(maps[b, how.reference], how, ends)
            _pool(maps[b, how.reference], how, factor, offset, reference)
        factor, offset = _range(maps[b, c], how, ends)
        _pool(maps[b, c], how, factor, offset, own)
        distances[b, c] = np.sqrt(_square(own, reference) / how.size)
        ranges[b, c, 0], ranges[b, c, 1] = factor, offset
        places[b, c, 0], places[b, c, 1] = ends[0], ends[1]
        if len(kept):
            for j in range(how.size):
                kept[b, c, j] = own[j]


@njit(nogil=True, cache=True)
def backward(source: Any, how: Any, span: tuple[int, int], weights: Any, found: Any, pulls: Any, result: Any) -> None:
    """Gradient at a range of maps, the reference maps left out.

    Args:
        source: the maps, and what `forward` kept; the maps are not looked at where it kept something.
        how: see `How`.
        span: as in `forward`.
        weights: by what the difference of a map to the reference is taken times, (B, C).
        found: ranges and places of `forward`.
        pulls: what these maps pull their reference with is added, (B, n).
        result: filled for these maps; shaped as they are.
    """
    channels = result.shape[1]
    reference, own = np.empty(how.size, np.float32), np.empty(how.size, np.float32)
    move = np.empty(how.size, np.float32)
    image = -1
    for i in range(span[0], span[1]):
        b, c = i // channels, i % channels
        if c == how.reference:
            continue
        if b != image:
            image = b
            _again(source, how, found[0], b, how.reference, reference)
        _again(source, how, found[0], b, c, own)
        _pull(own, reference, weights[b, c], move, pulls[b])
        _spread(move, own, how, found[0][b, c, 0], found[1][b, c], result[b, c])


@njit(nogil=True, cache=True)
def backward_of_references(source: Any, how: Any, found: Any, pulls: Any, result: Any) -> None:
    """Gradient at the reference maps, when `pulls` holds what all other maps pull them with; see `backward`."""
    own = np.empty(how.size, np.float32)
    c = how.reference
    for b in range(result.shape[0]):
        _again(source, how, found[0], b, c, own)
        _spread(pulls[b], own, how, found[0][b, c, 0], found[1][b, c], result[b, c])


@njit(nogil=True, cache=True, parallel=True)
def forward_on_threads(maps: Any, how: Any, parts: int, distances: Any, ranges: Any, places: Any, kept: Any) -> None:
    """`forward` of all maps in some parts, a thread each."""
    count = maps.shape[0] * maps.shape[1]
    at, scale, sides, inside, size = how  # what goes to a thread must be plain
    (a, b, c), (d, e, f) = sides, inside
    for part in prange(parts):
        span = (count * part // parts, count * (part + 1) // parts)
        forward(maps, How(at, scale, (a, b, c), (d, e, f), size), span, distances, ranges, places, kept)


@njit(nogil=True, cache=True, parallel=True)
def backward_on_threads(source: Any, how: Any, parts: int, weights: Any, found: Any, pulls: Any, result: Any) -> None:
    """`backward` of all maps in some parts, a thread and pulls (parts, B, n) of its own for each."""
    count = result.shape[0] * result.shape[1]
    at, scale, sides, inside, size = how
    (a, b, c), (d, e, f) = sides, inside
    (maps, kept), (ranges, places) = source, found
    for part in prange(parts):
        span = (count * part // parts, count * (part + 1) // parts)
        own = How(at, scale, (a, b, c), (d, e, f), size)
        backward((maps, kept), own, span, weights, (ranges, places), pulls[part], result)


@njit(nogil=True, cache=True)
def _again(source: Any, how: Any, ranges: Any, b: int, c: int, pooled: Any) -> None:
    maps, kept = source
    if len(kept):
        for j in range(how.size):
            pooled[j] = kept[b, c, j]
    else:
        _pool(maps[b, c], how, ranges[b, c, 0], ranges[b, c, 1], pooled)


@njit(nogil=True, cache=True)
def _range(one: Any, how: Any, ends: Any) -> tuple[Any, Any]:
    """Factor and offset of a map, and where its minimum and maximum are, into `ends`."""
    cells = np.float32(how.sides[0] * how.sides[1] * how.sides[2])
    if not how.scale:
        return np.float32(1) / cells, np.float32(0)
    voxels = one.reshape(-1)
    _places(voxels.view(np.int32), ends)
    low, extent = voxels[ends[0]], voxels[ends[1]] - voxels[ends[0]]
    inverse = np.float32(1) / extent if extent != 0 else np.float32(0)
    if extent == 0 or np.isinf(inverse):  # as good as constant
        return np.float32(0), np.float32(0)
    return inverse / cells, -low * inverse


@njit(nogil=True, cache=True)
def _places(bits: Any, ends: Any) -> None:
    low_block = high_block = 0
    low, high = _smallest_and_largest(bits[:_BLOCK])
    for start in range(_BLOCK, bits.size, _BLOCK):
        low_here, high_here = _smallest_and_largest(bits[start : start + _BLOCK])
        if low_here < low:
            low, low_block = low_here, start
        if high_here > high:
            high, high_block = high_here, start
    ends[0], ends[1] = _place(bits, low_block, low), _place(bits, high_block, high)


@njit(nogil=True, cache=True)
def _smallest_and_largest(bits: Any) -> tuple[Any, Any]:
    """By keys: whole numbers in the order of the floats whose bits they are made of, as those compare far faster."""
    low = high = _key(bits[0])
    for j in range(bits.size):
        key = _key(bits[j])
        low = min(low, key)
        high = max(high, key)
    return low, high


@njit(nogil=True, cache=True, inline="always")
def _key(bits: Any) -> Any:
    return np.int32(bits ^ (np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@njit(nogil=True, cache=True)
def _place(bits: Any, start: int, key: Any) -> int:
    for j in range(start, bits.size):
        if _key(bits[j]) == key:
            return j
    return start


@njit(nogil=True, cache=True)
def _pool(one: Any, how: Any, factor: Any, offset: Any, pooled: Any) -> None:
    """Sums of windows, times a factor, plus an offset."""
    shaped = pooled.reshape(how.inside)
    # ω = 2 by itself: only what is known when it is compiled is done in blocks.
    if how.sides == (1, 2, 2):
        _pool_by_two(one[0], factor, offset, shaped[0])
    elif how.sides == (2, 2, 2):
        _pool_by_two_in_3d(one, factor, offset, shaped)
    else:
        _pool_by_any(one, how.sides, factor, offset, shaped)


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _pool_by_two(one: Any, factor: Any, offset: Any, pooled: Any) -> None:
    for y in range(pooled.shape[0]):
        for x in range(pooled.shape[1]):
            total = one[2 * y, 2 * x] + one[2 * y, 2 * x + 1] + one[2 * y + 1, 2 * x] + one[2 * y + 1, 2 * x + 1]
            pooled[y, x] = total * factor + offset


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _pool_by_two_in_3d(one: Any, factor: Any, offset: Any, pooled: Any) -> None:
    for z in range(pooled.shape[0]):
        for y in range(pooled.shape[1]):
            for x in range(pooled.shape[2]):
                k, j, i = 2 * z, 2 * y, 2 * x
                near = one[k, j, i] + one[k, j, i + 1] + one[k, j + 1, i] + one[k, j + 1, i + 1]
                far = one[k + 1, j, i] + one[k + 1, j, i + 1] + one[k + 1, j + 1, i] + one[k + 1, j + 1, i + 1]
                pooled[z, y, x] = (near + far) * factor + offset


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _pool_by_any(one: Any, sides: Any, factor: Any, offset: Any, pooled: Any) -> None:
    for z in range(pooled.shape[0]):
        for y in range(pooled.shape[1]):
            for x in range(pooled.shape[2]):
                total = np.float32(0)
                for k in range(sides[0]):
                    for j in range(sides[1]):
                        for i in range(sides[2]):
                            total += one[z * sides[0] + k, y * sides[1] + j, x * sides[2] + i]
                pooled[z, y, x] = total * factor + offset


@njit(nogil=True, cache=True)
def _square(own: Any, reference: Any) -> float:
    total = 0.0
    for start in range(0, own.size, _BLOCK):
        total += _square_of_block(own[start : start + _BLOCK], reference[start : start + _BLOCK])
    return total


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _square_of_block(own: Any, reference: Any) -> Any:
    total = np.float32(0)
    for j in range(own.size):
        difference = own[j] - reference[j]
        total += difference * difference
    return total


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _pull(own: Any, reference: Any, weight: Any, move: Any, pull: Any) -> None:
    for j in range(own.size):
        moved = (own[j] - reference[j]) * weight
        move[j] = moved
        pull[j] -= moved


@njit(nogil=True, cache=True)
def _spread(move: Any, own: Any, how: Any, factor: Any, places: Any, result: Any) -> None:
    """Gradient at a map, from that at what it was pooled and scaled to."""
    sides, inside, shaped = how.sides, how.inside, move.reshape(how.inside)
    filled = (inside[0] * sides[0], inside[1] * sides[1], inside[2] * sides[2])
    if filled != result.shape:
        result[:] = 0
    if sides == (1, 2, 2):
        _stretch_by_two(shaped[0], factor, result[0])
    elif sides == (2, 2, 2):
        for z in range(filled[0]):
            _stretch_by_two(shaped[z // 2], factor, result[z])
    else:
        _stretch_by_any(shaped, sides, factor, result)
    if how.scale:
        along, total = _moments(move, own)
        cells = sides[0] * sides[1] * sides[2]
        voxels = result.reshape(-1)
        voxels[places[0]] += np.float32((along - total) * factor * cells)
        voxels[places[1]] -= np.float32(along * factor * cells)


@njit(nogil=True, cache=True)
def _stretch_by_two(move: Any, factor: Any, result: Any) -> None:
    for y in range(2 * move.shape[0]):  # row by row: two at once are not done in blocks
        for x in range(move.shape[1]):
            value = move[y // 2, x] * factor
            result[y, 2 * x] = value
            result[y, 2 * x + 1] = value


@njit(nogil=True, cache=True)
def _stretch_by_any(move: Any, sides: Any, factor: Any, result: Any) -> None:
    for z in range(move.shape[0]):
        for y in range(move.shape[1]):
            for x in range(move.shape[2]):
                value = move[z, y, x] * factor
                for k in range(sides[0]):
                    for j in range(sides[1]):
                        for i in range(sides[2]):
                            result[z * sides[0] + k, y * sides[1] + j, x * sides[2] + i] = value


@njit(nogil=True, cache=True)
def _moments(move: Any, own: Any) -> tuple[float, float]:
    along, total = 0.0, 0.0
    for start in range(0, move.size, _BLOCK):
        here = _moments_of_block(move[start : start + _BLOCK], own[start : start + _BLOCK])
        along, total = along + here[0], total + here[1]
    return along, total


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _moments_of_block(move: Any, own: Any) -> tuple[Any, Any]:
    along, total = np.float32(0), np.float32(0)
    for j in range(move.size):
        along += move[j] * own[j]
        total += move[j]
    return along, total

"""Distances between all maps of a layer (paper, Appendix D), in float64 by way of the Gram matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pool_maps(maps: Array, window: int) -> Array:
    """Average-pool the spatial axes of (C, *spatial) with stride = window, in float64; the rest is left out.

    The window is clamped on an axis that is shorter.
    """
    for axis in range(1, maps.ndim):
        size = min(window, maps.shape[axis])
        whole = maps.shape[axis] // size * size
        before = (slice(None),) * axis
        # Adding every size-th row to the next is several times faster than a mean over an axis of two.
        total = maps[(*before, slice(0, whole, size))].astype(np.float64)
        for offset in range(1, size):
            total += maps[(*before, slice(offset, whole, size))]
        maps = total / size
    return maps


def pool_scaled(maps: Array, window: int) -> Array:
    """Scale each map (C, *spatial) to [0, 1] over all its voxels and pool it; a constant map becomes zeros.

    Scaling goes through averages unchanged, so it is done on the few voxels that pooling leaves, by the range of all.
    """
    axes, column = tuple(range(1, maps.ndim)), (-1,) + (1,) * (maps.ndim - 1)
    low = maps.min(axis=axes).astype(np.float64).reshape(column)
    extent = maps.max(axis=axes).reshape(column) - low
    # Not a division by one: what is left of a constant map is then rounding, and it counts as no signal at all.
    factor = np.divide(1.0, extent, out=np.zeros_like(extent), where=extent != 0)
    pooled: Array = (pool_maps(maps, window) - low) * factor
    return pooled


def distance_matrix(maps: Array, window: int = 2) -> Array:
    """RMS distance between every two maps of one image, maps scaled to [0, 1] and then pooled.

    Float64 throughout: in float32 the Gram matrix loses exactly the near-duplicates that matter here.

    Args:
        maps: (C, *spatial).
        window: ω, side of the pooling.

    Returns:
        (C, C), symmetric, zero diagonal, values in [0, 1].
    """
    return rms_between(pool_scaled(maps, window).reshape(len(maps), -1))


def rms_between(points: Array) -> Array:
    """RMS distance between every two rows (C, voxels), by the Gram matrix; NaN for a row that is not all numbers.

    Returns:
        (C, C), symmetric, zero diagonal.
    """
    numbers = np.atleast_1d(np.isfinite(points).all(axis=1))
    # Distances do not change with the origin, and rounding is smallest around the mean.
    centre = points[numbers].mean(axis=0) if numbers.any() else 0.0
    points = np.where(numbers[:, None], points - centre, np.nan)
    gram = points @ points.T
    norms = np.diag(gram)
    squares: Array = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0) / points.shape[1]
    np.fill_diagonal(squares, 0)
    return np.asarray(np.sqrt(squares))


def condensed(distances: Array) -> Array:
    """The upper triangles (..., C (C - 1) / 2) of distance matrices (..., C, C), row by row."""
    rows, columns = np.triu_indices(distances.shape[-1], 1)
    upper: Array = distances[..., rows, columns]
    return upper


def squared(pairs: Array, count: int) -> Array:
    """The distance matrix (count, count) from its upper triangle as `condensed` gives it."""
    matrix = np.zeros((count, count), dtype=pairs.dtype)
    rows, columns = np.triu_indices(count, 1)
    matrix[rows, columns] = matrix[columns, rows] = pairs
    return matrix


def nearest_among(distances: Array, candidates: Array) -> tuple[Array, Array]:
    """For every map the nearest other map among the candidates.

    Args:
        distances: (C, C).
        candidates: positions (K,) that count; a map is never its own neighbour.

    Returns:
        Positions (C,) int, -1 where there is no candidate, and distances (C,), NaN there.
    """
    count = len(distances)
    allowed = np.full((count, count), np.inf)
    allowed[:, candidates] = distances[:, candidates]
    allowed[np.isnan(allowed)] = np.inf
    np.fill_diagonal(allowed, np.inf)
    if count == 0:
        return np.empty(0, dtype=np.int64), np.empty(0)
    position = allowed.argmin(axis=1)
    distance = allowed[np.arange(count), position]
    missing = np.isinf(distance)
    return np.where(missing, -1, position), np.where(missing, np.nan, distance)

"""Distances between all maps of a layer (paper, Appendix D), in float64 by way of the Gram matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def scale_maps(maps: Array) -> Array:
    """Scale each map (C, *spatial) to [0, 1] over all its voxels; a constant map becomes zeros."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    extent = high - low
    scaled: Array = (flat - low) / np.where(extent == 0, 1, extent)
    return scaled.reshape(maps.shape)


def pool_maps(maps: Array, window: int) -> Array:
    """Average-pool the spatial axes of (C, *spatial) with stride = window; what does not fill a window is left out.

    The window is clamped on an axis that is shorter.
    """
    for axis in range(1, maps.ndim):
        size = min(window, maps.shape[axis])
        count = maps.shape[axis] // size
        cropped = np.take(maps, range(count * size), axis=axis)
        shape = (*maps.shape[:axis], count, size, *maps.shape[axis + 1 :])
        maps = cropped.reshape(shape).mean(axis=axis + 1)
    return maps


def distance_matrix(maps: Array, window: int = 2) -> Array:
    """RMS distance between every two maps of one image, maps scaled to [0, 1] and then pooled.

    Float64 throughout: in float32 the Gram matrix loses exactly the near-duplicates that matter here.

    Args:
        maps: (C, *spatial).
        window: ω, side of the pooling.

    Returns:
        (C, C), symmetric, zero diagonal, values in [0, 1].
    """
    points = pool_maps(scale_maps(maps), window).reshape(len(maps), -1)
    # Distances do not change with the origin, and rounding is smallest around the mean.
    points = points - points.mean(axis=0)
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
    np.fill_diagonal(allowed, np.inf)
    if count == 0:
        return np.empty(0, dtype=np.int64), np.empty(0)
    position = allowed.argmin(axis=1)
    distance = allowed[np.arange(count), position]
    missing = np.isinf(distance)
    return np.where(missing, -1, position), np.where(missing, np.nan, distance)

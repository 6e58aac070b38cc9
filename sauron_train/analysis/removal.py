"""What would go at a threshold, from stored maps: δ_prune and the rule of the cut (paper, Section 3.2), numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sauron_train.analysis.distances import pool_maps, rms_between
from sauron_train.analysis.widths import next_width

Array = npt.NDArray[Any]


def delta_prune(maps: Array, window: int = 1) -> Array:
    """What thresholds are compared with, of every map to every other as π.

    Args:
        maps: (P, C, *spatial), not scaled.
        window: ω, side of the pooling that the maps still need; 1 for maps that were stored pooled.

    Returns:
        (C, C) in [0, 1], a row per π: each image's RMS distances to π divided by their maximum, then averaged over the
        images; 0 at π, NaN for a map that is not all numbers.
    """
    return np.asarray(np.mean([_relative(image, window) for image in maps], axis=0))


def goes(
    distances: Array, references: Sequence[int], thresholds: Sequence[float], multiple: int = 1
) -> npt.NDArray[np.bool_]:
    """Which maps of a layer go, for many thresholds at once.

    The references have their turn one after the other; one that went before its turn has none, one that had it stays.
    What is nearer than the threshold (strictly) to one that has its turn goes.

    Args:
        distances: (C, C) as from `delta_prune`.
        references: positions of the maps that are π, in the order of their turns.
        thresholds: (T,) values of τ.
        multiple: `prune.width_multiple`; above 1 only so many of them go that one of the widths of `widths` is left,
            those first that are nearest to one that stays at this threshold.

    Returns:
        (T, C), True for a map that goes. The first reference never does, so no layer is emptied.
    """
    near = np.asarray(thresholds)[:, None]
    gone = np.zeros((len(near), distances.shape[1]), dtype=bool)
    stays = np.zeros_like(gone)
    for reference in references:
        turn = ~gone[:, reference]
        stays[:, reference] |= turn
        gone |= (distances[reference] < near) & turn[:, None] & ~stays
    if multiple == 1:
        return gone
    # Most thresholds of a slider take the same maps as the one before.
    different, of = np.unique(gone, axis=0, return_inverse=True)
    return np.array([_in_steps(row, distances, references, multiple) for row in different])[of.reshape(-1)]


def _in_steps(gone: Array, distances: Array, references: Sequence[int], multiple: int) -> Array:
    """Of the maps (C,) that would go as many as leave a width that is allowed."""
    going = np.flatnonzero(gone)
    count = len(gone) - min(next_width(len(gone) - len(going), multiple), len(gone))
    staying = np.array([reference for reference in references if not gone[reference]], dtype=np.int64)
    nearest = np.nanmin(distances[staying[:, None], going], axis=0)
    first = going[np.argsort(nearest, kind="stable")[:count]]
    return np.isin(np.arange(len(gone)), first)


def _relative(maps: Array, window: int) -> Array:
    distances = rms_between(pool_maps(maps, window).reshape(len(maps), -1))
    largest = np.nanmax(distances, axis=1, keepdims=True)
    return np.asarray(distances / np.where(largest == 0, 1, largest))

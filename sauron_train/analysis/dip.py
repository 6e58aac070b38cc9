"""Hartigan's dip statistic of the distances in a layer, which tells whether its maps cluster (paper, Appendix D).

The paper does not say of which sample it takes the dip, so three can be asked for (design choice; `pairs` is logged).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Sample = Literal["pairs", "reference", "pca"]

# diptest interpolates critical values that were tabulated up to this sample size, and takes those of the last beyond.
_LARGEST_TABULATED = 72_000
_FEWEST = 4
# Distances are in units of a map's range and come out of differences of sums: what lies nearer together than this is
# the same value with other rounding.
_DECIMALS = 6


@dataclass(frozen=True)
class Dip:
    """Dip statistic of a sample and the p-value of the test that it has one mode.

    Attributes:
        statistic: between 0 and 0.25, higher = more clusterable; NaN where there is none.
        p: probability of a dip at least so large under one mode; NaN where there is none. The distances of pairs are no
            independent draws, so it orders layers and epochs and proves nothing.
        n: size of the sample.
        method: how p was found; empty where there is none.
        reason: why there is no statistic; empty where there is one.
    """

    statistic: float
    p: float
    n: int
    method: str = ""
    reason: str = ""


def dip(sample: Array) -> Dip:
    """Dip test of a sample.

    Where a test means nothing there is no value but a reason, because the test itself calls such samples unimodal:
    numbers that are not finite, fewer than four values, or fewer than four that differ by more than rounding.

    Args:
        sample: (N,) values in any order.
    """
    values = np.sort(np.asarray(sample, dtype=np.float64).ravel())
    reason = _unfit(values)
    if reason:
        return Dip(np.nan, np.nan, len(values), reason=reason)
    from diptest import diptest  # noqa: PLC0415 - views that only read a log need not load it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sample size exceeds")
        # A step of 1 / N is never nearer than half of it to a continuous distribution, so no dip is 0.
        statistic, p = diptest(values, sort_x=False, allow_zero=False)
    method = "table" if len(values) <= _LARGEST_TABULATED else "table, last row"
    return Dip(float(statistic), float(p), len(values), method)


def dip_sample(distances: Array, sample: Sample = "pairs") -> Array:
    """The values whose dip is taken, from the distances between the maps of a layer for one image.

    Args:
        distances: (C, C) as from `distance_matrix`.
        sample: `pairs`: the C (C - 1) / 2 distances; `reference`: the C - 1 distances to channel 0; `pca`: the C scores
            on the first principal component of the maps, up to their sign.
    """
    if sample == "pairs":
        return distances[np.triu_indices(len(distances), 1)]
    if sample == "reference":
        return distances[0, 1:] if len(distances) else np.empty(0)
    return _first_component(distances)


def _first_component(distances: Array) -> Array:
    """Scores from distances alone: the centred Gram matrix is what classical scaling makes of them."""
    if not len(distances) or not np.isfinite(distances).all():
        return np.full(len(distances), np.nan)
    squares = distances.astype(np.float64) ** 2
    gram = -0.5 * (squares - squares.mean(axis=0) - squares.mean(axis=1, keepdims=True) + squares.mean())
    values, vectors = np.linalg.eigh(gram)
    scores: Array = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    return scores


def _unfit(values: Array) -> str:
    if not np.isfinite(values).all():
        return "not a number"
    if len(values) < _FEWEST:
        return f"fewer than {_FEWEST} values"
    different = len(np.unique(np.round(values, _DECIMALS)))
    if different == 1:
        return "all values are equal"
    return f"only {different} different values" if different < _FEWEST else ""

"""How clusterable the maps of a layer are: dip, δ_opt and average neighbours (paper, Appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sauron_train.analysis.dip import Array, Dip, Sample, dip, dip_sample
from sauron_train.analysis.distances import nearest_among

RADIUS = 0.1
"""Within which maps are neighbours, in units of a map's range; the paper gives none (design choice)."""
BINS = 200
"""Number of bins of [0, 1] in which distances are counted, so that neighbours within any radius can be asked later."""


@dataclass(frozen=True)
class Clusterability:
    """The three measures of a layer at an epoch, each the mean over the probe images that have it.

    Attributes:
        dip: Hartigan's statistic; NaN where no image gives one.
        dip_p: its p-value.
        dip_n: size of the sample per image.
        dip_method: how the p-value was found.
        dip_reason: why there is no dip; or of how many images there is none, and why, while the others have one.
        delta_opt: mean distance to channel 0; 0 for one filter.
        neighbours: mean over the maps of the number of other maps within the radius; see `neighbours_within`.
        nearest: (C,) position of the nearest other map by the mean distance over images; -1 for one filter.
        nearest_distance: (C,) that distance; NaN for one filter.
        histogram: (BINS,) mean number of ordered pairs of maps per image whose distance lies in (i, i + 1] / BINS, in
            the first bin [0, 1 / BINS]; NaN where no image is all numbers.
    """

    dip: float
    dip_p: float
    dip_n: int
    dip_method: str
    dip_reason: str
    delta_opt: float
    neighbours: float
    nearest: Array
    nearest_distance: Array
    histogram: Array

    def cells(self) -> dict[str, float | int | str | None]:
        """The columns of `layers.csv`; what is not there is None."""
        return {
            "delta_opt": self.delta_opt,
            "dip": self.dip,
            "dip_p": self.dip_p,
            "dip_n": self.dip_n,
            "dip_method": self.dip_method or None,
            "dip_reason": self.dip_reason or None,
            "neighbours": self.neighbours,
        }


def clusterability(
    distances: Sequence[Array] | Array, sample: Sample = "pairs", radius: float = RADIUS
) -> Clusterability:
    """Measure one layer.

    Args:
        distances: per probe image the (C, C) distances between its maps, as from `distance_matrix`.
        sample: of which values the dip is taken.
        radius: within which maps are neighbours, in units of a map's range.
    """
    each = np.asarray(distances)
    tested = mean_dip(each, sample)
    histogram = _mean([_histogram(image) for image in each])
    nearest, distance = nearest_among(each.mean(axis=0), np.arange(each.shape[1]))
    return Clusterability(
        dip=tested.statistic,
        dip_p=tested.p,
        dip_n=tested.n,
        dip_method=tested.method,
        dip_reason=tested.reason,
        delta_opt=delta_opt(each),
        neighbours=float(neighbours_within(histogram, np.asarray(each.shape[1]), radius)),
        nearest=nearest,
        nearest_distance=distance,
        histogram=histogram,
    )


def mean_dip(distances: Sequence[Array] | Array, sample: Sample = "pairs") -> Dip:
    """The mean over the probe images that have a dip, with `reason` where one has none; see `clusterability`."""
    dips = [dip(dip_sample(image, sample)) for image in distances]
    found = [d for d in dips if not d.reason]
    method = found[0].method if found else ""
    statistic, p = (float(_mean([getattr(d, what) for d in found])) for what in ("statistic", "p"))
    return Dip(statistic, p, dips[0].n, method, _reason(dips))


def delta_opt(distances: Array) -> float:
    """Mean distance (P, C, C) to channel 0 over images and the other maps; 0 for one filter.

    An image whose maps are not all numbers is left out; NaN where none is left.
    """
    if distances.shape[1] < 2:
        return 0.0
    each = distances[:, 0, 1:].mean(axis=1)
    return float(_mean(list(each)))


def neighbours(distances: Array, radius: float = RADIUS) -> float:
    """Mean over the maps (C, C) of one image of the number of other maps at a distance <= radius."""
    count = len(distances)
    if count < 2:
        return 0.0
    if np.isnan(distances).any():
        return float("nan")
    return float((np.count_nonzero(distances <= radius) - count) / count)


def neighbours_within(histogram: Array, filters: Array, radius: float) -> Array:
    """Average neighbours from stored histograms, at every radius by the same rule.

    Exactly those of `neighbours` where the radius is a multiple of 1 / BINS, in between interpolated; a smaller one
    counts as 1 / BINS, because equal maps lie at 0 and not spread over the first bin.

    Args:
        histogram: (..., BINS) ordered pairs per bin.
        filters: (...) number of maps.
        radius: between 0 and 1.
    """
    place = min(max(radius * BINS, 1.0), BINS)
    # The edge itself must not be missed by a rounding error: 0.15 * 200 is a little less than 30.
    below = min(int(np.floor(place + 1e-9)), BINS)
    share = max(place - below, 0.0)
    pairs = histogram[..., :below].sum(axis=-1)
    if share > 0 and below < BINS:
        pairs = pairs + share * histogram[..., below]
    result: Array = np.asarray(pairs / np.maximum(filters, 1))
    return result


def _histogram(distances: Array) -> Array:
    pairs = np.sort(dip_sample(distances, "pairs"))
    if np.isnan(pairs).any():
        return np.full(BINS, np.nan)
    edges = np.arange(1, BINS + 1) / BINS
    # Scaled maps lie in [0, 1], so no distance is above 1 but by rounding.
    up_to = np.searchsorted(np.minimum(pairs, 1.0), edges, side="right")
    return 2.0 * np.diff(up_to, prepend=0)


def _reason(dips: Sequence[Dip]) -> str:
    without = [d.reason for d in dips if d.reason]
    if not without or len(without) == len(dips):
        return without[0] if without else ""
    return f"{len(without)} of {len(dips)} images: {without[0]}"


def _mean(values: Sequence[float] | Sequence[Array]) -> Array:
    """Over the images that have a value; NaN where none has."""
    each = np.asarray(values, dtype=np.float64)
    known = each[~np.isnan(each).reshape(len(each), -1).any(axis=1)] if len(each) else each
    if len(known):
        return np.asarray(known.mean(axis=0))
    return np.full(each.shape[1:], np.nan)

"""How clusterable the maps of a layer are: dip, δ_opt and average neighbours (paper, Appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sauron_train.analysis.dip import Array, Sample, dip, dip_sample
from sauron_train.analysis.distances import nearest_among

RADIUS = 0.1
"""Within which maps are neighbours, in units of a map's range; the paper gives none (design choice)."""
BINS = 200
"""Number of bins of [0, 1] in which distances are counted, so that neighbours within any radius can be asked later."""


@dataclass(frozen=True)
class Clusterability:
    """The three measures of a layer at an epoch, each the mean over probe images, and what they are made of.

    Attributes:
        dip: Hartigan's statistic; NaN where no image gives one, `dip_reason` then says why.
        dip_p: its p-value.
        dip_n: size of the sample per image.
        dip_method: how the p-value was found.
        dip_reason: why there is no dip.
        delta_opt: mean distance to channel 0; 0 for one filter.
        neighbours: mean over the maps of the number of other maps within the radius.
        nearest: (C,) position of the nearest other map by the mean distance over images; -1 for one filter.
        nearest_distance: (C,) that distance; NaN for one filter.
        histogram: (BINS,) mean number of ordered pairs of maps per image whose distance lies in (i, i + 1] / BINS, in
            the first bin [0, 1 / BINS].
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
    dips = [dip(dip_sample(image, sample)) for image in each]
    found = [d for d in dips if not d.reason]
    nearest, distance = nearest_among(each.mean(axis=0), np.arange(each.shape[1]))
    return Clusterability(
        dip=_mean([d.statistic for d in found]),
        dip_p=_mean([d.p for d in found]),
        dip_n=dips[0].n,
        dip_method=found[0].method if found else "",
        dip_reason="" if found else dips[0].reason,
        delta_opt=delta_opt(each),
        neighbours=_mean([neighbours(image, radius) for image in each]),
        nearest=nearest,
        nearest_distance=distance,
        histogram=np.mean([_histogram(image) for image in each], axis=0),
    )


def delta_opt(distances: Array) -> float:
    """Mean distance (P, C, C) to channel 0 over images and the other maps; 0 for one filter."""
    return float(distances[:, 0, 1:].mean()) if distances.shape[1] > 1 else 0.0


def neighbours(distances: Array, radius: float = RADIUS) -> float:
    """Mean over the maps (C, C) of one image of the number of other maps within the radius, itself included in it."""
    count = len(distances)
    if count < 2:
        return 0.0
    if np.isnan(distances).any():
        return float("nan")
    return float((np.count_nonzero(distances <= radius) - count) / count)


def neighbours_within(histogram: Array, filters: Array, radius: float) -> Array:
    """Average neighbours from stored histograms: exact where the radius is a multiple of 1 / BINS, else interpolated.

    Args:
        histogram: (..., BINS) ordered pairs per bin.
        filters: (...) number of maps.
        radius: between 0 and 1.
    """
    cumulative = np.concatenate([np.zeros((*histogram.shape[:-1], 1)), np.cumsum(histogram, axis=-1)], axis=-1)
    place = min(max(radius, 0.0), 1.0) * BINS
    # The edge itself must not be missed by a rounding error: 0.15 * 200 is a little less than 30.
    below = min(int(np.floor(place + 1e-9)), BINS)
    share = max(place - below, 0.0)
    pairs = cumulative[..., below]
    if share > 0 and below < BINS:
        pairs = pairs + share * histogram[..., below]
    result: Array = pairs / np.maximum(filters, 1)
    return result


def _histogram(distances: Array) -> Array:
    pairs = np.sort(dip_sample(distances, "pairs"))
    pairs = pairs[~np.isnan(pairs)]
    edges = np.arange(1, BINS + 1) / BINS
    # Scaled maps lie in [0, 1], so no distance is above 1 but by rounding.
    up_to = np.searchsorted(np.minimum(pairs, 1.0), edges, side="right")
    return 2.0 * np.diff(up_to, prepend=0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")

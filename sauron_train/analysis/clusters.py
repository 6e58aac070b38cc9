"""Which maps of a layer belong together: hierarchical clusters of the distances between them (design choice)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sauron_train.analysis.distances import condensed

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Clusters:
    """An order of maps in which similar ones stand side by side.

    Attributes:
        order: (C,) positions of the maps, in that order.
        labels: (C,) cluster of each map, numbered from 0 as they come in the order.
    """

    order: Array
    labels: Array

    @property
    def count(self) -> int:
        """Number of clusters, maps that stand alone among them."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


def clusters(distances: Array, radius: float) -> Clusters:
    """Average linkage with optimal leaf order; maps and groups join while their mean distance is within the radius.

    A map whose distances are not numbers stands alone at the end.

    Args:
        distances: (C, C) as from `distance_matrix`.
        radius: in units of a map's range.
    """
    # A map that is not all numbers is near to nothing but itself.
    fit = np.isfinite(distances).sum(axis=1) > min(1, len(distances) - 1)
    known, rest = np.flatnonzero(fit), np.flatnonzero(~fit)
    order, joined = _tree(distances[np.ix_(known, known)], radius)
    order = np.concatenate([known[order], rest]).astype(np.int64)
    group = np.empty(len(distances), dtype=np.int64)
    group[known], group[rest] = joined, np.arange(len(rest)) + len(distances)
    # Numbered as they come: a cluster of the tree is a stretch of its order.
    first = np.concatenate([[0], np.cumsum(np.diff(group[order]) != 0)])[: len(order)]
    labels = np.empty(len(distances), dtype=np.int64)
    labels[order] = first
    return Clusters(order, labels)


def _tree(distances: Array, radius: float) -> tuple[Array, Array]:
    count = len(distances)
    if count < 2 or not np.isfinite(distances).all():
        return np.arange(count), np.arange(count)
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering  # noqa: PLC0415 - slow

    pairs = condensed(distances).astype(np.float64)
    tree = optimal_leaf_ordering(linkage(pairs, "average"), pairs)
    return np.asarray(leaves_list(tree)), np.asarray(fcluster(tree, radius, "distance"))

"""What would go at a threshold, and which maps belong together: against the code that cuts, and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sauron_train.analysis.clusters import clusters
from sauron_train.analysis.distances import distance_matrix
from sauron_train.analysis.removal import delta_prune, goes
from sauron_train.pruning import distances as training
from sauron_train.pruning.policy import Measure, removable

THRESHOLDS = np.linspace(0, 1, 41)


def some_maps(seed: int, images: int = 3, count: int = 12) -> np.ndarray:
    """A few families of maps, two of them twins."""
    draw = np.random.default_rng(seed)
    views = draw.normal(size=(images, 3, 9, 8))
    maps = views[:, draw.integers(3, size=count)] + 0.4 * draw.normal(size=(images, count, 9, 8))
    maps[:, 5] = maps[:, 2]
    return maps


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_that_training_thresholds(seed: int) -> None:
    maps = some_maps(seed)
    expected = training.delta_prune(torch.from_numpy(maps), range(maps.shape[1]), 2)
    np.testing.assert_allclose(delta_prune(maps, 2), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("turns", ["all", "one"])
def test_what_goes_is_what_training_cuts(seed: int, turns: str) -> None:
    distances = delta_prune(some_maps(seed))
    order = np.random.default_rng(seed).permutation(12).tolist()[: 12 if turns == "all" else 1]
    measure = Measure(tuple(range(12)), tuple(order), distances[order], layers=(frozenset(range(12)),))
    found = goes(distances, order, THRESHOLDS)
    for row, threshold in zip(found, THRESHOLDS, strict=True):
        assert set(np.flatnonzero(row).tolist()) == set(removable(measure, float(threshold)))
    assert not found[:, order[0]].any()
    assert found[-1].sum() > 5


def test_a_map_that_is_no_number_goes_nowhere_and_spoils_no_other() -> None:
    maps = some_maps(0)
    whole, without = delta_prune(maps), np.delete(np.arange(12), 3)
    maps[0, 3, 2, 2] = np.nan
    maps[1, 4] = np.inf
    found = delta_prune(maps)
    assert np.isnan(found[np.ix_([3, 4], without[without != 4])]).all()
    kept = np.delete(np.arange(12), [3, 4])
    assert np.isfinite(found[np.ix_(kept, kept)]).all()
    assert whole.shape == found.shape
    assert not goes(found, range(12), [1.0])[0, [3, 4]].any()
    order = clusters(distance_matrix(maps[0]), 0.1).order.tolist()
    assert order[-1] == 3
    assert sorted(order) == list(range(12))


def test_constant_maps_and_single_ones() -> None:
    assert delta_prune(np.ones((2, 3, 4, 4))).tolist() == [[0.0] * 3] * 3
    assert delta_prune(np.ones((2, 1, 4, 4))).tolist() == [[0.0]]
    assert goes(np.zeros((1, 1)), [0], [0.0, 1.0]).tolist() == [[False], [False]]


def test_clusters_are_families_and_stand_side_by_side() -> None:
    draw = np.random.default_rng(1)
    family = draw.permutation(np.repeat(np.arange(4), 6))
    maps = draw.random((4, 16, 16))[family] + 0.02 * draw.random((24, 16, 16))
    found = clusters(distance_matrix(maps), 0.1)
    assert found.count == 4
    assert sorted(found.order.tolist()) == list(range(24))
    for label in range(4):
        assert len(set(family[found.labels == label])) == 1
    assert (np.diff(found.labels[found.order]) >= 0).all()
    assert clusters(distance_matrix(maps), 1e-6).count == 24
    assert clusters(distance_matrix(maps), 1.0).count == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_clusters_of_next_to_nothing(count: int) -> None:
    found = clusters(
        distance_matrix(np.random.default_rng(0).random((count, 4, 4))) if count else np.empty((0, 0)), 0.1
    )
    assert found.order.tolist() == list(range(count))
    assert found.count == count

"""Widths in multiples: which are allowed, what of the filters below the threshold goes, and which of them stay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_equal_outputs, assert_optimizer_fits, masked
from torch import Tensor, nn
from torch.nn import functional as F

from sauron_train import History, Sauron
from sauron_train.analysis.removal import goes
from sauron_train.analysis.widths import next_width, told, widths_below
from sauron_train.config import PruneConfig, SauronConfig
from sauron_train.errors import ConfigError
from sauron_train.pruning.policy import LayerState, Measure, decide, removable

MULTIPLES = st.sampled_from([1, 2, 3, 4, 8, 12, 16])
SETTLED = History((1.0,) * 7, (0.5,) * 7)


@st.composite
def layers_alone(draw: st.DrawFn) -> Measure:
    """A layer whose maps are families, with one π or with all of them in turn."""
    count = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    points = rng.normal(size=(draw(st.integers(1, 5)), 3))
    places = points[rng.integers(len(points), size=count)] + 0.1 * rng.normal(size=(count, 3))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-9)
    order = rng.permutation(count)[: count if draw(st.booleans()) else 1].tolist()
    protected = frozenset(rng.choice(count, size=draw(st.integers(0, count // 4)), replace=False).tolist())
    return Measure(tuple(range(count)), tuple(order), distances[order], (frozenset(range(count)),), (), protected)


@st.composite
def tied_layers(draw: st.DrawFn) -> Measure:
    """Layers that share some channels, of which some go only together, as sums and group norms tie them."""
    count = draw(st.integers(4, 32))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    split = draw(st.integers(1, count - 1))
    layers = [frozenset(range(count)), frozenset(range(split)), frozenset(range(split // 2, count))]
    size = draw(st.integers(1, 4))
    bound = tuple(frozenset(range(start, min(start + size, count))) for start in range(0, count, size))
    distances = rng.random((count, count)) * (1 - np.eye(count))
    order = rng.permutation(count).tolist()
    chosen = tuple(layers[: draw(st.integers(1, 3))])
    return Measure(tuple(range(count)), tuple(order), distances[order], chosen, bound if size > 1 else ())


@given(st.integers(1, 600), MULTIPLES)
@settings(max_examples=150, deadline=None)
def test_a_width_is_a_multiple_or_a_half_of_one_and_the_next_to_what_is_asked(filters: int, multiple: int) -> None:
    width = next_width(filters, multiple)
    assert width >= filters
    halves = {multiple >> times for times in range(multiple.bit_length())}
    assert width % multiple == 0 or width in halves
    assert next_width(width, multiple) == width
    smaller = [w for w in range(filters, width) if w % multiple == 0 or w in halves]
    assert smaller == []
    below = widths_below(filters, multiple)
    assert below == sorted(set(below), reverse=True)
    assert set(below) == {next_width(w, multiple) for w in range(1, filters)} - set(range(filters, 700))


def test_widths_in_words() -> None:
    assert told(16) == "multiples of 16, below that to 8, 4, 2, 1"
    assert told(12) == "multiples of 12, below that to 6, 3, 1"
    assert told(1) == ""


@given(layers_alone(), st.floats(0, 1), MULTIPLES)
@settings(max_examples=150, deadline=None)
def test_so_many_go_that_the_next_width_is_left_and_the_nearest_go_first(
    measure: Measure, threshold: float, multiple: int
) -> None:
    free, found = removable(measure, threshold), removable(measure, threshold, multiple)
    count = len(measure.channels)
    assert found.items() <= free.items(), "each goes for the reason it would have gone for"
    assert count - len(found) == min(next_width(count - len(free), multiple), count)
    assert all(measure.between(reference, channel) < threshold for channel, reference in found.items())
    stays = [row for row, reference in enumerate(measure.references) if reference not in free]
    nearest = measure.distances[stays].min(axis=0)
    spared = set(free) - set(found)
    assert all((nearest[gone], gone) < (nearest[kept], kept) for gone in found for kept in spared)
    assert removable(measure, threshold, 1) == free


@given(layers_alone(), st.lists(st.floats(0, 1), min_size=1, max_size=6), MULTIPLES)
@settings(max_examples=150, deadline=None)
def test_a_view_says_of_stored_maps_what_training_cuts(
    measure: Measure, thresholds: list[float], multiple: int
) -> None:
    distances = np.empty((len(measure.channels),) * 2)
    distances[list(measure.references)] = measure.distances
    unprotected = Measure(measure.channels, measure.references, measure.distances, measure.layers)
    found = goes(distances, measure.references, thresholds, multiple)
    for row, threshold in zip(found, thresholds, strict=True):
        assert set(np.flatnonzero(row).tolist()) == set(removable(unprotected, threshold, multiple))


@given(tied_layers(), st.floats(0, 1), MULTIPLES)
@settings(max_examples=150, deadline=None)
def test_every_layer_of_a_group_has_a_width_that_is_allowed_or_loses_nothing(
    measure: Measure, threshold: float, multiple: int
) -> None:
    free, found = removable(measure, threshold), removable(measure, threshold, multiple)
    assert found.items() <= free.items()
    for layer in measure.layers:
        left = len(layer - found.keys())
        assert left == len(layer) or left == next_width(left, multiple)
    assert all(bound <= found.keys() or bound.isdisjoint(found) for bound in measure.bound)


def test_layers_that_share_all_channels_are_cut_as_far_as_one_alone() -> None:
    distances = np.array([[0.0, 0.4, 0.1, 0.3, 0.2, 0.9]])
    every = frozenset(range(6))
    alone = Measure(tuple(range(6)), (0,), distances, (every,))
    assert removable(alone, 0.5) == dict.fromkeys((1, 2, 3, 4), 0)
    assert removable(alone, 0.5, 4) == dict.fromkeys((1, 2, 3, 4), 0), "of 4, below which are 2 and 1, two are left"
    assert removable(alone, 0.35, 4) == {2: 0, 4: 0}, "three lie below, the two nearest go"
    assert removable(alone, 0.15, 4) == {}, "one less than six is no multiple"
    tied = Measure(alone.channels, alone.references, distances, (every, every))
    assert removable(tied, 0.35, 4) == {2: 0, 4: 0}
    bound = Measure(alone.channels, alone.references, distances, (every,), (frozenset((2, 3)), frozenset((1, 4))))
    assert removable(bound, 0.5, 4) == {2: 0, 3: 0, 1: 0, 4: 0}
    assert removable(bound, 0.35, 4) == {2: 0, 3: 0}


def test_a_decision_keeps_to_the_multiple_and_counts_what_really_went() -> None:
    distances = np.array([[0.0, *np.linspace(0.01, 0.4, 11)]])
    measure = Measure(tuple(range(12)), (0,), distances, (frozenset(range(12)),))
    config = PruneConfig(width_multiple=8, threshold_start=0.25, threshold_max=0.3, converge_on="always")
    decisions, states = decide({"a": measure}, {"a": LayerState(0, 3)}, SETTLED, config)
    assert dict(decisions["a"].removed) == dict.fromkeys((1, 2, 3, 4), 0)
    assert states["a"].removed == 4
    free, _ = decide({"a": measure}, {"a": LayerState(0, 3)}, SETTLED, config.model_copy(update={"width_multiple": 1}))
    assert len(free["a"].removed) > 4


@pytest.mark.parametrize("value", [0, 65, 2.5, "eight"])
def test_a_multiple_is_a_small_whole_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"prune\.width_multiple"):
        SauronConfig.of({"prune": {"width_multiple": value}})


class Residual(nn.Module):
    """Two layers tied by a sum, one by a group norm, and one that stands alone with no multiple of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(8, 16)
        self.d, self.head = nn.Conv2d(16, 14, 3, padding=1), nn.Conv2d(14, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.a(x))
        x = F.leaky_relu(x + self.b(x))
        x = F.leaky_relu(self.norm(self.c(x)))
        result: Tensor = self.head(F.leaky_relu(self.d(x)))
        return result


@pytest.mark.parametrize("compensate", ["merge", "none"])
@pytest.mark.parametrize("references", ["all", "one"])
def test_a_network_is_cut_to_multiples_and_its_records_are_right(references: str, compensate: str) -> None:
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(2, 1, 16, 16)
    prune = {
        "threshold_start": 0.75, "threshold_max": 0.9, "width_multiple": 4, "references": references,
        "compensate": compensate,
    }  # fmt: skip
    sauron, optimizer = Sauron(model, x, {"prune": prune}), torch.optim.Adam(model.parameters())
    widths, graph, twin = dict(sauron.layers), sauron.graph, copy.deepcopy(model)
    assert widths == {"a": 16, "b": 16, "c": 16, "d": 14}
    record = sauron.prune(optimizer, [x], SETTLED)
    assert record.removed
    for layer, width in sauron.layers.items():
        decided = record.layers[layer]
        assert width == widths[layer] - len(decided.removed)
        assert tuple(sorted(decided.removed)) == record.removed.get(layer, ())
        assert width in (widths[layer], 12, 8, 4, 2, 1)
        assert all(delta < decided.threshold for delta in decided.removed_delta.values())
        assert not set(decided.removed) & set(decided.removed.values())
        assert graph.filters(layer) == decided.filters
    assert record.removed.get("a") == record.removed.get("b")
    assert_optimizer_fits(model, optimizer)
    if compensate == "none":
        assert_equal_outputs(model.double(), masked(twin, graph, record.cut).double(), x.double())

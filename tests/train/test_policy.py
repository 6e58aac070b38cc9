"""Thresholds, patience and what goes: the decision is a pure function, so every rule is tested by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sauron_train.config import PruneConfig
from sauron_train.pruning.policy import History, LayerState, Measure, convergence, decide, removable, thresholds

PAPER = PruneConfig()
SETTLED = History((1.0, 0.9, 1.1, 0.95, 1.0, 1.0), (0.5, 0.4, 0.6, 0.5, 0.5, 0.5))


def measure(channels: tuple[int, ...], delta_prune: tuple[float, ...], reference: int, **more: Any) -> Measure:
    return Measure(channels, (reference,), np.array([delta_prune]), **more)


MEASURE = measure((0, 2, 5, 7), (0.0, 0.0005, 0.01, 1.0), 0)


def step(state: LayerState, history: History = SETTLED, config: PruneConfig = PAPER) -> Any:
    decisions, states = decide({"a": MEASURE}, {"a": state}, history, config)
    return decisions["a"], states["a"]


def test_the_papers_thresholds() -> None:
    values = thresholds(PAPER)
    assert len(values) == 16
    assert values[0] == 0.001
    assert values[-1] == 0.3
    assert values[1] - values[0] == pytest.approx((0.3 - 0.001) / 15)


def test_a_converged_layer_gets_the_next_threshold_and_waits() -> None:
    decision, state = step(LayerState())
    assert decision.raised
    assert decision.threshold == thresholds(PAPER)[1]
    assert (state.step, state.patience) == (1, 5)
    for patience in (4, 3, 2, 1, 0):
        decision, state = step(state)
        assert not decision.raised
        assert state.patience == patience
        state = LayerState(state.step, state.patience, removed=0)
    assert step(state)[0].raised


def test_filters_go_in_every_epoch_not_only_when_the_threshold_rises() -> None:
    decision, _ = step(LayerState(step=0, patience=3))
    assert decision.removed == {2: 0}
    decision, _ = step(LayerState(step=0, patience=0), History((1.0,), (1.0,)))
    assert decision.removed == {2: 0}
    assert not decision.raised


def test_nothing_rises_beyond_the_last_threshold() -> None:
    decision, state = step(LayerState(step=15))
    assert not decision.raised
    assert decision.threshold == 0.3
    assert (state.step, state.patience) == (15, 0)


def test_the_comparison_is_strict_and_the_reference_stays() -> None:
    assert removable(measure((4, 8, 9), (0.3, 0.0, 0.29), 8), 0.3) == {9: 8}
    assert removable(measure((4, 8), (0.0, 0.0), 8), 0.3) == {4: 8}
    assert removable(measure((3,), (0.0,), 3), 1.0) == {}


def test_every_survivor_is_a_reference_in_its_turn() -> None:
    distances = np.array([[0, 0.1, 0.9, 0.9], [0.1, 0, 0.1, 0.9], [0.9, 0.1, 0, 0.1], [0.9, 0.9, 0.1, 0]])
    in_order = Measure((0, 1, 2, 3), (0, 1, 2, 3), distances)
    assert removable(in_order, 0.2) == {1: 0, 3: 2}  # 1 goes before its turn, so it takes 2 with it no more
    other_order = Measure((0, 1, 2, 3), (1, 3, 0, 2), distances[[1, 3, 0, 2]])
    assert removable(other_order, 0.2) == {0: 1, 2: 1}
    assert removable(in_order, 0.05) == {}
    assert in_order.nearest_reference().tolist() == [0.1, 0.1, 0.1, 0.1]


def test_what_is_bound_goes_as_a_whole_and_what_is_protected_stays() -> None:
    near = (0.0, 0.1, 0.1, 0.9, 0.1)
    bound = (frozenset((1, 3)), frozenset((2, 4)))
    assert removable(measure((0, 1, 2, 3, 4), near, 0, bound=bound), 0.2) == {2: 0, 4: 0}
    assert removable(measure((0, 1, 2, 3, 4), near, 0, protected=frozenset((1, 4))), 0.2) == {2: 0}


def test_no_layer_of_a_group_is_emptied() -> None:
    layers = (frozenset((0, 1, 2, 3)), frozenset((2, 3)))
    assert removable(measure((0, 1, 2, 3), (0.0, 0.1, 0.1, 0.1), 0, layers=layers), 0.2) == {1: 0, 2: 0}


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"train_losses": (1.0, 0.9, 1.1, 0.95, 1.0, 0.8)}, "training_loss_settled"),
        ({"train_losses": (1.0, 0.9, 1.1, 0.95, 1.0, 1.2)}, "training_loss_settled"),
        ({"val_losses": (0.5, 0.4, 0.6, 0.5, 0.5, 0.3)}, "no_new_best_validation"),
        ({"train_losses": (1.0,) * 5, "val_losses": (0.5,) * 5}, "enough_epochs"),
    ],
)
def test_each_condition_can_hold_the_threshold(change: dict[str, Any], failing: str) -> None:
    history = History(**{"train_losses": SETTLED.train_losses, "val_losses": SETTLED.val_losses, **change})
    conditions = convergence(10, 0, history, PAPER)
    assert [name for name, holds in conditions.items() if not holds] == [failing]
    assert not step(LayerState(), history)[0].raised


@pytest.mark.parametrize(("filters", "removed", "few"), [(99, 1, True), (98, 2, False), (10, 0, True), (10, 1, False)])
def test_a_layer_that_just_lost_filters_has_not_converged(filters: int, removed: int, few: bool) -> None:
    assert convergence(filters, removed, SETTLED, PAPER)["few_filters_removed"] is few


def test_variants_of_convergence() -> None:
    best = History(SETTLED.train_losses, (0.5, 0.4, 0.6, 0.5, 0.5, 0.3))
    assert all(convergence(10, 0, best, PAPER.model_copy(update={"validation_veto": False})).values())
    assert all(convergence(10, 0, best, PAPER.model_copy(update={"converge_on": "train"})).values())
    assert convergence(10, 9, History((), ()), PAPER.model_copy(update={"converge_on": "always"})) == {"always": True}


def test_deciding_changes_nothing_it_was_given() -> None:
    states = {"a": LayerState()}
    decide({"a": MEASURE}, states, SETTLED, PAPER)
    assert states == {"a": LayerState()}

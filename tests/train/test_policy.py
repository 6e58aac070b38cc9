"""Thresholds, patience and what goes: the decision is a pure function, so every rule is tested by itself."""

from __future__ import annotations

from typing import Any

import pytest

from sauron_train.config import PruneConfig
from sauron_train.pruning.policy import History, LayerMeasure, LayerState, convergence, decide, removable, thresholds

PAPER = PruneConfig()
SETTLED = History((1.0, 0.9, 1.1, 0.95, 1.0, 1.0), (0.5, 0.4, 0.6, 0.5, 0.5, 0.5))
MEASURE = LayerMeasure((0, 2, 5, 7), (0.0, 0.0005, 0.01, 1.0), reference=0)


def step(state: LayerState, history: History = SETTLED, config: PruneConfig = PAPER, measure: Any = MEASURE) -> Any:
    decisions, states = decide({"a": measure}, {"a": state}, history, config)
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
    assert decision.removed == (2,)
    decision, _ = step(LayerState(step=0, patience=0), History((1.0,), (1.0,)))
    assert decision.removed == (2,)
    assert not decision.raised


def test_nothing_rises_beyond_the_last_threshold() -> None:
    decision, state = step(LayerState(step=15))
    assert not decision.raised
    assert decision.threshold == 0.3
    assert (state.step, state.patience) == (15, 0)


def test_the_comparison_is_strict_and_the_reference_stays() -> None:
    assert removable(LayerMeasure((4, 8, 9), (0.3, 0.0, 0.29), 8), 0.3) == (9,)
    assert removable(LayerMeasure((4, 8), (0.0, 0.0), 8), 0.3) == (4,)
    assert removable(LayerMeasure((3,), (0.0,), 3), 1.0) == ()


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

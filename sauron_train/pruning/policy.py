"""What goes: thresholds that adjust themselves per layer (paper, Section 3.2), as pure functions.

Measures, state and history go in; a decision and the next state come out. Nothing here knows a network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sauron_train.config import PruneConfig


@dataclass(frozen=True)
class LayerMeasure:
    """δ_prune of a layer: one value per filter that is left, its original number beside it, and the reference π."""

    filters: tuple[int, ...]
    delta_prune: tuple[float, ...]
    reference: int
    """Original number of the filter π."""


@dataclass(frozen=True)
class LayerState:
    """What a layer carries from epoch to epoch."""

    step: int = 0
    """Place in the list of thresholds."""
    patience: int = 0
    """Epochs to wait before the threshold may rise."""
    removed: int = 0
    """Filters that went in the epoch before."""


@dataclass(frozen=True)
class History:
    """Losses of all epochs so far, the last one included."""

    train_losses: tuple[float, ...]
    val_losses: tuple[float, ...]


@dataclass(frozen=True)
class LayerDecision:
    """What was decided for a layer, and why. Filters carry their original numbers."""

    layer: str
    threshold: float
    patience: int
    raised: bool
    reference: int
    removed: tuple[int, ...]
    conditions: Mapping[str, bool]


def thresholds(config: PruneConfig) -> tuple[float, ...]:
    """The κ + 1 evenly spaced values that τ climbs, from the first threshold to τ_max."""
    width = (config.threshold_max - config.threshold_start) / config.kappa
    return (*(config.threshold_start + i * width for i in range(config.kappa)), config.threshold_max)


def decide(
    measures: Mapping[str, LayerMeasure], states: Mapping[str, LayerState], history: History, config: PruneConfig
) -> tuple[dict[str, LayerDecision], dict[str, LayerState]]:
    """Decide for every layer what goes in this epoch.

    A waiting layer counts its patience down. One that has waited long enough and has converged gets the next threshold
    and waits ρ epochs again. In either case every filter nearer to π than the threshold goes, π itself never.
    """
    decisions: dict[str, LayerDecision] = {}
    following: dict[str, LayerState] = {}
    for layer, measure in measures.items():
        decisions[layer], following[layer] = _decide_layer(
            layer, measure, states.get(layer, LayerState()), history, config
        )
    return decisions, following


def convergence(filters: int, removed: int, history: History, config: PruneConfig) -> dict[str, bool]:
    """The conditions under which a layer counts as converged, by name; all must hold.

    Args:
        filters: filters of the layer before this epoch's cut.
        removed: filters it lost in the epoch before.
        history: losses up to and including this epoch.
        config: ρ, μ and what is asked of the losses.
    """
    if config.converge_on == "always":
        return {"always": True}
    train, window = history.train_losses, config.patience
    points = history.val_losses if config.converge_on == "validation" else train
    conditions = {"enough_epochs": len(points) >= window + 1}
    recent = train[-window - 1 : -1]
    conditions["training_loss_settled"] = bool(recent) and min(recent) <= train[-1] <= max(recent)
    if config.converge_on == "validation" and config.validation_veto:
        conditions["no_new_best_validation"] = len(points) > 1 and points[-1] >= min(points[:-1])
    conditions["few_filters_removed"] = removed < math.ceil(config.mu * (filters + removed))
    return conditions


def _decide_layer(
    layer: str, measure: LayerMeasure, state: LayerState, history: History, config: PruneConfig
) -> tuple[LayerDecision, LayerState]:
    steps = thresholds(config)
    conditions = convergence(len(measure.filters), state.removed, history, config)
    step, patience, raised = state.step, state.patience, False
    if patience > 0:
        patience -= 1
    elif all(conditions.values()) and step < len(steps) - 1:
        step, patience, raised = step + 1, config.patience, True
    removed = removable(measure, steps[step])
    decision = LayerDecision(layer, steps[step], patience, raised, measure.reference, removed, conditions)
    return decision, LayerState(step, patience, len(removed))


def removable(measure: LayerMeasure, threshold: float) -> tuple[int, ...]:
    """Original numbers of the filters whose δ_prune is below the threshold; π stays, so one filter always does."""
    pairs: Sequence[tuple[int, float]] = tuple(zip(measure.filters, measure.delta_prune, strict=True))
    return tuple(number for number, delta in pairs if delta < threshold and number != measure.reference)

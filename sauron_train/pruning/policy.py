"""What goes: thresholds that adjust themselves per layer (paper, Section 3.2), as pure functions.

Measures, state and history go in; a decision and the next state come out. Nothing here knows a network: channels are
numbers. What is decided at once is a layer, or the layers whose channels a residual sum or a group norm ties together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sauron_train.config import PruneConfig


@dataclass(frozen=True)
class Measure:
    """δ_prune of the channels that are decided together.

    Attributes:
        channels: their numbers.
        references: the channels that are π, in the order in which they have their turn.
        distances: (references, channels) δ_prune, infinite between channels that no layer has both of.
        layers: the channels of each layer; with one layer all of them. None may lose its last.
        bound: sets that go as a whole or not at all.
        protected: channels that stay whatever their δ_prune is.
    """

    channels: tuple[int, ...]
    references: tuple[int, ...]
    distances: npt.NDArray[np.float64]
    layers: tuple[frozenset[int], ...] = ()
    bound: tuple[frozenset[int], ...] = ()
    protected: frozenset[int] = frozenset()

    def between(self, reference: int, channel: int) -> float:
        """δ_prune of a channel to one of the references."""
        return float(self.distances[self.references.index(reference), self.channels.index(channel)])

    def nearest_reference(self) -> npt.NDArray[np.float64]:
        """(channels,) δ_prune to the nearest π, itself left out; a channel that is the only π has 0."""
        own = np.array(self.references)[:, None] == np.array(self.channels)[None, :]
        nearest = np.where(own, np.inf, self.distances).min(axis=0)
        return np.where(np.isinf(nearest), 0.0, nearest)


@dataclass(frozen=True)
class LayerState:
    """What a layer, or layers that are decided together, carry from epoch to epoch."""

    step: int = 0
    """Place in the list of thresholds."""
    patience: int = 0
    """Epochs to wait before the threshold may rise."""
    removed: int = 0
    """Filters that went in the epoch before."""


@dataclass(frozen=True)
class History:
    """Losses of all epochs so far, the last one included; with or without the penalty, as long as it is always so."""

    train_losses: Sequence[float]
    val_losses: Sequence[float]


@dataclass(frozen=True)
class Decision:
    """What was decided, and why: `removed` names each channel that goes with the π that it is too near to."""

    threshold: float
    patience: int
    raised: bool
    removed: Mapping[int, int]
    conditions: Mapping[str, bool]


def thresholds(config: PruneConfig) -> tuple[float, ...]:
    """The κ + 1 evenly spaced values that τ climbs, from the first threshold to τ_max."""
    width = (config.threshold_max - config.threshold_start) / config.kappa
    return (*(config.threshold_start + i * width for i in range(config.kappa)), config.threshold_max)


def decide(
    measures: Mapping[str, Measure], states: Mapping[str, LayerState], history: History, config: PruneConfig
) -> tuple[dict[str, Decision], dict[str, LayerState]]:
    """Decide for every layer what goes in this epoch.

    A waiting layer counts its patience down. One that has waited long enough and has converged gets the next threshold
    and waits ρ epochs again. In either case every filter nearer to π than the threshold goes, π itself never.
    """
    decisions: dict[str, Decision] = {}
    following = dict(states)
    for layer, measure in measures.items():
        decisions[layer], following[layer] = _decide(measure, states.get(layer, LayerState()), history, config)
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


def removable(measure: Measure, threshold: float) -> dict[int, int]:
    """The channels that go, each with its π: those whose δ_prune is below the threshold (strictly).

    The references have their turn one after the other; one that went before its turn has none, one that had it stays.
    """
    removed: dict[int, int] = {}
    staying = set(measure.protected)
    places = {channel: place for place, channel in enumerate(measure.channels)}
    partners = {channel: together for together in measure.bound for channel in together}
    for row, reference in enumerate(measure.references):
        if reference in removed:
            continue
        staying.add(reference)
        near = {
            channel
            for channel, place in places.items()
            if channel not in staying and channel not in removed and measure.distances[row, place] < threshold
        }
        for channel in sorted(near, key=places.__getitem__):
            together = partners.get(channel, frozenset((channel,)))
            if channel not in removed and together <= near and not _empties(measure, {*removed, *together}):
                removed |= dict.fromkeys(sorted(together), reference)
    return removed


def _empties(measure: Measure, removed: set[int]) -> bool:
    return any(layer <= removed for layer in measure.layers)


def _decide(measure: Measure, state: LayerState, history: History, config: PruneConfig) -> tuple[Decision, LayerState]:
    steps = thresholds(config)
    conditions = convergence(len(measure.channels), state.removed, history, config)
    step, patience, raised = state.step, state.patience, False
    if patience > 0:
        patience -= 1
    elif all(conditions.values()) and step < len(steps) - 1:
        step, patience, raised = step + 1, config.patience, True
    removed = removable(measure, steps[step])
    return Decision(steps[step], patience, raised, removed, conditions), LayerState(step, patience, len(removed))

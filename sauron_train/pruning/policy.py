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

from sauron_train.analysis.widths import next_width
from sauron_train.config import PruneConfig
from sauron_train.errors import ConfigError, PruningError


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


def check_history(history: History, config: PruneConfig) -> None:
    """Refuse losses by which nothing can be decided.

    Raises:
        PruningError: no history, one of too few or too many losses, or a loss that is not a number.
        ConfigError: thresholds wait for validation losses, and there are none.
    """
    if not isinstance(history, History):
        raise PruningError("history must be a History(train_losses, val_losses), with the losses of all epochs so far")
    train, val = history.train_losses, history.val_losses
    if not train or len(val) > len(train):
        raise PruningError(
            f"history has {len(train)} training and {len(val)} validation losses; it must hold those of all epochs "
            "so far, this one included"
        )
    if not all(map(math.isfinite, (*train, *val))):
        raise PruningError("history has a loss that is not a number, so nothing can be decided by it")
    if config.converge_on == "validation" and not val:
        raise ConfigError(
            "prune.converge_on is validation, but there are no validation losses, so no threshold would ever rise; "
            "give them in history, or set prune.converge_on to train"
        )


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
    and waits ρ epochs again. In either case every filter nearer to π than the threshold goes, π itself never; of those
    only as many as leave a width that `prune.width_multiple` allows.
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


def removable(measure: Measure, threshold: float, multiple: int = 1) -> dict[int, int]:
    """The channels that go, each with its π: those whose δ_prune is below the threshold (strictly).

    The references have their turn one after the other; one that went before its turn has none, one that had it stays.

    With a multiple above 1 (design choice) only so many of them go that each layer is left with the next of the widths
    of `analysis.widths`, and none where that is no less than it has. Those that are nearest to one that stays at this
    threshold go first, of equals the one of the lowest number; channels that are bound count by their farthest.
    """
    removed = _below(measure, threshold)
    return removed if multiple == 1 else _in_steps(measure, removed, multiple)


def _below(measure: Measure, threshold: float) -> dict[int, int]:
    removed: dict[int, int] = {}
    staying = set(measure.protected)
    places = {channel: place for place, channel in enumerate(measure.channels)}
    partners = _partners(measure)
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


def _in_steps(measure: Measure, removed: Mapping[int, int], multiple: int) -> dict[int, int]:
    """Of what would go as much as leaves every layer a width that is allowed."""
    layers = measure.layers or (frozenset(measure.channels),)
    units = _nearest_first(measure, removed)
    taken = frozenset(removed)
    while True:
        allowed = [len(layer) - min(next_width(len(layer - taken), multiple), len(layer)) for layer in layers]
        taken = _taken(units, layers, allowed)
        # Where layers share channels, or channels are bound, one may not come down so far: then it stops a step before.
        if [len(layer & taken) for layer in layers] == allowed:
            return {channel: reference for channel, reference in removed.items() if channel in taken}


def _nearest_first(measure: Measure, removed: Mapping[int, int]) -> list[frozenset[int]]:
    """What would go, in sets that go as a whole, ordered by how near it is to what would stay."""
    rows = [row for row, reference in enumerate(measure.references) if reference not in removed]
    nearest = dict(zip(measure.channels, measure.distances[rows].min(axis=0).tolist(), strict=True))
    partners = _partners(measure)
    units = {partners.get(channel, frozenset((channel,))) for channel in removed}
    return sorted(units, key=lambda unit: (max(nearest[channel] for channel in unit), min(unit)))


def _taken(units: Sequence[frozenset[int]], layers: Sequence[frozenset[int]], allowed: Sequence[int]) -> frozenset[int]:
    """The first of the units that take no more from each layer than is allowed."""
    taken: frozenset[int] = frozenset()
    for unit in units:
        if all(len(layer & (taken | unit)) <= most for layer, most in zip(layers, allowed, strict=True)):
            taken |= unit
    return taken


def _partners(measure: Measure) -> dict[int, frozenset[int]]:
    return {channel: together for together in measure.bound for channel in together}


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
    removed = removable(measure, steps[step], config.width_multiple)
    return Decision(steps[step], patience, raised, removed, conditions), LayerState(step, patience, len(removed))

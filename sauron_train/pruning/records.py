"""What pruning did and why, layer by layer, in original filter numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sauron_train.pruning.graph import ChannelGraph, Convolution, Cut
from sauron_train.pruning.policy import Decision, Measure


@dataclass(frozen=True)
class LayerRecord:
    """What was measured and decided for one layer in an epoch. Filters carry their original numbers.

    Attributes:
        layer: its name.
        threshold: τ.
        patience: epochs that it still waits.
        raised: whether τ rose in this epoch.
        conditions: what a layer must meet to have converged, by name; τ rises when patience is over and all hold.
        reference: the filter that was π, the first of them with `references: all`; None if π is in a partner layer.
        filters: those it had before the cut.
        delta_prune: δ_prune of each of them to the nearest π, itself left out: with `references: one` to the only one,
            0 for that itself; with `all` to the nearest other map, which need not have had its turn.
        removed: those that go, each with the π that it was too near to; None if that is in a partner layer.
        removed_delta: δ_prune of those to that π, by which they were decided.
    """

    layer: str
    threshold: float
    patience: int
    raised: bool
    conditions: Mapping[str, bool]
    reference: int | None
    filters: tuple[int, ...]
    delta_prune: tuple[float, ...]
    removed: Mapping[int, int | None]
    removed_delta: Mapping[int, float]


@dataclass(frozen=True)
class PruneRecord:
    """What one call of `prune`, or of `cut`, did.

    `removed` names every filter that goes, by layer and original number, partners in sums and norm groups included;
    `layers` says why. It is empty when a user chose the filters.
    """

    cut: Cut
    layers: Mapping[str, LayerRecord]

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Layer name to the original numbers of its filters that go."""
        return dict(self.cut.removed)


def layer_record(layer: str, conv: Convolution, measure: Measure, decision: Decision) -> LayerRecord:
    """What was decided for one layer, out of what was for all that are decided together with it."""
    number = dict(zip(conv.outputs.tolist(), conv.numbers.tolist(), strict=True))
    delta = dict(zip(measure.channels, measure.nearest_reference().tolist(), strict=True))
    own = [number[channel] for channel in measure.references if channel in number]
    return LayerRecord(
        layer,
        decision.threshold,
        decision.patience,
        decision.raised,
        decision.conditions,
        own[0] if own else None,
        tuple(number.values()),
        tuple(delta[channel] for channel in number),
        {number[c]: number.get(reference) for c, reference in decision.removed.items() if c in number},
        {number[c]: measure.between(reference, c) for c, reference in decision.removed.items() if c in number},
    )


def chosen_record(
    graph: ChannelGraph,
    measures: Mapping[str, Measure],
    chosen: Mapping[str, Mapping[int, int]],
    threshold: float = 0.0,
) -> PruneRecord:
    """The record of a cut that is not decided epoch by epoch.

    Args:
        graph: a network none of whose layers are tied.
        measures: δ_prune by layer, with all maps as references.
        chosen: layer name to the channels that go, each with the π that stands for it.
        threshold: τ, if there is one.
    """
    cut = graph.cut_of(channel for removed in chosen.values() for channel in removed)
    decisions = {layer: Decision(threshold, 0, False, removed, {}) for layer, removed in chosen.items()}
    records = {layer: layer_record(layer, graph.layers[layer], measures[layer], d) for layer, d in decisions.items()}
    return PruneRecord(cut, records)


def with_nearest(measure: Measure, gone: Collection[int]) -> dict[int, int]:
    """Channels that go, each with the nearest of those that stay."""
    channels = [c for c in measure.channels if c in gone]
    staying = [place for place, c in enumerate(measure.references) if c not in channels]
    columns = {c: place for place, c in enumerate(measure.channels)}
    return {c: measure.references[staying[int(measure.distances[staying, columns[c]].argmin())]] for c in channels}

"""What an epoch leaves in the log for each layer, from what was measured and decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sauron_train.analysis.clusterability import Clusterability
from sauron_train.probe import LayerProbe
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.records import LayerRecord
from sauron_train.runlog import LayerDistances, LayerMaps, LayerRow, Pruning
from sauron_train.runlog.schema import empty_delta_prune


def layer_rows(
    epoch: int,
    graph: ChannelGraph,
    measured: Mapping[str, Clusterability],
    decided: Mapping[str, LayerRecord],
    prunings: Sequence[Pruning],
) -> list[LayerRow]:
    """The lines of `layers.csv`.

    Args:
        epoch: number of the epoch, from 1.
        graph: the network that leaves it.
        measured: its layers on the probe images.
        decided: what was decided for each layer before its cut; empty when nothing was.
        prunings: what was cut.
    """
    removed = {record.layer: len(record.removed) for record in prunings}
    rows = []
    for layer, filters in graph.widths().items():
        cells: dict[str, Any] = measured[layer].cells()
        row = LayerRow(epoch, layer, filters, **cells, removed=removed.get(layer, 0))
        rows.append(_with_decision(row, decided[layer]) if layer in decided else row)
    return rows


def layer_distances(
    graph: ChannelGraph, probe: Mapping[str, LayerProbe], measured: Mapping[str, Clusterability]
) -> dict[str, LayerDistances]:
    """How the maps of each layer lie to each other, with filters by their original numbers."""
    result = {}
    for layer, found in measured.items():
        numbers = np.array(graph.filters(layer), dtype=np.int32)
        result[layer] = LayerDistances(
            filters=numbers,
            nearest=np.where(found.nearest >= 0, numbers[found.nearest], -1).astype(np.int32),
            nearest_distance=found.nearest_distance.astype(np.float32),
            reference_distance=probe[layer].distances.mean(axis=0)[0].astype(np.float32),
            histogram=found.histogram.astype(np.float32),
        )
    return result


def layer_maps(
    epoch: int, layer: str, graph: ChannelGraph, probe: LayerProbe, decided: LayerRecord | None
) -> LayerMaps | None:
    """What is stored of a layer's maps; None for a layer whose maps are not."""
    if probe.maps is None:
        return None
    filters = graph.filters(layer)
    delta = empty_delta_prune(len(filters))
    if decided is not None:
        by_filter = dict(zip(decided.filters, decided.delta_prune, strict=True))
        delta[:] = [by_filter[number] for number in filters]
    numbers = np.array(filters, dtype=np.int32)
    return LayerMaps(epoch, layer, probe.maps, probe.distances, numbers, delta, probe.pooling)


def _with_decision(row: LayerRow, decision: LayerRecord) -> LayerRow:
    pairs = zip(decision.filters, decision.delta_prune, strict=True)
    others = [delta for number, delta in pairs if number != decision.reference or delta > 0]
    quantiles = np.quantile(others, [0.0, 0.25, 0.5, 0.75]).tolist() if others else [None] * 4
    return replace(
        row,
        delta_prune_min=quantiles[0],
        delta_prune_q25=quantiles[1],
        delta_prune_median=quantiles[2],
        delta_prune_q75=quantiles[3],
        threshold=decision.threshold,
        patience=decision.patience,
        raised=decision.raised,
        reference=decision.reference,
        enough_epochs=decision.conditions.get("enough_epochs"),
        training_loss_settled=decision.conditions.get("training_loss_settled"),
        no_new_best_validation=decision.conditions.get("no_new_best_validation"),
        few_filters_removed=decision.conditions.get("few_filters_removed"),
    )

"""Measures a network on the probe images: distances between maps, and the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sauron_train.analysis.distances import distance_matrix, nearest_among, pool_maps
from sauron_train.metrics import to_labels
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.policy import LayerDecision
from sauron_train.pruning.taps import listen
from sauron_train.runlog import Pruning, RemovedFilter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerProbe:
    """One layer on the probe: `distances` (P, C, C) between scaled maps; `maps` (P, C, *spatial), as they are."""

    distances: Array
    maps: Array

    @property
    def delta_opt(self) -> float:
        """δ_opt of the layer: mean distance to channel 0 over probe images and the other maps; 0 for one filter."""
        return float(self.distances[:, 0, 1:].mean()) if self.distances.shape[1] > 1 else 0.0

    def pooled(self, max_side: int) -> tuple[Array, int]:
        """Maps small enough to keep, float16, and the window they were pooled with."""
        window = -(-max(self.maps.shape[2:]) // max_side)
        small = self.maps if window == 1 else np.stack([pool_maps(maps, window) for maps in self.maps])
        limit = float(np.finfo(np.float16).max)
        return np.clip(small, -limit, limit).astype(np.float16), window


@dataclass(frozen=True)
class ProbeResult:
    """All layers on the probe, and the label maps (P, *spatial) uint8 predicted for it."""

    layers: Mapping[str, LayerProbe]
    prediction: Array


@torch.no_grad()
def measure_probe(model: nn.Module, graph: ChannelGraph, images: Tensor, window: int) -> ProbeResult:
    """Run the network over the probe images, one at a time, in eval mode.

    Args:
        model: the network.
        graph: its prunable layers.
        images: (P, channels, *spatial), on the network's device.
        window: ω.
    """
    training = model.training
    model.eval()
    maps: dict[str, list[Array]] = {layer: [] for layer in graph.layers}
    predictions = []
    with listen(model, graph) as heard:
        for image in images:
            predictions.append(to_labels(model(image.unsqueeze(0))[-1])[0].cpu().numpy())
            for layer, tensor in heard.items():
                maps[layer].append(tensor[0].float().cpu().numpy())
    model.train(training)
    layers = {
        layer: LayerProbe(np.stack([distance_matrix(each, window) for each in stack]), np.stack(stack))
        for layer, stack in maps.items()
    }
    return ProbeResult(layers, np.stack(predictions))


def pruning_records(
    epoch: int,
    decisions: Mapping[str, LayerDecision],
    measures: Mapping[str, Mapping[int, float]],
    graph: ChannelGraph,
    probe: ProbeResult,
) -> list[Pruning]:
    """Describe a cut before it is made: each filter that goes, with the survivor whose map is nearest on the probe.

    Args:
        epoch: number of the epoch, from 1.
        decisions: what goes, by layer.
        measures: δ_prune by layer and original filter number.
        graph: the network before the cut.
        probe: the network before the cut, on the probe images.
    """
    records = []
    for layer, decision in decisions.items():
        if not decision.removed:
            continue
        filters = graph.filters(layer)
        gone = set(decision.removed)
        survivors = np.array([i for i, number in enumerate(filters) if number not in gone])
        nearest, distance = nearest_among(probe.layers[layer].distances.mean(axis=0), survivors)
        removed = tuple(
            RemovedFilter(number, measures[layer][number], filters[nearest[i]], float(distance[i]))
            for i, number in enumerate(filters)
            if number in gone
        )
        records.append(
            Pruning(
                epoch=epoch,
                layer=layer,
                threshold=decision.threshold,
                patience=decision.patience,
                reference=decision.reference,
                filters_before=len(filters),
                filters_after=len(filters) - len(gone),
                removed=removed,
            )
        )
    return records

"""Measures a network on the probe images: distances between maps, and the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sauron_train.analysis.distances import distance_matrix, nearest_among, pool_maps
from sauron_train.metrics import to_labels
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.modes import evaluating
from sauron_train.pruning.sauron import PruneRecord
from sauron_train.pruning.taps import listen
from sauron_train.runlog import Pruning, RemovedFilter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerProbe:
    """One layer on the probe.

    `distances` (P, C, C) between scaled maps; `maps` (P, C, *spatial) float16, average-pooled by `pooling`.
    """

    distances: Array
    maps: Array
    pooling: int

    @property
    def delta_opt(self) -> float:
        """δ_opt of the layer: mean distance to channel 0 over probe images and the other maps; 0 for one filter."""
        return float(self.distances[:, 0, 1:].mean()) if self.distances.shape[1] > 1 else 0.0


@dataclass(frozen=True)
class ProbeResult:
    """All layers on the probe, and the label maps (P, *spatial) uint8 predicted for it."""

    layers: Mapping[str, LayerProbe]
    prediction: Array


@torch.no_grad()
def measure_probe(model: nn.Module, graph: ChannelGraph, images: Tensor, window: int, max_side: int) -> ProbeResult:
    """Run the network over the probe images, in eval mode.

    One image at a time, and of its maps only distances and pooled copies stay: at full resolution the maps of a 3D
    network would fill the memory.

    Args:
        model: the network.
        graph: its prunable layers.
        images: (P, channels, *spatial), on the network's device.
        window: ω.
        max_side: maps are pooled until no side is longer.
    """
    found: dict[str, list[LayerProbe]] = {layer: [] for layer in graph.layers}
    predictions = []
    with evaluating(model), listen(model, graph) as heard:
        for image in images:
            predictions.append(to_labels(model(image.unsqueeze(0))[-1])[0].cpu().numpy())
            for layer, tensor in heard.items():
                found[layer].append(_measure(tensor[0].float().cpu().numpy(), window, max_side))
    return ProbeResult({layer: _together(each) for layer, each in found.items()}, np.stack(predictions))


def _measure(maps: Array, window: int, max_side: int) -> LayerProbe:
    pooling = -(-max(maps.shape[1:]) // max_side)
    limit = float(np.finfo(np.float16).max)
    small = np.clip(pool_maps(maps, pooling), -limit, limit).astype(np.float16)
    return LayerProbe(distance_matrix(maps, window), small, pooling)


def _together(images: Sequence[LayerProbe]) -> LayerProbe:
    distances, maps = (np.stack([getattr(image, name) for image in images]) for name in ("distances", "maps"))
    return LayerProbe(distances, maps, images[0].pooling)


def pruning_records(epoch: int, record: PruneRecord, graph: ChannelGraph, probe: ProbeResult) -> list[Pruning]:
    """Describe a cut before it is made: each filter that goes, with the survivor whose map is nearest on the probe.

    Args:
        epoch: number of the epoch, from 1.
        record: what was decided.
        graph: the network before the cut.
        probe: the network before the cut, on the probe images.
    """
    records = []
    for layer, decided in record.layers.items():
        if not decided.removed:
            continue
        filters = graph.filters(layer)
        gone = set(decided.removed)
        delta = dict(zip(decided.filters, decided.delta_prune, strict=True))
        survivors = np.array([i for i, number in enumerate(filters) if number not in gone])
        nearest, distance = nearest_among(probe.layers[layer].distances.mean(axis=0), survivors)
        removed = tuple(
            RemovedFilter(number, delta[number], filters[nearest[i]], float(distance[i]), decided.removed[number])
            for i, number in enumerate(filters)
            if number in gone
        )
        records.append(
            Pruning(
                epoch=epoch,
                layer=layer,
                threshold=decided.threshold,
                patience=decided.patience,
                reference=decided.reference,
                filters_before=len(filters),
                filters_after=len(filters) - len(gone),
                removed=removed,
            )
        )
    return records

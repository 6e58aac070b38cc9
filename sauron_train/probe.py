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
from sauron_train.pruning.records import PruneRecord
from sauron_train.pruning.taps import listen
from sauron_train.runlog import Pruning, RemovedFilter
from sauron_train.storage import MapsPlan, pooling

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerProbe:
    """One layer on the probe.

    `distances` (P, C, C) float64 between scaled maps; `maps` (P, C, *spatial) float16, average-pooled by `pooling`, or
    None where they are not stored.
    """

    distances: Array
    maps: Array | None
    pooling: int


@dataclass(frozen=True)
class ProbeResult:
    """All layers on the probe, and the label maps (P, *spatial) uint8 predicted for it."""

    layers: Mapping[str, LayerProbe]
    prediction: Array


@torch.no_grad()
def measure_probe(
    model: nn.Module, graph: ChannelGraph, images: Tensor, window: int, keep: MapsPlan | None = None
) -> ProbeResult:
    """Run the network over the probe images, in eval mode.

    One image at a time, and of its maps only distances and pooled copies stay: at full resolution the maps of a 3D
    network would fill the memory.

    Args:
        model: the network.
        graph: its prunable layers.
        images: (P, channels, *spatial), on the network's device.
        window: ω.
        keep: which maps are kept, and how small; None = distances only.
    """
    found: dict[str, list[LayerProbe]] = {layer: [] for layer in graph.layers}
    predictions = []
    with evaluating(model), listen(model, graph) as heard:
        for image in images:
            predictions.append(to_labels(model(image.unsqueeze(0))[-1])[0].cpu().numpy())
            for layer, tensor in heard.items():
                plan = keep if keep is not None and layer in keep.layers else None
                found[layer].append(_measure(tensor[0].float().cpu().numpy(), window, plan))
    return ProbeResult({layer: _together(each) for layer, each in found.items()}, np.stack(predictions))


def map_shapes(model: nn.Module, graph: ChannelGraph, image: Tensor) -> dict[str, tuple[int, ...]]:
    """(C, *spatial) of every prunable layer's maps for an image (channels, *spatial)."""
    with torch.no_grad(), evaluating(model), listen(model, graph) as heard:
        model(image.unsqueeze(0))
        return {layer: tuple(maps.shape[1:]) for layer, maps in heard.items()}


def _measure(maps: Array, window: int, keep: MapsPlan | None) -> LayerProbe:
    distances = distance_matrix(maps, window)
    if keep is None:
        return LayerProbe(distances, None, 1)
    by = pooling(maps.shape[1:], keep.max_side)
    limit = float(np.finfo(np.float16).max)
    small = np.clip(pool_maps(maps, by), -limit, limit).astype(np.float16)
    return LayerProbe(distances, small, by)


def _together(images: Sequence[LayerProbe]) -> LayerProbe:
    maps = [image.maps for image in images if image.maps is not None]
    distances = np.stack([image.distances for image in images])
    return LayerProbe(distances, np.stack(maps) if maps else None, images[0].pooling)


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
        survivors = np.array([i for i, number in enumerate(filters) if number not in gone])
        nearest, distance = nearest_among(probe.layers[layer].distances.mean(axis=0), survivors)
        removed = tuple(
            RemovedFilter(
                number, decided.removed_delta[number], filters[nearest[i]], float(distance[i]), decided.removed[number]
            )
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

"""Lets the survivors speak for the filters that go.

A cut drops a filter together with everything its readers did with it, and the output jumps. Here each map that goes is
first written as scale · (a surviving map of its layer) + shift by least squares, and that is folded into the readers'
weights and biases. An exact duplicate then leaves without a trace (design choice; the paper cuts without it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sauron_train.pruning.graph import ChannelGraph, Convolution, Cut


class MapMoments:
    """Means and covariances of the maps of a layer, over all voxels and samples of the batches counted in."""

    def __init__(self, maps: Tensor) -> None:
        """Begin with maps (B, C, *spatial)."""
        flat = _by_map(maps)
        channels = len(flat)
        # Products are taken around a fixed value of each map: float32 is then exact enough where a map barely varies.
        self._origin = flat.mean(dim=1, keepdim=True)
        self._voxels = 0
        self._sums = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)
        self.add(maps)

    def add(self, maps: Tensor) -> None:
        """Count maps (B, C, *spatial) in."""
        flat = _by_map(maps) - self._origin
        self._voxels += flat.shape[1]
        self._sums += flat.sum(dim=1).cpu().double()
        self._products += (flat @ flat.T).cpu().double()

    @property
    def mean(self) -> Tensor:
        """(C,) float64."""
        return self._sums / self._voxels + self._origin.squeeze(1).cpu().double()

    @property
    def covariance(self) -> Tensor:
        """(C, C) float64."""
        centre = self._sums / self._voxels
        return self._products / self._voxels - centre[:, None] * centre[None, :]


@dataclass(frozen=True)
class Substitute:
    """The map `removed` is nearly scale · `survivor` + shift; both are channel identities of the graph."""

    removed: int
    survivor: int
    scale: float
    shift: float


def substitutes(graph: ChannelGraph, cut: Cut, moments: Mapping[str, MapMoments]) -> list[Substitute]:
    """For every channel of the cut the survivor of its layer that explains it best, by least squares.

    Channels that several layers make together (residual sums) have no substitute.
    """
    makers: dict[int, int] = {}
    for layer in graph.layers.values():
        for channel in layer.outputs.tolist():
            makers[channel] = makers.get(channel, 0) + 1
    found: list[Substitute] = []
    for name in cut.removed:
        ids = graph.layers[name].outputs.tolist()
        gone = [i for i, channel in enumerate(ids) if channel in cut.ids and makers[channel] == 1]
        kept = [i for i, channel in enumerate(ids) if channel not in cut.ids]
        found += _explain(ids, gone, kept, moments[name])
    return found


def fold(model: nn.Module, graph: ChannelGraph, substitute: Iterable[Substitute]) -> None:
    """Add what readers do with a channel that goes to what they do with its substitute.

    The shift goes into the readers' biases: exactly inside the image, and up to its border (where padding is zero)
    and, for transposed convolutions, on average over their kernel.
    """
    chosen = list(substitute)
    for conv in graph.convolutions().values():
        places = {channel: place for place, channel in enumerate(conv.inputs.tolist())}
        here = [s for s in chosen if s.removed in places and s.survivor in places]
        if here:
            _fold_into(model.get_submodule(conv.module), conv, here, places)


def _by_map(maps: Tensor) -> Tensor:
    return maps.detach().movedim(1, 0).flatten(1).float()


def _explain(ids: list[int], gone: list[int], kept: list[int], moments: MapMoments) -> list[Substitute]:
    if not gone:
        return []
    mean, covariance = moments.mean, moments.covariance
    variance = covariance.diagonal().clamp_min(0)
    usable = variance[kept] > 0
    explained = torch.where(usable, covariance[gone][:, kept] ** 2 / variance[kept].masked_fill(~usable, 1), 0)
    result = []
    for row, removed in enumerate(gone):
        survivor = kept[int(explained[row].argmax())]
        scale = float(covariance[removed, survivor] / variance[survivor]) if variance[survivor] > 0 else 0.0
        shift = float(mean[removed] - scale * mean[survivor])
        result.append(Substitute(ids[removed], ids[survivor], scale, shift))
    return result


@torch.no_grad()
def _fold_into(module: Any, conv: Convolution, here: list[Substitute], places: Mapping[int, int]) -> None:
    weight: Tensor = module.weight
    by_input = weight if conv.kind == "trans" else weight.transpose(0, 1)  # a view: (inputs, outputs, *kernel)
    for s in here:
        removed = by_input[places[s.removed]].clone()
        by_input[places[s.survivor]] += s.scale * removed
        if module.bias is not None:
            over_kernel = removed.flatten(1)
            total = over_kernel.mean(dim=1) if conv.kind == "trans" else over_kernel.sum(dim=1)
            module.bias += s.shift * total

"""Lets the survivors speak for the filters that go.

A cut drops a filter together with everything its readers did with it, and the output jumps. Here each reader gets, for
each map that it loses, scale · (a surviving map of the same layer) + shift instead, by least squares over what it
reads, and that is folded into its weights and bias. An exact duplicate then leaves without a trace (design choice; the
paper cuts without it). Because it is fitted on what readers read, it holds whatever lies between a layer and them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sauron_train.pruning.distances import precise
from sauron_train.pruning.graph import ChannelGraph, Convolution, Cut

# Then no survivor is taken more than ten times: by Cauchy and Schwarz the factor is at most the root of the inverse.
_LEAST_POWER = 1e-2

Mask = npt.NDArray[np.bool_]


class ReaderMoments:
    """Means and covariances of the channels that a convolution reads, over all voxels and samples counted in."""

    def __init__(self) -> None:
        self._voxels = 0
        self._origin = self._sums = self._products = torch.zeros(0)

    def add(self, maps: Tensor) -> None:
        """Count an input (B, channels, *spatial) in."""
        for image in maps.detach():  # one at a time: in double precision a whole batch would fill the memory
            self._add(precise(image.flatten(1)))

    def _add(self, flat: Tensor) -> None:
        if self._voxels == 0:
            # Products are taken around a fixed value of each map, so that little is lost where one barely varies.
            self._origin = flat.mean(dim=1, keepdim=True)
            self._sums = torch.zeros(len(flat), dtype=torch.float64)
            self._products = torch.zeros(len(flat), len(flat), dtype=torch.float64)
        flat = flat - self._origin
        self._voxels += flat.shape[1]
        self._sums += flat.sum(dim=1).cpu().double()
        self._products += (flat @ flat.T).cpu().double()

    def gather(self, channels: int, total: Callable[[Tensor], Tensor]) -> None:
        """Count in what the other processes of a training have counted; all do this at the same time.

        Args:
            channels: C, of a process that may have counted nothing.
            total: sums a tensor over the processes.
        """
        nothing = torch.zeros(channels, 1, dtype=torch.float64)
        ours = self._origin.cpu().double() if self._voxels else nothing
        counting = total(torch.tensor(float(self._voxels > 0), dtype=torch.float64))
        common = total(ours) / counting.clamp_min(1)
        if not self._voxels:
            self._sums, self._products = nothing[:, 0], nothing @ nothing.T
        # The same sums around the origin that all have in common.
        shift = (ours - common)[:, 0]
        crossed = torch.outer(self._sums, shift)
        products = self._products + crossed + crossed.T + self._voxels * torch.outer(shift, shift)
        self._sums, self._products = total(self._sums + self._voxels * shift), total(products)
        self._voxels = int(total(torch.tensor(self._voxels)))
        self._origin = common

    @property
    def mean(self) -> Tensor:
        """(C,) float64."""
        return self._sums / self._voxels + self._origin.squeeze(1).cpu().double()

    @property
    def covariance(self) -> Tensor:
        """(C, C) float64."""
        centre = self._sums / self._voxels
        return self._products / self._voxels - centre[:, None] * centre[None, :]

    @property
    def second(self) -> Tensor:
        """(C, C) float64: mean products, not around the mean."""
        return self.covariance + self.mean[:, None] * self.mean[None, :]


@contextmanager
def overhear(model: nn.Module, graph: ChannelGraph, wanted: bool) -> Iterator[dict[str, ReaderMoments]]:
    """Count what every convolution reads in the passes inside the block, by its name; nothing unless wanted."""
    moments = {name: ReaderMoments() for name in graph.convolutions()} if wanted else {}

    def counting(name: str) -> Any:
        return lambda _module, inputs, keywords: moments[name].add(inputs[0] if inputs else keywords["input"])

    handles = [
        model.get_submodule(conv.module).register_forward_pre_hook(counting(name), with_kwargs=True)
        for name, conv in graph.convolutions().items()
        if wanted
    ]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


def fold(model: nn.Module, graph: ChannelGraph, cut: Cut, readers: Mapping[str, ReaderMoments]) -> None:
    """Before a cut: add what each reader does with a channel that goes to what it does with its best substitute.

    The shift goes into the readers' biases: exactly inside the image, and up to its border (where padding is zero)
    and, for transposed convolutions, on average over their kernel. A reader without bias gets the best multiple.
    """
    makers = _makers(graph)
    for name, conv in graph.convolutions().items():
        gone = np.isin(conv.inputs, list(cut.ids))
        if gone.any() and name in readers and readers[name]._voxels:
            _fold_into(model.get_submodule(conv.module), conv, gone, readers[name], makers)


def _makers(graph: ChannelGraph) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name, layer in graph.layers.items():
        for channel in layer.outputs.tolist():
            found.setdefault(channel, set()).add(name)
    return {channel: frozenset(names) for channel, names in found.items()}


@torch.no_grad()
def _fold_into(
    module: Any, conv: Convolution, gone: Mask, moments: ReaderMoments, makers: Mapping[int, frozenset[str]]
) -> None:
    weight: Tensor = module.weight
    by_input = weight if conv.kind == "trans" else weight.transpose(0, 1)  # a view: (inputs, outputs, *kernel)
    shifted = module.bias is not None
    mean = moments.mean if shifted else torch.zeros_like(moments.mean)
    products = moments.covariance if shifted else moments.second
    for place in np.flatnonzero(gone).tolist():
        ours = makers.get(int(conv.inputs[place]), frozenset())
        kept = [
            other
            for other, channel in enumerate(conv.inputs.tolist())
            if not gone[other] and ours & makers.get(channel, frozenset())
        ]
        if not kept:
            continue
        survivor, scale = _best(products, place, kept)
        removed = by_input[place].clone()
        by_input[survivor] += scale * removed
        if shifted:
            over_kernel = removed.flatten(1)
            total = over_kernel.mean(dim=1) if conv.kind == "trans" else over_kernel.sum(dim=1)
            module.bias += float(mean[place] - scale * mean[survivor]) * total


def _best(products: Tensor, place: int, kept: list[int]) -> tuple[int, float]:
    """The survivor that leaves the least of the map unexplained, and the factor it is taken with.

    A survivor that barely varies beside the map would have to be taken many times over, and with it its noise on images
    that were not measured: such a one is not used, and where there is no other the factor is 0.
    """
    power = products.diagonal()[kept].clamp_min(0)
    usable = power > _LEAST_POWER * products[place, place]
    with_each = products[place, kept]
    explained = torch.where(usable, with_each.square() / power.masked_fill(~usable, 1), 0)
    best = int(explained.argmax())
    return kept[best], float(with_each[best] / power[best]) if usable[best] else 0.0

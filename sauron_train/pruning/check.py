"""Tries cuts on a copy of a network before any is made: what was misunderstood is left whole.

Tracing sees what a network does with the example, not why: `if a.shape == b.shape` or a channel count that `forward`
remembers may do something else once filters are gone. A cut network must compute what the uncut one computes when
nobody reads the maps that went; groups of layers for which it does not are never cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sauron_train.errors import PruningError
from sauron_train.pruning.graph import ChannelGraph, Cut
from sauron_train.pruning.recording import plain, tensors_in, undisturbed
from sauron_train.pruning.surgery import cut_network

# Sums in another order differ by some 1e-6; a channel in another's place by as much as the output itself.
_TOLERANCE = 1e-3
# There products of float32 are rounded to TF32, by which outputs differ by more than that.
_ROUNDING = {"cuda"}
_WHY = "a trial cut of it changed more than the maps that went, so its part of the network is not understood"

Group = tuple[str, ...]


def checked(model: nn.Module, graph: ChannelGraph, example: Tensor | tuple[Any, ...]) -> ChannelGraph:
    """The graph without the layers for which a trial cut goes wrong; a network that cannot be copied is not tried.

    Args:
        model: the network, left as it is.
        graph: what was read of it.
        example: what it was traced with.
    """
    arguments = plain(example if isinstance(example, tuple) else (example,))
    try:
        holds = _holds(model, graph, graph.groups(), arguments)
    except _NoCopyError:
        return graph
    while graph.layers and not holds:
        groups = graph.groups()
        wrong = [group for group in groups if not _holds(model, graph, [group], arguments)] or groups
        graph = graph.left_whole({layer: _WHY for group in wrong for layer in group})
        holds = _holds(model, graph, graph.groups(), arguments)
    return graph


class _NoCopyError(Exception):
    """A network that cannot be copied."""


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # somebody's own attributes, such as open files or tensors with a history
        raise _NoCopyError from error


def _holds(model: nn.Module, graph: ChannelGraph, groups: Sequence[Group], arguments: tuple[Any, ...]) -> bool:
    cut = _trial(graph, groups)
    if not cut:
        return True
    masked, smaller = _copied(model), _copied(model)
    _mask(masked, graph, cut)
    run, expected = _exactly(masked, arguments)
    try:
        cut_network(smaller, graph, cut)
        ours = run(smaller, arguments)
    except Exception:  # somebody's forward met a width that it did not expect
        return False
    return _alike(ours, expected)


def _trial(graph: ChannelGraph, groups: Sequence[Group]) -> Cut:
    """Every third channel of each group, as far as no layer is emptied."""
    chosen: set[int] = set()
    cut = Cut(frozenset(), {})
    for group in groups:
        channels = dict.fromkeys(c for layer in group for c in graph.layers[layer].outputs.tolist())
        for channel in [*channels][::3]:
            try:
                cut = graph.cut_of({*chosen, channel})
            except PruningError:
                continue
            chosen.add(channel)
    return cut


@torch.no_grad()
def _mask(model: nn.Module, graph: ChannelGraph, cut: Cut) -> None:
    for conv in graph.convolutions().values():
        weight: Any = model.get_submodule(conv.module).weight
        reads = torch.from_numpy(np.flatnonzero(np.isin(conv.inputs, list(cut.ids)))).to(weight.device)
        weight.index_fill_(0 if conv.kind == "trans" else 1, reads, 0.0)


def _run(model: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with undisturbed(model, training=False), torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(0)
        return tensors_in(model(*arguments))


Run = Callable[[nn.Module, tuple[Any, ...]], list[Tensor]]


def _exactly(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Run, list[Tensor]]:
    """How networks are to be run so that rounding does not tell them apart, and what this one gives then."""
    if not any(parameter.device.type in _ROUNDING for parameter in model.parameters()):
        return _run, _run(model, arguments)
    try:
        return _run_in_double, _run_in_double(model, arguments)
    except Exception:  # somebody's forward names another type, or there is no memory for it
        return _run_unrounded, _run_unrounded(model, arguments)


def _run_unrounded(model: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    cudnn = torch.backends.cudnn
    how = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    with cudnn.flags(**how, allow_tf32=False):
        return _run(model, arguments)


def _run_in_double(model: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    in_double = tree_map_only(Tensor, lambda given: given.double() if given.is_floating_point() else given, arguments)
    return _run(copy.deepcopy(model).double(), in_double)


def _alike(ours: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    if [o.shape for o in ours] != [e.shape for e in expected]:
        return False
    for one, other in zip(ours, expected, strict=True):
        if not other.is_floating_point():
            continue
        finite = other[other.isfinite()]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        if not torch.allclose(one, other, rtol=0, atol=_TOLERANCE * scale + 1e-12, equal_nan=True):
            return False
    return True

"""Cuts filters out of a network and its optimizer.

Parameters keep their identity: their data is replaced, not the parameter. Whoever holds them (optimizer groups and
their order, wrappers, hooks) goes on holding the right ones, each exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sauron_train.errors import PruningError
from sauron_train.pruning.graph import ChannelGraph, Convolution, Cut, Ids

Slice = tuple[Any, str, int, Ids]
"""Module, name of its tensor, axis, and the places along it that stay."""


def cut_network(model: nn.Module, graph: ChannelGraph, cut: Cut, optimizer: Optimizer | None = None) -> ChannelGraph:
    """Remove the channels of a cut from every layer that makes, normalises or reads them.

    The network then computes exactly what the uncut one computes with the consumers' weights for these channels set to
    zero. Gradients are dropped; optimizer state that has the shape of its parameter is sliced with it.

    Args:
        model: the network that `graph` was traced from, changed in place.
        graph: its channels as they are now.
        cut: what goes, from `graph.resolve`.
        optimizer: any torch optimizer that holds parameters of the model.

    Returns:
        The graph of the smaller network.

    Raises:
        PruningError: the graph does not fit the network; nothing has been changed then.
    """
    if not cut:
        return graph
    for module, name, axis, keep in plan(model, graph, cut):
        tensor: Tensor = getattr(module, name)
        index = torch.as_tensor(keep, device=tensor.device)
        if isinstance(tensor, nn.Parameter):
            _slice_parameter(tensor, axis, index, optimizer)
        else:
            setattr(module, name, tensor.index_select(axis, index))
    after = graph.without(cut)
    _set_sizes(model, after)
    return after


def plan(model: nn.Module, graph: ChannelGraph, cut: Cut) -> list[Slice]:
    """All that a cut has to slice, checked against the network; changes nothing.

    Raises:
        PruningError: the graph does not fit the network.
    """
    gone = np.fromiter(cut.ids, dtype=np.int64, count=len(cut.ids))
    return list(_plan(model, graph, gone))


def _plan(model: nn.Module, graph: ChannelGraph, gone: Ids) -> Iterator[Slice]:
    for conv in (*graph.layers.values(), *graph.fixed):
        module = model.get_submodule(conv.module)
        makes, reads = (1, 0) if conv.kind == "trans" else (0, 1)
        yield from _slices(module, ("weight",), makes, conv.outputs, gone)
        yield from _slices(module, ("weight",), reads, conv.inputs, gone)
        yield from _slices(module, ("bias",), 0, conv.outputs, gone)
    for name, ids in graph.norms.items():
        module = model.get_submodule(name)
        yield from _slices(module, ("weight", "bias", "running_mean", "running_var"), 0, ids, gone)


def _slices(module: nn.Module, names: tuple[str, ...], axis: int, ids: Ids, gone: Ids) -> Iterator[Slice]:
    keep = np.flatnonzero(~np.isin(ids, gone))
    if len(keep) == len(ids):
        return
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        if tensor.shape[axis] != len(ids):
            raise PruningError(
                f"{type(module).__name__}.{name} has {tensor.shape[axis]} channels where the traced network has "
                f"{len(ids)}; trace the network again"
            )
        yield module, name, axis, keep


def _slice_parameter(parameter: nn.Parameter, axis: int, keep: Tensor, optimizer: Optimizer | None) -> None:
    shape = parameter.shape
    state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == shape:
            state[key] = value.index_select(axis, keep)
    parameter.grad = None
    kept = parameter.data.index_select(axis, keep)
    # A graph that is still alive (a loss that somebody holds) keeps the parameter's gradient accumulator, which
    # remembers the old shape; torch makes a new one only when the type of the data changes.
    other = torch.float32 if parameter.dtype == torch.float16 else torch.float16
    parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = kept


def _set_sizes(model: nn.Module, graph: ChannelGraph) -> None:
    for conv in (*graph.layers.values(), *graph.fixed):
        _set_conv_size(model.get_submodule(conv.module), conv)
    for name, ids in graph.norms.items():
        norm: Any = model.get_submodule(name)
        norm.num_features = len(ids)


def _set_conv_size(module: Any, conv: Convolution) -> None:
    module.in_channels, module.out_channels = len(conv.inputs), len(conv.outputs)

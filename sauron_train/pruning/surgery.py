"""Cuts filters out of a network and its optimizer.

Parameters keep their identity: their data is replaced, not the parameter. Whoever holds them (optimizer groups and
their order, wrappers, hooks) goes on holding the right ones, each exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sauron_train.errors import MismatchError
from sauron_train.pruning.graph import ChannelGraph, Cut, Follower, Ids

Optimizers = Optimizer | Sequence[Optimizer] | None


@dataclass(frozen=True)
class Slice:
    """The places along an axis of a module's tensor that stay."""

    module: nn.Module
    name: str
    axis: int
    keep: Ids

    @property
    def tensor(self) -> Tensor:
        """The tensor as it is now."""
        return getattr(self.module, self.name)  # type: ignore[no-any-return]


def cut_network(model: nn.Module, graph: ChannelGraph, cut: Cut, optimizer: Optimizers = None) -> ChannelGraph:
    """Remove the channels of a cut from every layer that makes, normalises or reads them.

    The network then computes exactly what the uncut one computes with the consumers' weights for these channels set to
    zero. Gradients are dropped; optimizer state that has the shape of its parameter is sliced with it.

    Args:
        model: the network that `graph` was traced from, changed in place.
        graph: its channels as they are now.
        cut: what goes, from `graph.resolve`.
        optimizer: the one, or those, that hold parameters of the model.

    Returns:
        The graph of the smaller network.

    Raises:
        MismatchError: the graph or the optimizer's state does not fit the network; nothing has been changed then.
    """
    if not cut:
        return graph
    states = [each.state for each in _several(optimizer)]
    for piece in plan(model, graph, cut, optimizer):
        index = torch.as_tensor(piece.keep, device=piece.tensor.device)
        if isinstance(piece.tensor, nn.Parameter):
            _slice_parameter(piece.tensor, piece.axis, index, [state.get(piece.tensor, {}) for state in states])
        else:
            setattr(piece.module, piece.name, piece.tensor.index_select(piece.axis, index))
    after = graph.without(cut)
    _set_sizes(model, after)
    return after


def plan(model: nn.Module, graph: ChannelGraph, cut: Cut, optimizer: Optimizers = None) -> list[Slice]:
    """All that a cut has to slice, checked against network and optimizer; changes nothing.

    Raises:
        MismatchError: the graph or the optimizer's state does not fit the network.
    """
    pieces = list(_plan(model, graph, list(cut.ids)))
    if optimizer is None and any(piece.tensor.grad is not None for piece in pieces if piece.tensor.is_leaf):
        raise MismatchError(
            "the network has gradients, so something trains it; give its optimizer, whose state is cut with it, or () "
            "if there is none"
        )
    for each in _several(optimizer):
        _check_optimizer(each, model)
    return pieces


def _several(optimizer: Optimizers) -> tuple[Optimizer, ...]:
    if optimizer is None:
        return ()
    several = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)
    for each in several:
        if not isinstance(each, Optimizer):
            raise MismatchError(f"optimizer must be a torch optimizer, or several; this is a {type(each).__name__}")
    return several


def _plan(model: nn.Module, graph: ChannelGraph, gone: list[int]) -> Iterator[Slice]:
    for conv in graph.convolutions().values():
        module = model.get_submodule(conv.module)
        makes, reads = (1, 0) if conv.kind == "trans" else (0, 1)
        yield from _slices(module, ("weight",), makes, conv.outputs, gone)
        yield from _slices(module, ("weight",), reads, conv.inputs, gone)
        yield from _slices(module, ("bias",), 0, conv.outputs, gone)
    for name, follower in graph.followers.items():
        module = model.get_submodule(name)
        yield from _slices(module, ("weight", "bias", "running_mean", "running_var"), 0, follower.channels, gone)


def _slices(module: nn.Module, names: tuple[str, ...], axis: int, ids: Ids, gone: list[int]) -> Iterator[Slice]:
    keep = np.flatnonzero(~np.isin(ids, gone))
    if len(keep) == len(ids):
        return
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        if tensor.shape[axis] != len(ids):
            raise MismatchError(
                f"{type(module).__name__}.{name} has {tensor.shape[axis]} channels where the traced network has "
                f"{len(ids)}; trace the network again"
            )
        yield Slice(module, name, axis, keep)


def _check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    kind = type(optimizer).__name__
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    if held.isdisjoint(names):
        raise MismatchError(f"this {kind} holds no parameter of the network; give the optimizer that trains it")
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            fits = not isinstance(value, (Tensor, list, tuple, dict)) or (
                isinstance(value, Tensor) and (value.numel() <= 1 or value.shape == parameter.shape)
            )
            if not fits and id(parameter) in names:
                shape = (
                    f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f" as a {type(value).__name__}"
                )
                raise MismatchError(
                    f"{kind} keeps {key!r}{shape} for {names[id(parameter)]} of shape {tuple(parameter.shape)}, which "
                    "cannot be cut with it; use an optimizer whose state has the shape of its parameter, such as Adam"
                )


def _slice_parameter(parameter: nn.Parameter, axis: int, keep: Tensor, states: Sequence[dict[str, Any]]) -> None:
    shape = parameter.shape
    for state in states:
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
    for conv in graph.convolutions().values():
        module: Any = model.get_submodule(conv.module)
        module.in_channels, module.out_channels = len(conv.inputs), len(conv.outputs)
    for name, follower in graph.followers.items():
        _set_follower_size(model.get_submodule(name), follower)


def _set_follower_size(module: Any, follower: Follower) -> None:
    channels = len(follower.channels)
    match follower.kind:
        case "norm":
            module.num_features = channels
        case "group_norm":
            module.num_channels, module.num_groups = channels, channels // follower.group
        case "prelu":
            module.num_parameters = channels
        case "depthwise":
            module.in_channels = module.out_channels = module.groups = channels

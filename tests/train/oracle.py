"""The oracle: a cut network computes what the uncut one computes with the removed channels' readers set to zero."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sauron_train.errors import EmptyLayerError
from sauron_train.pruning.graph import ChannelGraph, Cut
from sauron_train.pruning.surgery import cut_network

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
}


def masked(model: nn.Module, graph: ChannelGraph, cut: Cut) -> nn.Module:
    """A copy of the uncut network in which nobody reads the channels of the cut."""
    twin = copy.deepcopy(model)
    _mask(twin, graph, cut)
    return twin


@torch.no_grad()
def _mask(model: nn.Module, graph: ChannelGraph, cut: Cut) -> None:
    gone = np.array(sorted(cut.ids))
    for conv in graph.convolutions().values():
        reads = torch.tensor(np.flatnonzero(np.isin(conv.inputs, gone)), dtype=torch.long)
        model.get_submodule(conv.module).weight.index_fill_(0 if conv.kind == "trans" else 1, reads, 0.0)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """All tensors that a network returns."""
    result: Any = model(x)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def train(model: nn.Module, optimizer: Optimizer, x: Tensor) -> None:
    """One step towards nothing in particular."""
    optimizer.zero_grad()
    torch.stack([y.square().mean() for y in outputs(model, x)]).sum().backward()
    optimizer.step()


def random_cut(graph: ChannelGraph, rng: np.random.Generator, share: float) -> Cut:
    """A share of the filters of every layer; less where partners in sums would leave a layer empty."""
    chosen: dict[str, list[int]] = {}
    for layer in graph.layers:
        wanted = [f for f in graph.filters(layer) if rng.random() < share]
        while wanted:
            try:
                graph.resolve({**chosen, layer: wanted})
            except EmptyLayerError:
                wanted.pop()
            else:
                break
        chosen[layer] = wanted
    return graph.resolve(chosen)


def assert_equal_outputs(model: nn.Module, twin: nn.Module, x: Tensor) -> None:
    """Both compute the same in evaluation, to 1e-10."""
    model.eval(), twin.eval()
    for ours, expected in zip(outputs(model, x), outputs(twin, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def assert_trains_alike(
    model: nn.Module,
    optimizer: Optimizer,
    before: tuple[Any, Any],
    graph: ChannelGraph,
    cut: Cut,
    x: Tensor,
) -> None:
    """A step of the cut network is a step of the masked one, so its optimizer's state belongs to the right filters.

    Args:
        model: the cut network.
        optimizer: its optimizer.
        before: copies of both from before the cut.
        graph: the network's from before the cut.
        cut: what went.
        x: images.
    """
    uncut, its_optimizer = before
    _mask(uncut, graph, cut)
    train(uncut.train(), its_optimizer, x)
    train(model.train(), optimizer, x)
    cut_network(uncut, graph, cut, ())
    for (name, ours), expected in zip(model.named_parameters(), uncut.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def assert_optimizer_fits(model: nn.Module, optimizer: Optimizer) -> None:
    """Every trainable parameter is in the optimizer exactly once, with state of its shape."""
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for parameter, state in optimizer.state.items():
        assert all(v.shape == parameter.shape for v in state.values() if isinstance(v, Tensor) and v.ndim)

"""Listens to the maps of a network's prunable layers while it runs.

A map is what leaves a whole block: the output of convolution, norm and activation, in a residual block with the sum
before its activation, or of a bare transposed convolution. Where the end of a block is no module but an operation in
somebody's `forward`, the operation is done again on what the modules before it gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sauron_train.pruning.recording import is_ours, ours

if TYPE_CHECKING:
    from sauron_train.pruning.graph import ChannelGraph


@dataclass(frozen=True)
class Heard:
    """The output of a module's `call`-th call in a forward pass, from 0."""

    module: str
    call: int = 0


@dataclass(frozen=True)
class Again:
    """The result of an operation on what was heard; one that works in place has changed its first argument already."""

    operation: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    in_place: bool


Tap = Heard | Again


@dataclass(frozen=True)
class Taps:
    """Where each layer's map is heard: on the way that the network takes while it trains, and in evaluation."""

    training: Mapping[str, Tap] = field(default_factory=dict)
    evaluation: Mapping[str, Tap] = field(default_factory=dict)

    def of(self, training: bool) -> Mapping[str, Tap]:
        """Those of one way."""
        return self.training if training else self.evaluation


class Maps(Mapping[str, Tensor]):
    """Layer name to maps (B, C, *spatial) of the latest forward pass, in the order of the network.

    Layers whose block ends in the same sum share one tensor.
    """

    def __init__(self, taps: Taps, layers: tuple[str, ...]) -> None:
        self._taps = taps
        self._layers = layers
        self._way: Mapping[str, Tap] = {}
        self._heard: dict[Heard, Tensor] = {}
        self._calls: dict[str, int] = {}
        self._made: dict[int, Tensor] = {}
        self._linked = False
        self._unlinked: set[str] = set()

    def begin(self, training: bool) -> None:
        """Forget the pass before; a new one begins."""
        self.clear()
        self._way = self._taps.of(training)
        self._linked = torch.is_grad_enabled()

    def clear(self) -> None:
        """Let go of all tensors."""
        self._way = {}
        self._heard.clear()
        self._calls.clear()
        self._made.clear()
        self._unlinked.clear()

    def without_gradient(self, layer: str) -> bool:
        """Whether a layer's map was made without gradient in a pass that has one."""
        return any(heard.module in self._unlinked for heard in _modules(self._way[layer]))

    @property
    def of_network(self) -> bool:
        """Whether all maps are those that the network goes on with, and none was made again."""
        return all(isinstance(tap, Heard) for tap in self._way.values())

    def hear(self, module: str, output: Tensor) -> None:
        """Keep what a module gave."""
        call = self._calls.get(module, 0)
        self._calls[module] = call + 1
        self._heard[Heard(module, call)] = output
        if self._linked and not torch.is_grad_enabled():
            self._unlinked.add(module)

    def __getitem__(self, layer: str) -> Tensor:
        tap = self._way[layer]
        if id(tap) not in self._made:
            self._made[id(tap)] = self._make(tap)
        return self._made[id(tap)]

    def __iter__(self) -> Iterator[str]:
        return (layer for layer in self._layers if layer in self._way)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _make(self, tap: Any) -> Any:
        if isinstance(tap, Heard):
            return self._heard[tap]
        if isinstance(tap, Again):
            if tap.in_place:
                return self._make(tap.arguments[0])
            return tap.operation(*map(self._make, tap.arguments), **tap.keywords)
        return tap


@contextmanager
def listen(model: nn.Module, graph: ChannelGraph) -> Iterator[Maps]:
    """Collect the maps of every prunable layer from the forward passes inside the block.

    Maps of a later pass replace those of an earlier one; none are heard before the first.
    """
    maps = Maps(graph.taps, tuple(graph.layers))
    handles = attach(model, maps)
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def attach(model: nn.Module, maps: Maps, only_training: bool = False) -> list[Any]:
    """Let maps hear a network from now on.

    Args:
        model: the network that they belong to.
        maps: they forget a pass when the next begins.
        only_training: leave out the passes in evaluation.

    Returns:
        Handles; `remove()` on each ends it.
    """
    active = False

    def begin(module: nn.Module, _inputs: Any) -> None:
        nonlocal active
        # Hooks go along when a network is copied; the copy must not speak for it.
        active = module is model and (module.training or not only_training)
        if active:
            maps.begin(module.training)

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal active
        active = False

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if active:
                maps.hear(name, output)

        return hook

    taps = maps._taps
    names = sorted({heard.module for tap in _all(taps) for heard in _modules(tap)})
    handles: list[Any] = [model.register_forward_pre_hook(ours(begin))]
    handles += [model.get_submodule(name).register_forward_hook(ours(keep(name))) for name in names]
    return [*handles, model.register_forward_hook(ours(end))]


def detach(model: nn.Module) -> None:
    """Let nobody hear a network any more."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if is_ours(hook)]:
                del hooks[key]


def _all(taps: Taps) -> list[Tap]:
    return [*taps.training.values(), *taps.evaluation.values()]


def _modules(tap: Any) -> list[Heard]:
    if isinstance(tap, Heard):
        return [tap]
    return [heard for part in tap.arguments for heard in _modules(part)] if isinstance(tap, Again) else []

"""Listens to the maps of a network's prunable layers while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sauron_train.pruning.graph import ChannelGraph


@contextmanager
def listen(model: nn.Module, graph: ChannelGraph) -> Iterator[Mapping[str, Tensor]]:
    """Collect the maps of every prunable layer from the forward passes inside the block.

    A map is what leaves a whole block: convolution, norm and activation, or a bare transposed convolution. Maps of a
    later pass replace those of an earlier one.

    Yields:
        Layer name to maps (B, C, *spatial), in the order of the network; filled while the network runs.
    """
    maps: dict[str, Tensor] = {}

    def keep(layer: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            maps[layer] = output

        return hook

    hooks = [model.get_submodule(conv.tap).register_forward_hook(keep(name)) for name, conv in graph.layers.items()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()

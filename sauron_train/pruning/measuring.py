"""δ_prune of layers that are decided together: which channels are π, and the means over what was heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sauron_train.config import PruneConfig
from sauron_train.errors import PruningError
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.policy import Measure
from sauron_train.pruning.recording import tensors_in
from sauron_train.pruning.report import excluded

Group = tuple[str, ...]

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes that train together; they call it at the same time, on tensors of one shape."""


def draw_references(
    graph: ChannelGraph, group: Group, config: PruneConfig, generator: torch.Generator
) -> tuple[int, ...]:
    """The channels that are π for layers that are decided together, in the order in which they have their turn.

    With `references: one` one that all have, or one more where not; with `all` every channel.
    """
    channels = _channels(graph, group)
    if config.references == "all":
        order = torch.randperm(len(channels), generator=generator).tolist()
        return tuple(channels[place] for place in order)
    drawn: list[int] = []
    for layer in group:
        outputs = graph.layers[layer].outputs.tolist()
        if not set(outputs) & set(drawn):
            drawn.append(outputs[int(torch.randint(len(outputs), (), generator=generator))])
    return tuple(drawn)


def places(graph: ChannelGraph, layer: str, references: tuple[int, ...]) -> list[int]:
    """Where the references lie among the maps of a layer; those that it does not have are left out."""
    found = {channel: place for place, channel in enumerate(graph.layers[layer].outputs.tolist())}
    return [found[channel] for channel in references if channel in found]


def group_measure(
    graph: ChannelGraph, group: Group, references: tuple[int, ...], means: Mapping[str, Tensor], config: PruneConfig
) -> Measure:
    """δ_prune of the channels that are decided together: the mean over the layers that have both a channel and π.

    Args:
        graph: the network.
        group: the layers.
        references: the channels that are π.
        means: per layer (references that it has, C), the mean over samples.
        config: which layers are excluded.
    """
    channels = _channels(graph, group)
    columns = {channel: place for place, channel in enumerate(channels)}
    total = np.zeros((len(references), len(channels)))
    count = np.zeros_like(total)
    for layer in group:
        outputs = graph.layers[layer].outputs.tolist()
        rows = [row for row, channel in enumerate(references) if channel in outputs]
        here = np.ix_(rows, [columns[channel] for channel in outputs])
        total[here] += means[layer].cpu().numpy()
        count[here] += 1
    distances = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return Measure(
        tuple(channels),
        references,
        distances,
        layers=tuple(frozenset(graph.layers[layer].outputs.tolist()) for layer in group),
        bound=tuple(bound for bound in graph.bound if not bound.isdisjoint(channels)),
        protected=_protected(graph, group, config),
    )


def gathered(
    graph: ChannelGraph, drawn: Mapping[str, Sequence[int]], samples: int, sums: Mapping[str, Tensor], total: Total
) -> tuple[int, dict[str, Tensor]]:
    """Samples and sums over them that all processes have together.

    Args:
        graph: the network.
        drawn: per layer the places of its references.
        samples: how many this process has.
        sums: per layer (references, C) over them; empty where it has none.
        total: sums over the processes.
    """
    widths = graph.widths()
    return int(total(torch.tensor(samples))), {
        layer: total(sums[layer] if samples else torch.zeros(len(places), widths[layer], dtype=torch.float64))
        for layer, places in drawn.items()
    }


def arguments_of(batch: Any) -> tuple[Any, ...]:
    """What a network is called with for a batch.

    Raises:
        PruningError: neither a tensor nor a tuple of arguments.
    """
    if isinstance(batch, Tensor):
        return (batch,)
    if isinstance(batch, tuple) and tensors_in(batch):
        return batch
    raise PruningError(
        "each batch must be what the model is called with, images (B, channels, *spatial) or a tuple of arguments; "
        f"this one is a {type(batch).__name__}. Out of a loader take the images, as in (b['image'] for b in loader)"
    )


def _channels(graph: ChannelGraph, group: Group) -> list[int]:
    return list(dict.fromkeys(c for layer in group for c in graph.layers[layer].outputs.tolist()))


def _protected(graph: ChannelGraph, group: Group, config: PruneConfig) -> frozenset[int]:
    """The channels of layers that `prune.exclude` names."""
    return frozenset(c for layer in excluded(group, config.exclude) for c in graph.layers[layer].outputs.tolist())

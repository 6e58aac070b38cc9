"""Reads a network's channels from recordings of it.

Every channel of every tensor gets an identity: a convolution's outputs are new ones, norms and activations pass them
on, a concatenation lines them up (so offsets need no bookkeeping), a sum makes the channels that it adds one. What a
cut has to touch can then be read off: wherever a removed identity occurs. Whatever is not understood freezes all
channels that reach it, and thereby the convolutions that make them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from sauron_train.pruning import operations as ops
from sauron_train.pruning.graph import TIED, ChannelGraph, Convolution, Follower, Ids
from sauron_train.pruning.listening import find_taps
from sauron_train.pruning.recording import Recording, Step, record
from sauron_train.pruning.taps import Taps


def trace(model: nn.Module, example: Tensor | tuple[Any, ...], layer_name: Callable[[str], str] = str) -> ChannelGraph:
    """Read a network's channel graph.

    The network is run on the example twice: on the way that it takes while it trains and on the one in evaluation,
    which may have other outputs. It is left as it is.

    Args:
        model: any network.
        example: an input it accepts, (B, channels, *spatial), or a tuple of its positional arguments.
        layer_name: what a convolution is called, from its path in `model.named_modules()`; by default that path.

    Raises:
        PruningError: the network cannot be run on the example.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    training, evaluation = (record(model, arguments, mode) for mode in (True, False))
    reader = _Reader(model, {id(p) for way in (training, evaluation) for p in way.parameters.values()})
    reader.read(training)
    reader.read(evaluation)
    graph = reader.graph(layer_name)
    names = {conv.module: name for name, conv in graph.layers.items()}
    taps = Taps(find_taps(training, model, names), find_taps(evaluation, model, names))
    unmeasured = graph.layers.keys() - taps.evaluation.keys()
    return replace(graph, taps=taps).left_whole(dict.fromkeys(unmeasured, "it is called only while the network trains"))


class _Reader:
    """Walks recordings and gives every channel its identity."""

    def __init__(self, model: nn.Module, read_elsewhere: set[int]) -> None:
        self.modules = dict(model.named_modules())
        self.tied = _tied_parameters(model) | read_elsewhere
        self.parent: list[int] = []
        self.frozen: dict[int, str] = {}
        self.convs: dict[str, Convolution] = {}
        self.followers: dict[str, Follower] = {}
        self.bound: list[list[int]] = []
        self.not_understood: dict[str, str] = {}

    def read(self, recording: Recording) -> None:
        """Take one recording in."""
        self.recording = recording
        self.values: dict[int, Ids] = {}
        for step in recording.steps:
            for value in step.inputs:
                if value not in self.values:
                    self.values[value] = self._frozen(value, "it reads an input or a constant")
            made = self._module(step) if step.module is not None else self._operation(step)
            if made is None:
                made = [self._refuse(step, value) for value in step.outputs]
            self.values.update(zip(step.outputs, made, strict=True))
        for value in recording.results:
            if value in self.values:
                self._freeze(self.values[value], "it makes an output of the network")

    def graph(self, layer_name: Callable[[str], str]) -> ChannelGraph:
        """What was read, with every channel under one identity."""
        roots = np.array([self._root(i) for i in range(len(self.parent))], dtype=np.int64)
        bound = _merged([frozenset(roots[ids].tolist()) for ids in self.bound])
        frozen = {int(roots[i]): why for i, why in reversed(self.frozen.items())}
        outputs = [frozenset(roots[conv.outputs].tolist()) for conv in self.convs.values()]
        for together in bound:
            if any(layer <= together for layer in outputs):
                frozen = dict.fromkeys(together, "one group norm ties all of its maps together") | frozen
        _spread(frozen, [*bound, *outputs])
        convs = {
            layer_name(name): replace(conv, inputs=roots[conv.inputs], outputs=roots[conv.outputs])
            for name, conv in self.convs.items()
        }
        reasons = {
            name: next(frozen[i] for i in conv.outputs.tolist() if i in frozen)
            for name, conv in convs.items()
            if not frozen.keys().isdisjoint(conv.outputs.tolist())
        }
        return ChannelGraph(
            layers={name: conv for name, conv in convs.items() if name not in reasons},
            fixed={name: conv for name, conv in convs.items() if name in reasons},
            followers={name: replace(f, channels=roots[f.channels]) for name, f in self.followers.items()},
            reasons=reasons | {layer_name(name): why for name, why in self._apart()},
            not_understood=self.not_understood,
            bound=tuple(together for together in bound if len(together) > 1 and frozen.keys().isdisjoint(together)),
        )

    def _apart(self) -> Iterator[tuple[str, str]]:
        """Convolutions that are no layers of the graph, and why."""
        for name, module in self.modules.items():
            if not isinstance(module, nn.modules.conv._ConvNd) or name in self.convs:
                continue
            if name in self.followers:
                yield name, "it is depthwise, its filters go with the maps that they read"
            elif name in self.not_understood:
                what = self.not_understood[name]
                yield name, f"{what} in groups, of shared or computed weights, or with a foreign hook, is left whole"
            else:
                yield name, "the network does not call it on this example"

    def _module(self, step: Step) -> list[Ids] | None:
        name = str(step.module)
        module: Any = self.modules[name]
        kind = type(module)
        if len(step.inputs) != 1 or not self._whole(module):
            return None
        source = self.values[step.inputs[0]]
        if kind in ops.CONVS + ops.TRANSPOSED:
            made = self._convolve(name, module, source)
        elif kind is nn.GroupNorm:
            made = self._group_norm(name, module, source)
        elif kind in ops.NORMS:
            made = self._follow(name, Follower("norm", source))
        elif kind is nn.PReLU and module.num_parameters > 1:
            made = self._follow(name, Follower("prelu", source))
        else:
            made = source if kind in (nn.PReLU, *ops.ACTIVATIONS, *ops.SILENT, *ops.SPATIAL) else None
        return None if made is None else [made] * len(step.outputs)

    def _operation(self, step: Step) -> list[Ids] | None:
        concatenated = ops.concatenated(step, self.recording)
        if concatenated is not None:
            parts, along_channels = concatenated
            ids = [self.values[part] for part in parts]
            return [np.concatenate(ids)] if along_channels else self._join(ids)
        if ops.joins(step):
            return self._elementwise(step)
        if step.inputs and ops.passes(step, self.recording):
            return [self.values[step.inputs[0]]] * len(step.outputs)
        return None

    def _elementwise(self, step: Step) -> list[Ids] | None:
        result = self.recording.shapes[step.outputs[0]]
        if len(result) < 3:
            return None
        full = []
        for value in step.inputs:
            shape = self.recording.shapes[value]
            if len(shape) == len(result) >= 3 and shape[1] == result[1]:
                full.append(self.values[value])
            elif len(shape) < len(result) - 1 or ((1,) * (len(result) - len(shape)) + tuple(shape))[1] == 1:
                # Read by all channels alike, so whoever makes it stays.
                self._freeze(self.values[value], "its one map serves all channels of another layer")
            else:
                return None
        return self._join(full)

    def _join(self, parts: Sequence[Ids]) -> list[Ids] | None:
        if not parts or len({len(ids) for ids in parts}) != 1:
            return None
        for other in parts[1:]:
            for a, b in zip(parts[0].tolist(), other.tolist(), strict=True):
                self._tie(a, b)
        return [parts[0]]

    def _convolve(self, name: str, module: Any, source: Ids) -> Ids | None:
        if module.groups == module.in_channels == module.out_channels and module.groups > 1:
            return self._follow(name, Follower("depthwise", source))
        if module.groups != 1:
            return None
        if name in self.convs:  # called twice: both calls read and make the same channels
            self._join([self.convs[name].inputs, source])
            return self.convs[name].outputs
        outputs = self._new(module.out_channels)
        kind: Any = "trans" if type(module) in ops.TRANSPOSED else "conv"
        self.convs[name] = Convolution(name, kind, source, outputs, np.arange(len(outputs), dtype=np.int64))
        return outputs

    def _group_norm(self, name: str, module: nn.GroupNorm, source: Ids) -> Ids:
        size = module.num_channels // module.num_groups
        if name not in self.followers:
            self.bound += [source[start : start + size].tolist() for start in range(0, len(source), size)]
        return self._follow(name, Follower("group_norm", source, size))

    def _follow(self, name: str, follower: Follower) -> Ids:
        if name in self.followers:
            self._join([self.followers[name].channels, follower.channels])
        else:
            self.followers[name] = follower
        return follower.channels

    def _whole(self, module: nn.Module) -> bool:
        """Whether a module's tensors are its own: not computed from others, and read by nobody else."""
        own = module._parameters
        plain = all(name in ("weight", "bias") for name in own)
        weighted = type(module) in ops.CONVS + ops.TRANSPOSED
        return plain and (not weighted or "weight" in own) and not any(id(p) in self.tied for p in own.values())

    def _refuse(self, step: Step, value: int) -> Ids:
        what = type(self.modules[step.module]).__name__ if step.module is not None else step.name
        where = step.where or "the network's forward"
        self.not_understood.setdefault(where, what)
        for source in step.inputs:
            self._freeze(self.values[source], f"its maps reach {what} in {where}, which is not understood")
        return self._frozen(value, f"{what} in {where} is not understood")

    def _frozen(self, value: int, why: str) -> Ids:
        shape = self.recording.shapes[value]
        ids = self._new(shape[1] if len(shape) > 1 else 0)
        self._freeze(ids, why)
        return ids

    def _freeze(self, ids: Ids, why: str) -> None:
        for i in ids.tolist():
            self.frozen.setdefault(i, why)

    def _new(self, count: int) -> Ids:
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def _tie(self, a: int, b: int) -> None:
        first, second = sorted((self._root(a), self._root(b)))
        self.parent[second] = first


def _tied_parameters(model: nn.Module) -> set[int]:
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    return {parameter for parameter, count in owners.items() if count > 1}


def _spread(frozen: dict[int, str], together: Sequence[frozenset[int]]) -> None:
    """Freeze whole sets of which a member is frozen: norm groups, and the filters of a layer."""
    spread = True
    while spread:
        spread = False
        for ids in together:
            rest = ids - frozen.keys()
            if rest and len(rest) < len(ids):
                why = next(frozen[i] for i in sorted(ids) if i in frozen)
                frozen |= dict.fromkeys(rest, why if why.startswith(TIED) else f"{TIED}, because {why}")
                spread = True


def _merged(sets: list[frozenset[int]]) -> list[frozenset[int]]:
    """Sets that share a member become one."""
    merged: list[frozenset[int]] = []
    for each in sets:
        apart = [other for other in merged if other.isdisjoint(each)]
        merged = [*apart, each.union(*(other for other in merged if not other.isdisjoint(each)))]
    return merged

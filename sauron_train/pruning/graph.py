"""Who feeds whom in a network, channel by channel.

A network is traced once with torch.fx. Every channel of every tensor in it gets an identity: a convolution's outputs
are new ones, norms and activations pass them through, a concatenation lines them up (so offsets need no bookkeeping), a
sum makes the channels it adds one. What a cut has to touch can then be read off: wherever a removed identity occurs.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from sauron_train.errors import PruningError

Ids = npt.NDArray[np.int64]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (_BatchNorm, _InstanceNorm)
_POINTWISE_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish,
    nn.Identity, nn.modules.dropout._DropoutNd,
)  # fmt: skip
_SPATIAL_MODULES = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample,
)  # fmt: skip
_POINTWISE_CALLS = {F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.dropout, torch.relu, torch.sigmoid, torch.tanh,
                    "relu", "sigmoid", "tanh", "contiguous", "clone", "float"}  # fmt: skip
_SPATIAL_CALLS = {F.max_pool2d, F.max_pool3d, F.avg_pool2d, F.avg_pool3d, F.interpolate}
_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}


@dataclass(frozen=True)
class Convolution:
    """A convolution of the network: which channels it reads and which it makes.

    `tap` is the module whose output is the layer's map: the norm or activation behind the convolution, or itself.
    """

    module: str
    kind: Literal["conv", "trans"]
    inputs: Ids
    outputs: Ids
    tap: str


@dataclass(frozen=True)
class Cut:
    """Channels that go. `removed` names all of them, partners in sums included, by layer and original number."""

    ids: frozenset[int]
    removed: Mapping[str, tuple[int, ...]]

    def __bool__(self) -> bool:
        return bool(self.ids)


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a network.

    `layers` are the prunable convolutions by name; `fixed` are the others. `numbers` says which filter of the unpruned
    network each identity was.
    """

    layers: Mapping[str, Convolution]
    fixed: tuple[Convolution, ...]
    norms: Mapping[str, Ids]
    numbers: Mapping[int, int]

    def filters(self, layer: str) -> tuple[int, ...]:
        """Original numbers of the filters that the layer has left."""
        return tuple(self.numbers[i] for i in self.layers[layer].outputs.tolist())

    def widths(self) -> dict[str, int]:
        """Number of filters left per prunable layer."""
        return {name: len(layer.outputs) for name, layer in self.layers.items()}

    def resolve(self, chosen: Mapping[str, Iterable[int]]) -> Cut:
        """Turn filters, named by layer and original number, into a cut that can be made.

        Raises:
            PruningError: an unknown layer or filter, or a layer that would be left without filters.
        """
        ids: set[int] = set()
        for name, filters in chosen.items():
            if name not in self.layers:
                raise PruningError(f"{name!r} is no prunable layer of this network")
            by_number = {self.numbers[i]: i for i in self.layers[name].outputs.tolist()}
            for number in filters:
                if number not in by_number:
                    raise PruningError(f"{name} has no filter {number} (any more)")
                ids.add(by_number[number])
        removed: dict[str, tuple[int, ...]] = {}
        for name, layer in self.layers.items():
            gone = [i for i in layer.outputs.tolist() if i in ids]
            if len(gone) == len(layer.outputs):
                raise PruningError(f"the cut would leave {name} without filters; keep at least one")
            if gone:
                removed[name] = tuple(self.numbers[i] for i in gone)
        return Cut(frozenset(ids), removed)

    def without(self, cut: Cut) -> ChannelGraph:
        """The graph of the network after the cut."""
        gone = np.fromiter(cut.ids, dtype=np.int64, count=len(cut.ids))

        def keep(ids: Ids) -> Ids:
            return ids[~np.isin(ids, gone)]

        def smaller(conv: Convolution) -> Convolution:
            return replace(conv, inputs=keep(conv.inputs), outputs=keep(conv.outputs))

        return ChannelGraph(
            {name: smaller(layer) for name, layer in self.layers.items()},
            tuple(smaller(conv) for conv in self.fixed),
            {name: keep(ids) for name, ids in self.norms.items()},
            self.numbers,
        )

    def renumbered(self, filters: Mapping[str, Sequence[int]]) -> ChannelGraph:
        """The same graph for a network that was cut before: `filters` are the original numbers that each layer kept.

        Raises:
            PruningError: a layer's count does not fit.
        """
        numbers = dict(self.numbers)
        for name, layer in self.layers.items():
            kept = filters.get(name, ())
            if len(kept) != len(layer.outputs):
                raise PruningError(f"{name} has {len(layer.outputs)} filters but {len(kept)} original numbers")
            numbers.update(zip(layer.outputs.tolist(), map(int, kept), strict=True))
        return replace(self, numbers=numbers)


def trace(model: nn.Module, example: Tensor, layer_name: Callable[[str], str] = str) -> ChannelGraph:
    """Read a network's channel graph.

    Args:
        model: any module that torch.fx can trace; it is left as it is.
        example: an input it accepts, (B, channels, *spatial).
        layer_name: what a convolution is called, from its path in `model.named_modules()`; by default that path.

    Raises:
        PruningError: the network cannot be traced.
    """
    try:
        traced = fx.symbolic_trace(model)
        modes = {module: module.training for module in model.modules()}
        with torch.no_grad():
            ShapeProp(traced.eval()).propagate(example)
        for module, training in modes.items():
            module.training = training
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise PruningError(f"the network cannot be traced by torch.fx: {error}") from None
    return _Reader(traced).read(layer_name)


class _Reader:
    """Walks a traced network once and gives every channel its identity."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.modules = dict(traced.named_modules())
        self.nodes = list(traced.graph.nodes)
        self.calls = Counter(str(node.target) for node in self.nodes if node.op == "call_module")
        self.parent: list[int] = []
        self.number: list[int] = []
        self.frozen: set[int] = set()
        self.channels: dict[fx.Node, Ids] = {}
        self.convs: dict[str, Convolution] = {}
        self.norms: dict[str, Ids] = {}

    def read(self, layer_name: Callable[[str], str]) -> ChannelGraph:
        for node in self.nodes:
            if node.op == "output":
                self._freeze(node)
            elif _shape(node) is not None:
                self.channels[node] = self._visit(node)
            else:
                self._freeze(node)
        roots = np.array([self._root(i) for i in range(len(self.parent))], dtype=np.int64)
        frozen = {int(roots[i]) for i in self.frozen}
        convs = {
            layer_name(name): replace(conv, inputs=roots[conv.inputs], outputs=roots[conv.outputs])
            for name, conv in self.convs.items()
        }
        layers = {name: conv for name, conv in convs.items() if frozen.isdisjoint(conv.outputs.tolist())}
        fixed = tuple(conv for name, conv in convs.items() if name not in layers)
        numbers = {int(i): self.number[i] for layer in layers.values() for i in layer.outputs}
        return ChannelGraph(layers, fixed, {name: roots[ids] for name, ids in self.norms.items()}, numbers)

    def _visit(self, node: fx.Node) -> Ids:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            if isinstance(module, _CONVS + _TRANSPOSED) and module.groups == 1:
                return self._convolve(node, module)
            source = self._source(node)
            once = self.calls[str(node.target)] == 1
            if source is not None and isinstance(module, _NORMS) and once:
                self.norms[str(node.target)] = source
                return source
            if source is not None and _passes_channels(module):
                return source
        elif node.op in ("call_function", "call_method"):
            ids = self._call(node)
            if ids is not None:
                return ids
        # Not understood: whatever reaches it stays as it is, and what it makes is nobody's to cut.
        self._freeze(node)
        return self._new(_channels(node), frozen=True)

    def _call(self, node: fx.Node) -> Ids | None:
        if node.target in (torch.cat, torch.concat) and _argument(node, 1, "dim", 0) in (1, 1 - _rank(node)):
            tensors = cast(Sequence[Any], _argument(node, 0, "tensors", ()))
            return np.concatenate([self.channels[part] for part in tensors])
        if node.target in _POINTWISE_CALLS or node.target in _SPATIAL_CALLS:
            return self._source(node)
        if node.target in _SUMS:
            return self._sum([part for part in node.all_input_nodes if part in self.channels])
        return None

    def _sum(self, parts: list[fx.Node]) -> Ids | None:
        ids = [self.channels[part] for part in parts]
        if len({len(i) for i in ids}) != 1:
            return None
        for other in ids[1:]:
            for a, b in zip(ids[0].tolist(), other.tolist(), strict=True):
                self._join(a, b)
        return ids[0]

    def _convolve(self, node: fx.Node, module: Any) -> Ids:
        name, source = str(node.target), self._source(node)
        if source is None:
            raise PruningError(f"{name} reads something that is no tensor of the network")
        if name in self.convs:  # a module that is called twice: both calls read and make the same channels
            seen = self.convs[name]
            for a, b in zip(seen.inputs.tolist(), source.tolist(), strict=True):
                self._join(a, b)
            return seen.outputs
        outputs = self._new(module.out_channels)
        kind: Literal["conv", "trans"] = "trans" if isinstance(module, _TRANSPOSED) else "conv"
        self.convs[name] = Convolution(name, kind, source, outputs, self._tap(node))
        return outputs

    def _tap(self, node: fx.Node) -> str:
        tap = node
        while len(tap.users) == 1:
            follower = next(iter(tap.users))
            if follower.op != "call_module":
                break
            if not isinstance(self.modules[str(follower.target)], _NORMS + _POINTWISE_MODULES):
                break
            if self.calls[str(follower.target)] > 1:  # an activation that serves several layers hears them all
                break
            tap = follower
        return str(tap.target)

    def _source(self, node: fx.Node) -> Ids | None:
        first = node.args[0] if node.args else next(iter(node.all_input_nodes), None)
        return self.channels.get(first) if isinstance(first, fx.Node) else None

    def _new(self, count: int, frozen: bool = False) -> Ids:
        start = len(self.parent)
        ids = range(start, start + count)
        self.parent.extend(ids)
        self.number.extend(range(count))
        if frozen:
            self.frozen.update(ids)
        return np.arange(start, start + count, dtype=np.int64)

    def _freeze(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self.frozen.update(self.channels.get(source, np.empty(0, np.int64)).tolist())

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def _join(self, a: int, b: int) -> None:
        first, second = sorted((self._root(a), self._root(b)))
        self.parent[second] = first


def _passes_channels(module: nn.Module) -> bool:
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return False  # it has a weight per channel
    return isinstance(module, _POINTWISE_MODULES + _SPATIAL_MODULES)


def _shape(node: fx.Node) -> torch.Size | None:
    meta = node.meta.get("tensor_meta")
    shape = getattr(meta, "shape", None)
    return shape if shape is not None and len(shape) >= 2 else None


def _channels(node: fx.Node) -> int:
    shape = _shape(node)
    return int(shape[1]) if shape is not None else 0


def _rank(node: fx.Node) -> int:
    shape = _shape(node)
    return len(shape) if shape is not None else 0


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)

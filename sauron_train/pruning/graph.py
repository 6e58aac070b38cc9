"""The channels of a network: which filters make them, who reads them, and what must go together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sauron_train.errors import EmptyLayerError, PruningError, UnknownFilterError, UnknownLayerError
from sauron_train.pruning.taps import Taps

Ids = npt.NDArray[np.int64]
TIED = "its maps are tied to some that stay"


@dataclass(frozen=True)
class Convolution:
    """A convolution: the channels it reads and makes, and its filters' numbers in the unpruned network."""

    module: str
    kind: Literal["conv", "trans"]
    inputs: Ids
    outputs: Ids
    numbers: Ids


@dataclass(frozen=True)
class Follower:
    """A module that has something for every channel but mixes none.

    Group norm normalises `group` channels together; for the others `group` is 1.
    """

    kind: Literal["norm", "group_norm", "prelu", "depthwise"]
    channels: Ids
    group: int = 1


@dataclass(frozen=True)
class Cut:
    """Channels that go. `removed` names all of them, partners included, by layer and original filter number."""

    ids: frozenset[int]
    removed: Mapping[str, tuple[int, ...]]

    def __bool__(self) -> bool:
        return bool(self.ids)


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a network.

    Attributes:
        layers: the prunable convolutions by name, in the order in which they run.
        fixed: the others, by name.
        followers: norms and the like, by module path.
        reasons: why each other convolution cannot be cut by itself, also of those that are not `fixed` because they
            are grouped, depthwise or never called.
        not_understood: what was met that mixes channels in a way we do not know: where, and what.
        bound: sets of channels that only go together (those that a group norm normalises together).
        taps: where the layers' maps can be heard.
    """

    layers: Mapping[str, Convolution]
    fixed: Mapping[str, Convolution]
    followers: Mapping[str, Follower]
    reasons: Mapping[str, str] = field(default_factory=dict)
    not_understood: Mapping[str, str] = field(default_factory=dict)
    bound: tuple[frozenset[int], ...] = ()
    taps: Taps = field(default_factory=Taps)

    def filters(self, layer: str) -> tuple[int, ...]:
        """Original numbers of the filters that the layer has left."""
        return tuple(self.layers[layer].numbers.tolist())

    def widths(self) -> dict[str, int]:
        """Number of filters left per prunable layer."""
        return {name: len(layer.outputs) for name, layer in self.layers.items()}

    def convolutions(self) -> dict[str, Convolution]:
        """All convolutions, prunable or not."""
        return {**self.layers, **self.fixed}

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The layers that are decided together, because sums or group norms tie their channels; most stand alone."""
        owner: dict[int, str] = {}
        leader = {name: name for name in self.layers}

        def lead(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        order = {name: place for place, name in enumerate(self.layers)}
        tied = [layer.outputs.tolist() for layer in self.layers.values()]
        for name, channels in zip(self.layers, tied, strict=True):
            for channel in channels:
                owner.setdefault(channel, name)
        ties = [
            *([name, *(owner[c] for c in channels)] for name, channels in zip(self.layers, tied, strict=True)),
            *([owner[c] for c in bound if c in owner] for bound in self.bound),
        ]
        for names in ties:
            leaders = sorted({lead(name) for name in names}, key=order.__getitem__)
            for other in leaders[1:]:
                leader[other] = leaders[0]
        together: dict[str, list[str]] = {}
        for name in self.layers:
            together.setdefault(lead(name), []).append(name)
        return tuple(tuple(names) for names in together.values())

    def closure(self, channels: Iterable[int]) -> frozenset[int]:
        """The channels and all that go with them."""
        found = set(channels)
        while grown := {c for bound in self.bound if not found.isdisjoint(bound) for c in bound} - found:
            found |= grown
        return frozenset(found)

    def resolve(self, chosen: Mapping[str, Iterable[int]]) -> Cut:
        """Turn filters, named by layer and original number, into a cut that can be made.

        Raises:
            UnknownLayerError: no such layer, or one that must stay whole (the message says why).
            UnknownFilterError: a filter that the layer does not have, or not any more.
            EmptyLayerError: a layer would be left without filters.
        """
        if not isinstance(chosen, Mapping):
            raise UnknownFilterError("give a table of layer name to filter numbers, such as {'enc_conv_1': [3, 5]}")
        ids: set[int] = set()
        for name, filters in chosen.items():
            layer = self._layer(name)
            by_number = dict(zip(layer.numbers.tolist(), layer.outputs.tolist(), strict=True))
            for number in _whole_numbers(name, filters):
                if number not in by_number:
                    raise UnknownFilterError(f"{name} has no filter {number} (any more)")
                ids.add(by_number[number])
        return self.cut_of(ids)

    def cut_of(self, channels: Iterable[int]) -> Cut:
        """The cut of channels and all that go with them.

        Raises:
            EmptyLayerError: a layer would be left without filters.
        """
        ids = self.closure(channels)
        removed: dict[str, tuple[int, ...]] = {}
        for name, layer in self.layers.items():
            gone = np.isin(layer.outputs, list(ids))
            if gone.all():
                raise EmptyLayerError(f"the cut would leave {name} without filters; keep at least one")
            if gone.any():
                removed[name] = tuple(layer.numbers[gone].tolist())
        return Cut(ids, removed)

    def cut_to(self, filters: Mapping[str, Iterable[int]]) -> Cut:
        """The cut that leaves every layer just these filters, named by their original numbers.

        Raises:
            PruningError: there is none, because the filters are those of another network.
        """
        wanted = {name: set(kept) for name, kept in filters.items()}
        have = {name: set(self.filters(name)) for name in self.layers}
        if wanted.keys() != have.keys():
            odd = sorted(wanted.keys() ^ have.keys())[0]
            raise PruningError(f"the saved filters are those of another network: only one of the two prunes {odd}")
        for name, kept in wanted.items():
            if not kept <= have[name]:
                raise PruningError(f"the saved state has filter {min(kept - have[name])} of {name}, which is not there")
        cut = self.resolve({name: have[name] - kept for name, kept in wanted.items()})
        for name, gone in cut.removed.items():
            if set(gone) != have[name] - wanted[name]:
                raise PruningError(f"the saved filters of {name} are those of another network, tied to others")
        return cut

    def left_whole(self, reasons: Mapping[str, str]) -> ChannelGraph:
        """The same graph with more layers that are never cut, and with them all that are tied to them.

        Args:
            reasons: why, by layer.
        """
        whole: dict[str, str] = {}
        for group in self.groups():
            why = next((reasons[name] for name in group if name in reasons), None)
            if why is not None:
                whole |= {name: reasons.get(name, f"{TIED}, because {why}") for name in group}
        if not whole:
            return self
        channels = {c for name in whole for c in self.layers[name].outputs.tolist()}
        return replace(
            self,
            layers={name: layer for name, layer in self.layers.items() if name not in whole},
            fixed={**self.fixed, **{name: self.layers[name] for name in whole}},
            reasons={**self.reasons, **whole},
            bound=tuple(bound for bound in self.bound if bound.isdisjoint(channels)),
        )

    def without(self, cut: Cut) -> ChannelGraph:
        """The graph of the network after the cut."""
        gone = list(cut.ids)

        def smaller(conv: Convolution) -> Convolution:
            stays = ~np.isin(conv.outputs, gone)
            inputs = conv.inputs[~np.isin(conv.inputs, gone)]
            return replace(conv, inputs=inputs, outputs=conv.outputs[stays], numbers=conv.numbers[stays])

        return replace(
            self,
            layers={name: smaller(conv) for name, conv in self.layers.items()},
            fixed={name: smaller(conv) for name, conv in self.fixed.items()},
            followers={
                name: replace(f, channels=f.channels[~np.isin(f.channels, gone)]) for name, f in self.followers.items()
            },
            bound=tuple(bound for bound in self.bound if bound.isdisjoint(cut.ids)),
        )

    def renumbered(self, filters: Mapping[str, Sequence[int]]) -> ChannelGraph:
        """The same graph for a network that was cut before: `filters` are the original numbers that each layer kept.

        Raises:
            PruningError: a layer's count does not fit.
        """
        layers = {}
        for name, layer in self.layers.items():
            kept = filters.get(name, ())
            if len(kept) != len(layer.outputs):
                raise PruningError(f"{name} has {len(layer.outputs)} filters but {len(kept)} original numbers")
            layers[name] = replace(layer, numbers=np.array(kept, dtype=np.int64))
        return replace(self, layers=layers)

    def _layer(self, name: str) -> Convolution:
        if name in self.layers:
            return self.layers[name]
        if name in self.reasons:
            raise UnknownLayerError(f"{name} cannot be cut by itself: {self.reasons[name]}")
        near = difflib.get_close_matches(str(name), self.layers, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownLayerError(f"{name!r} is no convolution of this network{hint}")


def _whole_numbers(layer: str, filters: Iterable[int]) -> list[int]:
    try:
        return [int(number) for number in filters]
    except (TypeError, ValueError):
        raise UnknownFilterError(f"the filters of {layer} must be a list of numbers, such as [3, 5]") from None

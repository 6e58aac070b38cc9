"""The method around a network: penalty while it trains, measure, decide and cut at the end of an epoch."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sauron_train.config import Config, SauronConfig
from sauron_train.errors import PruningError
from sauron_train.pruning.channels import trace
from sauron_train.pruning.compensation import ReaderMoments, fold, overhear
from sauron_train.pruning.distances import delta_prune_between, mean_delta_opt
from sauron_train.pruning.graph import ChannelGraph, Cut
from sauron_train.pruning.modes import evaluating
from sauron_train.pruning.policy import Decision, History, LayerState, Measure, decide
from sauron_train.pruning.report import report
from sauron_train.pruning.surgery import cut_network, plan
from sauron_train.pruning.taps import Maps, attach, listen


@dataclass(frozen=True)
class LayerRecord:
    """What was measured and decided for one layer in an epoch. Filters carry their original numbers.

    Attributes:
        layer: its name.
        threshold: τ.
        patience: epochs that it still waits.
        raised: whether τ rose in this epoch.
        conditions: what a layer must meet to have converged, by name; τ rises when patience is over and all hold.
        reference: the filter that was π, the first of them with `references: all`; None if π is in a partner layer.
        filters: those it had before the cut.
        delta_prune: δ_prune of each of them to the nearest π; 0 for a single π itself.
        removed: those that go, each with the π that it was too near to; None if that is in a partner layer.
    """

    layer: str
    threshold: float
    patience: int
    raised: bool
    conditions: Mapping[str, bool]
    reference: int | None
    filters: tuple[int, ...]
    delta_prune: tuple[float, ...]
    removed: Mapping[int, int | None]


@dataclass(frozen=True)
class PruneRecord:
    """What one call of `prune`, or of `cut`, did.

    `removed` names every filter that goes, by layer and original number, partners in sums and norm groups included;
    `layers` says why. It is empty when a user chose the filters.
    """

    cut: Cut
    layers: Mapping[str, LayerRecord]

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Layer name to the original numbers of its filters that go."""
        return dict(self.cut.removed)


class Sauron:
    """Makes any network shed its redundant filters while it trains (paper, Section 3).

    In a training loop: add `penalty()` to the loss, and call `prune()` at the end of an epoch.

        sauron = Sauron(model, example_input)
        for epoch in range(epochs):
            for images, labels in loader:
                loss = segmentation_loss(model(images), labels) + sauron.penalty()
                ...
            record = sauron.prune(optimizer, batches, history)

    Args:
        model: the network; cut in place. Its parameters keep their identity, so optimizers and wrappers go on.
        example_input: an input that it accepts, (B, channels, *spatial), on its device; or a tuple of its arguments.
        config: λ, normalisation, thresholds and the seed of what is drawn; None for the defaults, or a table of keys
            such as `{"loss": {"lambda": 0.3}}`.
        layer_name: what a convolution is called, from its path in `model.named_modules()`; by default that path.

    Raises:
        PruningError: the network cannot be run on the example, or has no convolution that may be cut.
        ConfigError: a key or a value of `config` that is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor | tuple[Any, ...],
        config: SauronConfig | Config | Mapping[str, Any] | None = None,
        layer_name: Callable[[str], str] = str,
    ) -> None:
        self.model = model
        self.config = SauronConfig.of(config)
        self.graph: ChannelGraph = trace(model, example_input, layer_name)
        if not self.graph.layers:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(self.graph.reasons.items())[:3])
            raise PruningError(f"no convolution of this network can be cut ({why or 'it has none'})")
        self.states: dict[str, LayerState] = {group[0]: LayerState() for group in self.graph.groups()}
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self._readers: dict[str, ReaderMoments] = {}
        self._maps = Maps(self.graph.taps, tuple(self.graph.layers))
        self._handles = attach(model, self._maps, only_training=True) if self.measured else []

    @property
    def layers(self) -> dict[str, int]:
        """Number of filters that each prunable layer has now, by name."""
        return self.graph.widths()

    def __str__(self) -> str:
        """What of the network can be pruned, which layers are decided as one, and what is left whole and why."""
        return report(self.graph)

    @property
    def report(self) -> dict[str, str]:
        """Why each other convolution cannot be cut by itself, by name."""
        return dict(self.graph.reasons)

    @property
    def measured(self) -> bool:
        """Whether δ_opt is taken in training steps at all; not with `normalization: off`."""
        return self.config.loss.normalization != "off"

    @property
    def penalised(self) -> bool:
        """Whether δ_opt is part of the loss, and not only looked at as with λ = 0 (paper, Appendix A)."""
        return self.measured and self.config.loss.lambda_ > 0

    def penalty(self) -> Tensor:
        """λ times the mean of δ_opt over the prunable layers, for the latest forward pass in training mode.

        Differentiable; 0 when λ is 0 or the normalisation is `off`. The maps are let go of, so it is asked once a pass.

        Raises:
            PruningError: the network has not been called in training mode since the last time.
        """
        if not self.penalised:
            self._maps.clear()
            return self._nothing()
        return self.config.loss.lambda_ * self.delta_opt()

    def delta_opt(self) -> Tensor:
        """The same without λ: with λ = 0 measured all the same, without gradient; 0 when the normalisation is `off`."""
        if not self.measured:
            return self._nothing()
        with torch.set_grad_enabled(self.penalised and torch.is_grad_enabled()):
            return self._mean_delta_opt()

    def _mean_delta_opt(self) -> Tensor:
        try:
            maps = list(self._maps.values())
        except KeyError:
            maps = []
        if not maps:
            raise PruningError("call the model on a batch in training mode before each penalty()")
        self._maps.clear()
        loss = self.config.loss
        references = [self._draw(m.shape[1]) for m in maps] if loss.reference == "random" else None
        return mean_delta_opt(maps, loss.normalization, loss.window, references)  # type: ignore[arg-type]

    def _nothing(self) -> Tensor:
        return next(self.model.parameters()).new_zeros(())

    @contextmanager
    def listening(self) -> Iterator[Maps]:
        """Collect the maps of the forward passes inside the block, layer name to (B, C, *spatial)."""
        with listen(self.model, self.graph) as maps:
            yield maps

    def prune(self, optimizer: Optimizer | None, batches: Iterable[Tensor], history: History) -> PruneRecord:
        """End an epoch: measure δ_prune, move the thresholds, and cut what is below them.

        Nothing is measured or cut in epochs before `prune.first_epoch` and after `prune.last_epoch`; the number of
        training losses in `history` is the epoch.

        Args:
            optimizer: any torch optimizer that holds the model's parameters; its state is cut with them.
            batches: some batches of training images, each (B, channels, *spatial).
            history: losses of all epochs so far, this one included.

        Raises:
            PruningError: a cut that cannot be made; nothing has been changed then.
        """
        if not self.prunes_in(len(history.train_losses)):
            return PruneRecord(Cut(frozenset(), {}), {})
        record = self.decide(self.measure(batches), history)
        self.apply(record.cut, optimizer)
        return record

    def prunes_in(self, epoch: int) -> bool:
        """Whether filters may go at the end of an epoch, counted from 1: what `prune` says of it."""
        prune = self.config.prune
        return prune.enabled and prune.first_epoch <= epoch <= (prune.last_epoch or epoch)

    def cut(self, filters: Mapping[str, Iterable[int]], optimizer: Optimizer | None = None) -> PruneRecord:
        """Cut filters of your choice, and those that sums and group norms tie to them.

        Args:
            filters: layer name to filter numbers; a filter keeps the number that it had before the first cut.
            optimizer: any torch optimizer that holds the model's parameters; its state is cut with them.

        Raises:
            UnknownLayerError: no such layer, or one that must stay whole.
            UnknownFilterError: a filter that the layer does not have (any more).
            EmptyLayerError: a layer would be left without filters.
            MismatchError: the optimizer's state cannot be cut. In every case nothing has been changed.
        """
        cut = self.graph.resolve(filters)
        self._readers = {}
        self.apply(cut, optimizer)
        return PruneRecord(cut, {})

    @torch.no_grad()
    def measure(self, batches: Iterable[Tensor]) -> dict[str, Measure]:
        """δ_prune of the layers, averaged over batches of images, each (B, channels, *spatial).

        π is drawn once per call; the network runs in eval mode (design choices). Layers that are decided together share
        their π and are averaged; they go under the name of the first.
        """
        references = {group: self._references(group) for group in self.graph.groups()}
        drawn = {layer: self._places(layer, references[group]) for group in references for layer in group}
        sums: dict[str, Tensor] = {}
        samples = 0
        hearing = overhear(self.model, self.graph, self._compensates)
        with evaluating(self.model), self.listening() as maps, hearing as readers:
            for images in batches:
                self.model(images)
                samples += len(images)
                for layer, layer_maps in maps.items():
                    value = delta_prune_between(layer_maps, drawn[layer], self.config.loss.window) * len(images)
                    sums[layer] = sums[layer] + value if layer in sums else value
        self._readers = readers
        if not samples:
            raise PruningError("prune needs at least one batch of images to measure δ_prune on")
        return {group[0]: self._group_measure(group, references[group], sums, samples) for group in references}

    def decide(self, measures: Mapping[str, Measure], history: History) -> PruneRecord:
        """Decide what goes, and move the thresholds; nothing is cut yet.

        Raises:
            PruningError: a cut that cannot be made.
        """
        decisions, self.states = decide(measures, self.states, history, self.config.prune)
        cut = self.graph.cut_of(channel for decision in decisions.values() for channel in decision.removed)
        records = {
            layer: self._layer_record(layer, measures[group[0]], decisions[group[0]])
            for group in self.graph.groups()
            for layer in group
        }
        return PruneRecord(cut, {layer: records[layer] for layer in self.graph.layers})

    def apply(self, cut: Cut, optimizer: Optimizer | None) -> None:
        """Cut what was decided out of the network and the optimizer's state.

        With `compensate: merge` the readers of what goes are first taught to read a survivor in its place, by what
        `measure` saw.

        Raises:
            MismatchError: a cut that cannot be made; nothing has been changed then.
        """
        plan(self.model, self.graph, cut, optimizer)  # refuses what cannot be made before weights are changed
        fold(self.model, self.graph, cut, self._readers)
        self.graph = cut_network(self.model, self.graph, cut, optimizer)
        self._readers = {}

    def close(self) -> None:
        """Stop listening to the model, for good; it is an ordinary smaller network from here on."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._maps.clear()

    def state_dict(self) -> dict[str, Any]:
        """Thresholds, patience, original filter numbers and the generator's state; plain values and tensors."""
        return {
            "states": {layer: asdict(state) for layer, state in self.states.items()},
            "filters": {layer: list(self.graph.filters(layer)) for layer in self.graph.layers},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. A network that is still whole is cut to the filters that it had then.

        So a pruned network is built again as it was made at first, cut by this, and then given its weights:

            sauron = Sauron(model, example_input)
            sauron.load_state_dict(saved["sauron"])
            model.load_state_dict(saved["model"])

        Raises:
            PruningError: the state is that of another network; nothing has been changed then.
        """
        filters: Mapping[str, list[int]] = state["filters"]
        if self.layers == {layer: len(kept) for layer, kept in filters.items()}:
            self.graph = self.graph.renumbered(filters)
        else:
            self.graph = cut_network(self.model, self.graph, self.graph.cut_to(filters))
        self.states = {layer: LayerState(**values) for layer, values in state["states"].items()}
        self.generator.set_state(state["generator"])

    def _references(self, group: tuple[str, ...]) -> tuple[int, ...]:
        """The channels that are π for layers that are decided together: one that all have, or one more where not."""
        channels = self._channels(group)
        if self.config.prune.references == "all":
            order = torch.randperm(len(channels), generator=self.generator).tolist()
            return tuple(channels[place] for place in order)
        drawn: list[int] = []
        for layer in group:
            outputs = self.graph.layers[layer].outputs.tolist()
            if not set(outputs) & set(drawn):
                drawn.append(outputs[self._draw(len(outputs))])
        return tuple(drawn)

    def _channels(self, group: tuple[str, ...]) -> list[int]:
        return list(dict.fromkeys(c for layer in group for c in self.graph.layers[layer].outputs.tolist()))

    def _places(self, layer: str, references: tuple[int, ...]) -> list[int]:
        places = {channel: place for place, channel in enumerate(self.graph.layers[layer].outputs.tolist())}
        return [places[channel] for channel in references if channel in places]

    def _group_measure(
        self, group: tuple[str, ...], references: tuple[int, ...], sums: Mapping[str, Tensor], samples: int
    ) -> Measure:
        channels = self._channels(group)
        columns = {channel: place for place, channel in enumerate(channels)}
        total = np.zeros((len(references), len(channels)))
        count = np.zeros_like(total)
        for layer in group:
            outputs = self.graph.layers[layer].outputs.tolist()
            rows = [row for row, channel in enumerate(references) if channel in outputs]
            here = np.ix_(rows, [columns[channel] for channel in outputs])
            total[here] += (sums[layer] / samples).cpu().numpy()
            count[here] += 1
        distances = np.where(count > 0, total / np.maximum(count, 1), np.inf)
        return Measure(
            tuple(channels),
            references,
            distances,
            layers=tuple(frozenset(self.graph.layers[layer].outputs.tolist()) for layer in group),
            bound=tuple(bound for bound in self.graph.bound if not bound.isdisjoint(channels)),
            protected=self._protected(group),
        )

    def _protected(self, group: tuple[str, ...]) -> frozenset[int]:
        """The channels of layers that `prune.exclude` names."""
        patterns = self.config.prune.exclude
        excluded = [layer for layer in group if any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)]
        return frozenset(c for layer in excluded for c in self.graph.layers[layer].outputs.tolist())

    def _layer_record(self, layer: str, measure: Measure, decision: Decision) -> LayerRecord:
        conv = self.graph.layers[layer]
        number = dict(zip(conv.outputs.tolist(), conv.numbers.tolist(), strict=True))
        delta = dict(zip(measure.channels, measure.nearest_reference().tolist(), strict=True))
        own = [number[channel] for channel in measure.references if channel in number]
        return LayerRecord(
            layer,
            decision.threshold,
            decision.patience,
            decision.raised,
            decision.conditions,
            own[0] if own else None,
            tuple(number.values()),
            tuple(delta[channel] for channel in number),
            {number[c]: number.get(reference) for c, reference in decision.removed.items() if c in number},
        )

    @property
    def _compensates(self) -> bool:
        return self.config.prune.compensate == "merge"

    def _draw(self, width: int) -> int:
        return int(torch.randint(width, (), generator=self.generator))

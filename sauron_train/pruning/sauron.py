"""The method around a network: penalty while it trains, measure, decide and cut at the end of an epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from sauron_train.config import Config, SauronConfig
from sauron_train.errors import PruningError
from sauron_train.pruning.channels import trace
from sauron_train.pruning.check import checked
from sauron_train.pruning.common import Images
from sauron_train.pruning.compensation import ReaderMoments, fold, overhear
from sauron_train.pruning.distances import delta_prune, mean_delta_opt
from sauron_train.pruning.graph import ChannelGraph, Cut
from sauron_train.pruning.measuring import Total, arguments_of, draw_references, gathered, group_measure, places
from sauron_train.pruning.modes import evaluating
from sauron_train.pruning.policy import History, LayerState, Measure, check_history, decide
from sauron_train.pruning.recording import tensors_in
from sauron_train.pruning.records import PruneRecord, layer_record
from sauron_train.pruning.report import refuse_exclude, report
from sauron_train.pruning.surgery import Optimizers, cut_network, plan
from sauron_train.pruning.taps import Maps, attach, detach, listen


class Sauron:
    """Makes any network shed its redundant filters while it trains (paper, Section 3).

    In a training loop: add `penalty()` to the loss, and call `prune()` at the end of an epoch.

        sauron = Sauron(model, example_input)
        for epoch in range(epochs):
            for images, labels in loader:
                loss = segmentation_loss(model(images), labels) + sauron.penalty()
                ...
            record = sauron.prune(optimizer, batches, history)

    A model has one Sauron at a time: a new one silences the one before. While it listens the model carries hooks, so
    save its `state_dict()` and not the model itself, or `close()` first.

    Args:
        model: the network; cut in place. Its parameters keep their identity, so optimizers go on. Wrappers that keep
            buffers of their own for each parameter (DistributedDataParallel, averaged copies) must be made anew after
            a cut.
        example_input: an input that it accepts, (B, channels, *spatial), on its device; or a tuple of its arguments.
        config: λ, normalisation, thresholds and the seed of what is drawn; None for the defaults, or a table of keys
            such as `{"loss": {"lambda": 0.3}}`.
        layer_name: what a convolution is called, from its path in `model.named_modules()`; by default that path.

    Raises:
        PruningError: the network cannot be run on the example, or has no convolution that may be cut.
        ConfigError: a key or a value of `config` that is not known, or `prune.exclude` names no layer.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor | tuple[Any, ...],
        config: SauronConfig | Config | Mapping[str, Any] | None = None,
        layer_name: Callable[[str], str] = str,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise PruningError(f"model must be a torch.nn.Module; this is a {type(model).__name__}")
        self.model = model
        self.config = SauronConfig.of(config)
        detach(model)
        self.graph: ChannelGraph = checked(model, trace(model, example_input, layer_name), example_input)
        refuse_exclude(self.graph, self.config.prune.exclude)
        if not self.graph.layers:
            why = "; ".join(
                f"{name or 'the network itself'}: {reason}" for name, reason in list(self.graph.reasons.items())[:3]
            )
            raise PruningError(f"no convolution of this network can be cut ({why or 'it has none'})")
        self.states: dict[str, LayerState] = {group[0]: LayerState() for group in self.graph.groups()}
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.released = False
        self._readers: dict[str, ReaderMoments] = {}
        self._maps = Maps(self.graph.taps, tuple(self.graph.layers))
        self._handles = attach(model, self._maps, only_training=True) if self.measured else []

    @property
    def layers(self) -> dict[str, int]:
        """Number of filters that each prunable layer has now, by name."""
        return self.graph.widths()

    def __str__(self) -> str:
        """What of the network can be pruned, which layers are decided as one, and what is left whole and why."""
        return report(self.graph, self.config.prune.exclude)

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
        return self.measured and self.config.loss.lambda_ > 0 and not self.released

    def penalty(self, with_loss: bool = False) -> Tensor:
        """λ times the mean of δ_opt over the prunable layers, for the latest forward pass in training mode.

        Differentiable; 0 when λ is 0 or the normalisation is `off`. The maps are let go of, so it is asked once a pass.

        Args:
            with_loss: whether backward is called on a sum of this and a loss that every layer has a part in. Then δ_opt
                of some images of a batch (`loss.samples`) costs a CPU less.

        Raises:
            PruningError: the network has not been called in training mode since the last time.
        """
        if not self.penalised:
            self._maps.clear()
            return self._nothing()
        return self.config.loss.lambda_ * self.delta_opt(with_loss=with_loss)

    def delta_opt(self, images: Images | None = None, with_loss: bool = False) -> Tensor:
        """The same without λ: with λ = 0 measured all the same, without gradient; 0 when the normalisation is `off`.

        Args:
            images: which of the batch it is taken of; those of `draw_images` if left out.
            with_loss: as in `penalty`.
        """
        if not self.measured:
            return self._nothing()
        with torch.set_grad_enabled(self.penalised and torch.is_grad_enabled()):
            return self._mean_delta_opt(images, with_loss)

    def draw_images(self, batch: int) -> list[int] | None:
        """Which images of a batch δ_opt is taken of in the next step (`loss.samples`); None = all."""
        samples = self.config.loss.samples
        if not self.measured or samples is None or samples >= batch:
            return None
        # One number whatever the size of the batch, so that processes with parts of one draw the same π afterwards.
        first = self._draw(2**31)
        return [(first + following) % batch for following in range(samples)]

    def _mean_delta_opt(self, images: Images | None, with_loss: bool) -> Tensor:
        maps = []
        for layer in self._maps:
            try:
                maps.append(self._maps[layer])
            except KeyError:
                raise PruningError(
                    f"{layer} was not called in this pass, as it was on the example; δ_opt needs the same way through "
                    "the network each time"
                ) from None
            self._refuse_unlinked(layer)
        if not maps and not (self._handles and self._handles[0].id in self.model._forward_pre_hooks):
            raise PruningError("this Sauron was closed, or another one was made for the model, so it hears nothing")
        if not maps:
            raise PruningError(
                "call the model on a batch in training mode before each penalty(); one pass can be asked once"
            )
        # A map that was made again gets no gradient from the loss.
        with_loss = with_loss and self._maps.of_network
        self._maps.clear()
        loss = self.config.loss
        references = [self._draw(m.shape[1]) for m in maps] if loss.reference == "random" else None
        images = self.draw_images(len(maps[0])) if images is None else images
        normalization: Any = loss.normalization
        return mean_delta_opt(maps, normalization, loss.window, references, images, with_loss)

    def _refuse_unlinked(self, layer: str) -> None:
        weight: Any = self.model.get_submodule(self.graph.layers[layer].module).weight
        if self.penalised and weight.requires_grad and self._maps.without_gradient(layer):
            raise PruningError(
                f"{layer} was called without gradient, so δ_opt could not train it; call torch.utils.checkpoint with "
                "use_reentrant=False, or freeze the layer with requires_grad_(False) if it is not trained"
            )

    def _nothing(self) -> Tensor:
        return next(self.model.parameters()).new_zeros(())

    @contextmanager
    def listening(self) -> Iterator[Maps]:
        """Collect the maps of the forward passes inside the block, layer name to (B, C, *spatial)."""
        with listen(self.model, self.graph) as maps:
            yield maps

    def prune(
        self, optimizer: Optimizers, batches: Iterable[Any], history: History, total: Total | None = None
    ) -> PruneRecord:
        """End an epoch: measure δ_prune, move the thresholds, and cut what is below them.

        Nothing is measured or cut in epochs before `prune.first_epoch` and after `prune.last_epoch`; the number of
        training losses in `history` is the epoch.

        Args:
            optimizer: the one, or those, that hold the model's parameters; state that has its parameter's shape is cut
                with it. None only while the parameters have no state.
            batches: training images, each (B, channels, *spatial), or a tuple of what the model is called with; the
                first `prune.batches` of them are looked at.
            history: losses of all epochs so far, this one included.
            total: as in `measure`.

        Raises:
            PruningError: a cut that cannot be made; nothing has been changed then.
            ConfigError: `converge_on: validation` without validation losses, by which no threshold would ever rise.
        """
        check_history(history, self.config.prune)
        if not self.prunes_in(len(history.train_losses)):
            return PruneRecord(Cut(frozenset(), {}), {})
        if isinstance(batches, Tensor):
            raise PruningError("batches must be a list of batches; put this one in brackets")
        states, drawn = self.states, self.generator.get_state()
        try:
            record = self.decide(self.measure(itertools.islice(batches, self.config.prune.batches), total), history)
            self.apply(record.cut, optimizer)
        except BaseException:
            self.states = states
            self.generator.set_state(drawn)
            raise
        return record

    def prunes_in(self, epoch: int) -> bool:
        """Whether filters may go at the end of an epoch, counted from 1: what `prune` says of it."""
        prune = self.config.prune
        return prune.enabled and prune.first_epoch <= epoch <= (prune.last_epoch or epoch)

    def begin(self, epoch: int) -> None:
        """Say that an epoch begins, counted from 1: with `loss.until_last_cut` δ_opt is only looked at from some on."""
        prune = self.config.prune
        over = prune.enabled and prune.last_epoch is not None and epoch > prune.last_epoch
        self.released = over and self.config.loss.until_last_cut

    def cut(self, filters: Mapping[str, Iterable[int]], optimizer: Optimizers = None) -> PruneRecord:
        """Cut filters of your choice, and those that sums and group norms tie to them.

        Args:
            filters: layer name to filter numbers; a filter keeps the number that it had before the first cut.
            optimizer: as in `prune`.

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
    def measure(self, batches: Iterable[Tensor], total: Total | None = None) -> dict[str, Measure]:
        """δ_prune of the layers, averaged over batches of images (B, channels, *spatial), or tuples of arguments.

        π is drawn once per call; the network runs in eval mode (design choices). Layers that are decided together share
        their π and are averaged; they go under the name of the first.

        Where several processes train the network together, each gives its own batches, or none, and `total` sums a
        tensor over all processes: then all get the same.
        """
        config, graph = self.config.prune, self.graph
        references = {group: draw_references(graph, group, config, self.generator) for group in graph.groups()}
        drawn = {layer: places(graph, layer, references[group]) for group in references for layer in group}
        sums: dict[str, Tensor] = {}
        samples = 0
        hearing = overhear(self.model, self.graph, self._compensates)
        with evaluating(self.model), self.listening() as maps, hearing as readers:
            for batch in batches:
                arguments = arguments_of(batch)
                self._call(arguments)
                count = len(tensors_in(arguments)[0])
                samples += count
                for layer, layer_maps in maps.items():
                    value = delta_prune(layer_maps, drawn[layer], self.config.loss.window) * count
                    sums[layer] = sums[layer] + value if layer in sums else value
        self._readers = readers
        if total is not None:
            samples, sums = gathered(graph, drawn, samples, sums, total)
            for name, moments in readers.items():
                moments.gather(len(graph.convolutions()[name].inputs), total)
        if not samples:
            raise PruningError("prune needs at least one batch of images to measure δ_prune on")
        means = {layer: value / samples for layer, value in sums.items()}
        for layer, value in means.items():
            if not value.isfinite().all():
                raise PruningError(
                    f"the maps of {layer} are no numbers on these batches; look at the images and the loss"
                )
        return {group[0]: group_measure(graph, group, references[group], means, config) for group in references}

    def _call(self, arguments: tuple[Any, ...]) -> None:
        try:
            self.model(*arguments)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise PruningError(
                f"the network cannot be run on a batch ({reason}); batches must hold what it is called with, images "
                "without labels"
            ) from error

    def decide(self, measures: Mapping[str, Measure], history: History) -> PruneRecord:
        """Decide what goes, and move the thresholds; nothing is cut yet.

        Raises:
            PruningError: a cut that cannot be made.
        """
        decisions, self.states = decide(measures, self.states, history, self.config.prune)
        cut = self.graph.cut_of(channel for decision in decisions.values() for channel in decision.removed)
        records = {
            layer: layer_record(layer, self.graph.layers[layer], measures[group[0]], decisions[group[0]])
            for group in self.graph.groups()
            for layer in group
        }
        return PruneRecord(cut, {layer: records[layer] for layer in self.graph.layers})

    def apply(self, cut: Cut, optimizer: Optimizers) -> None:
        """Cut what was decided out of the network and the optimizer's state.

        With `compensate: merge` the readers of what goes are first taught to read a survivor in its place, by what
        `measure` saw.

        Raises:
            MismatchError: a cut that cannot be made; nothing has been changed then.
        """
        plan(self.model, self.graph, cut, optimizer)  # refuses what cannot be made before weights are changed
        fold(self.model, self.graph, cut, self._readers)
        leaders = {layer: group[0] for group in self.graph.groups() for layer in group}
        self.graph = cut_network(self.model, self.graph, cut, optimizer)
        # What tied layers together may be gone: each part goes on from where the whole was.
        self.states = {group[0]: self.states[leaders[group[0]]] for group in self.graph.groups()}
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
            "config": self.config.model_dump(by_alias=True, mode="json"),
            "states": {layer: asdict(state) for layer, state in self.states.items()},
            "filters": {layer: list(self.graph.filters(layer)) for layer in self.graph.layers},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. A network that is still whole is cut to the filters that it had then.

        So a pruned network is built again as it was made at first, cut by this, and then given its weights, before an
        optimizer of it has made a step:

            sauron = Sauron(model, example_input)
            sauron.load_state_dict(saved["sauron"])
            model.load_state_dict(saved["model"])

        Raises:
            PruningError: the state is that of another network, or of another schedule; nothing has been changed then.
        """
        try:
            saved = SauronConfig.of(state["config"]).prune
            states = {layer: LayerState(**values) for layer, values in state["states"].items()}
        except (KeyError, TypeError, AttributeError):
            raise PruningError("this is no state of a Sauron; give what its state_dict() returned") from None
        for key in ("threshold_start", "threshold_max", "kappa"):
            before, now = getattr(saved, key), getattr(self.config.prune, key)
            if before != now:
                raise PruningError(
                    f"the state was saved with prune.{key} {before:g}, this Sauron has {now:g}; give it the same config"
                )
        if any(layer not in self.layers or not 0 <= s.step <= self.config.prune.kappa for layer, s in states.items()):
            raise PruningError("the saved thresholds are those of another network")
        filters: Mapping[str, list[int]] = state["filters"]
        if self.layers == {layer: len(kept) for layer, kept in filters.items()}:
            self.graph = self.graph.renumbered(filters)
        else:
            self.graph = cut_network(self.model, self.graph, self.graph.cut_to(filters))
        self.states = states
        self.generator.set_state(state["generator"])

    @property
    def _compensates(self) -> bool:
        return self.config.prune.compensate == "merge"

    def _draw(self, width: int) -> int:
        return int(torch.randint(width, (), generator=self.generator))

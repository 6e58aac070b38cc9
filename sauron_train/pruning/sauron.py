"""The method around a network: penalty while it trains, measure, decide and cut at the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sauron_train.config import LossConfig, PruneConfig
from sauron_train.pruning.channels import trace
from sauron_train.pruning.compensation import MapMoments, fold, substitutes
from sauron_train.pruning.distances import delta_prune, mean_delta_opt
from sauron_train.pruning.graph import ChannelGraph, Cut
from sauron_train.pruning.policy import History, LayerDecision, LayerMeasure, LayerState, decide
from sauron_train.pruning.surgery import cut_network, plan
from sauron_train.pruning.taps import listen


class Sauron:
    """Carries a network's channel graph and the state of its thresholds through training.

    Args:
        model: the network; cut in place.
        example: an input it accepts, (B, channels, *spatial), on its device.
        loss: λ, normalisation and ω.
        prune: thresholds and what moves them.
        seed: of the generator that draws the references π.
        layer_name: what a convolution is called, from its module path.

    Raises:
        PruningError: the network cannot be traced.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        loss: LossConfig,
        prune: PruneConfig,
        seed: int = 0,
        layer_name: Callable[[str], str] = str,
    ) -> None:
        self.model = model
        self.loss = loss
        self.config = prune
        self.graph: ChannelGraph = trace(model, example, layer_name)
        self.states: dict[str, LayerState] = {name: LayerState() for name in self.graph.layers}
        self.generator = torch.Generator().manual_seed(seed)
        self._moments: dict[str, MapMoments] = {}

    @property
    def layers(self) -> dict[str, int]:
        """Filters left per prunable layer."""
        return self.graph.widths()

    @property
    def penalised(self) -> bool:
        """Whether training pays for δ_opt at all."""
        return self.loss.normalization != "off" and self.loss.lambda_ > 0

    @contextmanager
    def listening(self) -> Iterator[Mapping[str, Tensor]]:
        """Collect the maps of the forward passes inside the block, layer name to (B, C, *spatial)."""
        with listen(self.model, self.graph) as maps:
            yield maps

    def delta_opt(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Mean of δ_opt over the prunable layers (not weighted by λ); differentiable."""
        if self.loss.normalization == "off":
            return next(iter(maps.values())).new_zeros(())
        return mean_delta_opt(list(maps.values()), self.loss.normalization, self.loss.window)

    @torch.no_grad()
    def measure(self, batches: Iterable[Tensor]) -> dict[str, LayerMeasure]:
        """δ_prune of every layer, averaged over batches of images, each (B, channels, *spatial).

        π is drawn once per layer and call; the network runs in eval mode (design choices).
        """
        references = {layer: self._draw(width) for layer, width in self.layers.items()}
        sums: dict[str, Tensor] = {}
        samples = 0
        self._moments = {}
        training = self.model.training
        self.model.eval()
        with self.listening() as maps:
            for images in batches:
                self.model(images)
                samples += len(images)
                for layer, layer_maps in maps.items():
                    value = delta_prune(layer_maps, references[layer], self.loss.window) * len(images)
                    sums[layer] = sums[layer] + value if layer in sums else value
                    if self._compensates:
                        self._count(layer, layer_maps)
        self.model.train(training)
        return {
            layer: LayerMeasure(
                self.graph.filters(layer),
                tuple((total / samples).cpu().tolist()),
                self.graph.filters(layer)[references[layer]],
            )
            for layer, total in sums.items()
        }

    def decide(self, measures: Mapping[str, LayerMeasure], history: History) -> dict[str, LayerDecision]:
        """Decide what goes, and move the thresholds; nothing is cut yet."""
        decisions, self.states = decide(measures, self.states, history, self.config)
        return decisions

    def cut(self, decisions: Mapping[str, LayerDecision], optimizer: Optimizer | None) -> Cut:
        """Cut what was decided out of the network and the optimizer's state, after `measure` in the same epoch.

        With `compensate: merge` the readers of what goes are first taught to read a survivor in its place.

        Raises:
            PruningError: a cut that cannot be made; nothing has been changed then.
        """
        cut = self.graph.resolve({layer: decision.removed for layer, decision in decisions.items()})
        if self._compensates:
            plan(self.model, self.graph, cut)  # refuses what cannot be made before weights are changed
            fold(self.model, self.graph, substitutes(self.graph, cut, self._moments))
        self.graph = cut_network(self.model, self.graph, cut, optimizer)
        return cut

    def state_dict(self) -> dict[str, Any]:
        """Thresholds, patience, original filter numbers and the generator's state; plain values and tensors."""
        return {
            "states": {layer: asdict(state) for layer, state in self.states.items()},
            "filters": {layer: list(self.graph.filters(layer)) for layer in self.graph.layers},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the network must have the widths it had then.

        Raises:
            PruningError: the filters do not fit the network.
        """
        self.graph = self.graph.renumbered(state["filters"])
        self.states = {layer: LayerState(**values) for layer, values in state["states"].items()}
        self.generator.set_state(state["generator"])

    def _count(self, layer: str, maps: Tensor) -> None:
        if layer in self._moments:
            self._moments[layer].add(maps)
        else:
            self._moments[layer] = MapMoments(maps)

    @property
    def _compensates(self) -> bool:
        return self.config.compensate == "merge"

    def _draw(self, width: int) -> int:
        return int(torch.randint(width, (), generator=self.generator))

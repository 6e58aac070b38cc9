"""What would go at every threshold, in one layer or in all, and what it would save: from stored maps, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sauron_train.analysis.cost import Cost, network_cost
from sauron_train.analysis.removal import goes
from sauron_train.errors import RunError
from sauron_train.runlog.schema import Array
from sauron_viz.runs import RunView

Turns = Literal["all", "first"] | int
"""Which maps are π: all that stay in turn, the first, or one filter by its number."""

# In thousandths: finer where thresholds usually lie.
STEPS = (*range(0, 400, 2), *range(400, 1001, 10))
THRESHOLDS = tuple(step / 1000 for step in STEPS)


@dataclass(frozen=True)
class Outlook:
    """For each of `THRESHOLDS` (T,): what of the layers goes, and what is left then.

    Attributes:
        goes: layer to (T, C), True for a filter that goes, in the order of `filters`.
        filters: layer to the original numbers (C,) of the filters that are left now.
        widths: layer to (T,) filters that would be left; layers that are not looked at stay as they are.
        cost: of the network then.
        now: of the network as it is.
        start: of the network before the first cut.
    """

    goes: Mapping[str, npt.NDArray[np.bool_]]
    filters: Mapping[str, Array]
    widths: Mapping[str, Array]
    cost: Cost
    now: Cost
    start: Cost

    def chosen(self, step: int) -> dict[str, list[int]]:
        """The filters that go at a threshold, by its place; layers that lose none are left out."""
        found = {layer: self.filters[layer][gone[step]].tolist() for layer, gone in self.goes.items()}
        return {layer: numbers for layer, numbers in found.items() if numbers}

    def count(self) -> Array:
        """(T,) filters that go."""
        return np.asarray(np.sum([gone.sum(axis=1) for gone in self.goes.values()], axis=0))


def outlook(view: RunView, epoch: int, layers: Sequence[str], turns: Turns) -> Outlook:
    """Ask the stored maps of an epoch.

    δ_prune is taken between maps as they were stored, pooled, over the probe images; training takes it over training
    batches at full resolution, so the two are near but not the same. Layers are cut to the widths that the run's
    `prune.width_multiple` allows.

    Args:
        view: the run.
        epoch: one whose maps are stored.
        layers: those that may lose filters.
        turns: which maps are π. A filter that a layer does not have counts as its first.

    Raises:
        RunError: no maps of a layer at that epoch.
    """
    numbers = {layer: view.shelf.filters(epoch, layer) for layer in layers}
    gone = {}
    for layer, filters in numbers.items():
        order = _order(filters, turns)
        gone[layer] = goes(view.shelf.delta_prune(epoch, layer), order, THRESHOLDS, view.config.prune.width_multiple)
    widths: dict[str, Array] = {name: np.asarray(count) for name, count in _widths(view, epoch).items()}
    after = {**widths, **{layer: len(numbers[layer]) - found.sum(axis=1) for layer, found in gone.items()}}
    start: dict[str, Array] = {info.name: np.asarray(info.filters) for info in view.info.layers}
    return Outlook(gone, numbers, after, _cost(view, after), _cost(view, widths), _cost(view, start))


def _order(filters: Array, turns: Turns) -> list[int]:
    if turns == "all":
        return list(range(len(filters)))
    found: list[int] = np.flatnonzero(filters == turns).tolist() if isinstance(turns, int) else []
    return found or [0]


def _widths(view: RunView, epoch: int) -> dict[str, int]:
    rows = view.layers[view.layers["epoch"] == epoch]
    widths = {str(name): int(count) for name, count in zip(rows["layer"], rows["filters"], strict=True)}
    missing = [info.name for info in view.info.layers if info.name not in widths]
    if missing:
        raise RunError(f"layers.csv of run {view.title} has no line for {missing[0]} at epoch {epoch}")
    return widths


def _cost(view: RunView, widths: Mapping[str, Array]) -> Cost:
    config, info = view.config, view.info
    return network_cost(config.network, len(info.channels), len(info.labels), config.data.patch, widths)

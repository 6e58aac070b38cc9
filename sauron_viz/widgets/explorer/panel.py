"""Which maps say the same thing? All maps of a layer, and cards beside them that look into one, or at all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import ipywidgets
import numpy as np

from sauron_train.errors import SauronError
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Frame
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, esc, show, soon, text
from sauron_viz.widgets.controls import Choice, Select, Slider, Tabs
from sauron_viz.widgets.explorer.compare import Comparison
from sauron_viz.widgets.explorer.matrix import MatrixCard
from sauron_viz.widgets.explorer.outlook import OutlookCard
from sauron_viz.widgets.explorer.own import OwnImageCard
from sauron_viz.widgets.explorer.scene import Card, Scene
from sauron_viz.widgets.explorer.segmentation import SegmentationCard
from sauron_viz.widgets.explorer.selected import SelectedCard
from sauron_viz.widgets.grid import FeatureGrid
from sauron_viz.widgets.panel import Panel

_SIZES = [["0", "Fit"], ["48", "S"], ["80", "M"], ["144", "L"]]
_SCALES = [["map", "Each map"], ["layer", "All maps"]]
_ORDERS = [
    ["number", "Number"],
    ["clusters", "Clusters"],
    ["reference", "Distance to reference"],
    ["variance", "Variance"],
]
_ALIKE = "Filters left of those at the start; alike: the share of pairs of maps that are nearer than {radius:g}"
_REMOVED = [["shown", "Shown"], ["hidden", "Hidden"]]
_CARDS = [
    ["map", "Map"],
    ["distances", "Distances"],
    ["outlook", "What would go?"],
    ["segmentation", "Result"],
    ["own", "Your image"],
]

C = TypeVar("C", bound=Card)


class ExplorerPanel(Panel):
    """Choose layer, epoch, probe image and, in 3D, a slice; what is chosen in one card is chosen in all."""

    watches: ClassVar[tuple[str, ...]] = ("version", "epoch", "layer", "image", "filter")

    def build(self) -> None:
        """Make the controls, the grid and the cards beside it."""
        self._busy = False
        self.scene = Scene(self.viewer)
        self.grid = FeatureGrid(self._supply)
        self.comparison = Comparison(self.scene, self.grid)
        self.selected = SelectedCard(self.scene)
        self.cards: dict[str, Card] = {"map": self.selected}
        self.tabs = Tabs(label="Beside the grid", options=_CARDS, value="map")
        self.side = box(self.tabs, self.selected.widget, css="sauron-card sauron-side")
        grids = box(box(self.grid, css="sauron-card sauron-stack"), self.comparison.widget, css="sauron-twin")
        left = box(grids, self.selected.below, css="sauron-stack")
        self._build_controls()
        self.main = box(left, self.side, css="sauron-maps")
        self.empty = text("", "sauron-card")
        self.children = (self.controls, self.empty, self.main)
        self._link()
        # The page will ask for it as soon as it can.
        soon(lambda: self._supply(self.epoch.value))

    def update(self) -> None:
        """Follow the state; controls that follow it must not write back."""
        view = self.viewer.view
        epochs = view.map_epochs if view else []
        if view is None or not epochs:
            self._blank(self._why_empty())
            return
        try:
            self._draw(view, epochs)
        except SauronError as error:
            # Somebody took away what was there when the run was opened.
            self._blank(str(error))
            return
        for widget in (self.controls, self.main):
            show(widget, True)
        show(self.empty, False)

    def _blank(self, sentence: str) -> None:
        """Nothing but a sentence."""
        for widget in (self.controls, self.main):
            show(widget, False)
        show(self.empty, True)
        self.empty.value = f'<p class="sauron-empty">{esc(sentence)}</p>'
        self.grid.base = ""

    def _draw(self, view: RunView, epochs: list[int]) -> None:
        self._busy = True
        try:
            self._update_controls(view, epochs)
        finally:
            self._busy = False
        self.comparison.update()
        self._update_grid(view, epochs)
        self.comparison.draw()
        self._update_card()

    def _build_controls(self) -> None:
        self.layer = Select(label="Layer")
        self.image = Select(label="Probe image")
        self.axis = Choice(label="Slice along")
        self.order = Select(label="Order", options=_ORDERS, value="number")
        self.removed = Choice(label="Removed filters", options=_REMOVED, value="shown")
        self.scale = Choice(label="Colours over", options=_SCALES, value="map")
        self.size = Choice(label="Size", options=_SIZES, value="0")
        self.epoch = Slider(label="Epoch", playable=True)
        self.slice = Slider(label="Slice")
        for slider in (self.epoch, self.slice):
            slider.add_class("sauron-wide")
        compare = self.comparison.choice
        choices = (self.layer, self.image, self.axis, compare, self.order, self.removed, self.scale)
        for select in (compare, self.order):
            select.add_class("sauron-short")
        self.layer.add_class("sauron-medium")
        self.controls = box(
            box(*choices, css="sauron-row sauron-close"),
            box(self.epoch, self.slice, self.size, css="sauron-row"),
            css="sauron-toolbar",
        )

    def _link(self) -> None:
        state, guard = self.viewer.state, self.viewer.guard
        for key, setting in self._settings().items():
            self.viewer.remember(key, setting)
        # The browser itself moves the grid with the controls. One way only: an epoch that comes late from the kernel
        # would otherwise pull back a slider that is being dragged.
        for control, trait in (
            (self.epoch, "epoch"),
            (self.order, "order"),
            (self.scale, "scale"),
            (self.removed, "removed"),
        ):
            ipywidgets.jsdlink((control, "value"), (self.grid, trait))
        self.epoch.observe(guard(lambda change: self._set("epoch", self._seen_at(change.new))), "value")
        self.layer.observe(guard(lambda change: self._set("layer", change.new)), "value")
        self.image.observe(guard(lambda change: self._set("image", int(change.new or 0))), "value")
        self.grid.observe(guard(lambda change: setattr(state, "filter", change.new)), "filter")
        self.scale.observe(guard(lambda _: self.update()), "value")
        self.size.observe(guard(lambda change: setattr(self.grid, "size", int(change.new))), "value")
        self.axis.observe(guard(lambda _: self._cut_elsewhere()), "value")
        self.slice.observe(guard(lambda _: self._sliced()), "value")
        self.comparison.choice.observe(guard(lambda _: self.update()), "value")
        self.tabs.observe(guard(lambda _: self._update_card()), "value")

    def _settings(self) -> dict[str, Choice | Select | Tabs]:
        return {"card": self.tabs, "order": self.order, "scale": self.scale, "removed": self.removed}

    def _set(self, trait: str, value: Any) -> None:
        if not self._busy:
            setattr(self.viewer.state, trait, value)

    def _seen_at(self, epoch: int) -> int:
        """Maps are stored every few epochs only: the newest stand for now, as long as there are no newer ones."""
        return self.viewer.newest if epoch == self.epoch.options[-1] else epoch

    def _why_empty(self) -> str:
        view = self.viewer.view
        if view is None:
            return str(self.viewer.state.problem)
        if view.status == "running":
            return (
                "This run has not stored feature maps yet. They appear here by themselves, at the first epoch "
                f"and then every {view.config.maps_every}."
            )
        return "This run holds no feature maps."

    def _update_controls(self, view: RunView, epochs: list[int]) -> None:
        state = self.viewer.state
        with self.epoch.hold_sync():
            self.epoch.options = epochs
            wanted = view.stored_epoch(state.epoch)
            moved = wanted != self.epoch.value
            self.epoch.value = self.scene.epoch = wanted
        if moved:
            # Only then: where the reader moved the slider, the browser has moved the grid, and is ahead of the kernel.
            self.grid.epoch = wanted
            if "distances" in self.cards:
                self.matrix.matrix.epoch = wanted
        stored = set(view.run.map_layers(wanted))
        left, alike = _at_a_glance(view, wanted)
        options = [
            [
                info.name,
                f"{info.name} · {left.get(info.name, info.filters)}/{info.filters}{alike.get(info.name, '')}",
                info.part.capitalize(),
            ]
            for info in self.viewer.layers
            if info.name in stored or not stored
        ]
        with self.layer.hold_sync():
            self.layer.options = options
            self.layer.value = state.layer
            self.layer.hint = _ALIKE.format(radius=view.config.probe.radius)
        with self.image.hold_sync():
            self.image.options = [[str(i), name] for i, name in enumerate(view.probe().names)]
            self.image.value = str(state.image)
        self._update_slices(view.probe().labels)
        show(self.removed, view.pruned)

    def _update_slices(self, labels: Array) -> None:
        solid = labels.ndim == 4
        show(self.axis, solid)
        show(self.slice, solid)
        if not solid:
            return
        if not self.axis.options:
            self.axis.options, self.axis.value = [["0", "1"], ["1", "2"], ["2", "3"]], "0"
            self.viewer.recall("axis", self.axis)
        self.scene.axis = int(self.axis.value)
        size = labels.shape[1 + self.scene.axis]
        if len(self.slice.options) != size:
            with self.slice.hold_sync():
                self.slice.options = list(range(size))
                self.slice.value = _fullest(labels[self.viewer.state.image], self.scene.axis)
                # A slice in a link is one of the first image that is looked at.
                self.viewer.recall("slice", self.slice)
        self.scene.share = (self.slice.value + 0.5) / size

    def _cut_elsewhere(self) -> None:
        if not self._busy:
            self._busy = True
            self.slice.options = []
            self._busy = False
            self.viewer.settle("axis", self.axis.value, "0")
            self.viewer.settle("slice", "", "")
            self.update()

    def _sliced(self) -> None:
        if not self._busy:
            self.viewer.settle("slice", str(self.slice.value), "")
        self.update()

    def _update_grid(self, view: RunView, epochs: list[int]) -> None:
        state = self.viewer.state
        cut = f"{self.axis.value}@{self.slice.value}" if self.slice.options else "2d"
        with self.grid.hold_sync():
            self.grid.epochs = epochs
            self.grid.aspect = self.scene.aspect
            compared = bool(self.comparison.choice.value)
            self.grid.label = f"{view.title}: {state.layer}" if compared else f"Maps of {state.layer}"
            self.grid.base = f"{state.run}|{view.created}|{state.layer}|{state.image}|{cut}"
            self.grid.filter = state.filter
            self.grid.caption = self.scene.caption(view, self.scale.value)

    def _update_card(self) -> None:
        """Only the card that is seen is brought up to date."""
        view, seen = self.viewer.view, self.tabs.value
        if not view or not view.map_epochs:
            return
        self.selected.common = self.scale.value == "layer"
        if "distances" in self.cards or seen == "distances":
            self._update_matrix(view, seen == "distances")
        if "outlook" in self.cards and seen != "outlook":
            self.outlook.hide()
        chosen = self._card(seen)
        for card in self.cards.values():
            show(card.widget, card is chosen)
        chosen.update()
        self.selected.update_below()

    def _update_matrix(self, view: RunView, active: bool) -> None:
        state, matrix = self.viewer.state, self.matrix.matrix
        # Its filter is the grid's: the browser hands it over.
        with matrix.hold_sync():
            # Distances are of whole maps, so another slice has the same.
            matrix.base = f"{state.run}|{view.created}|{state.layer}|{state.image}"
            matrix.active = active

    def _card(self, key: str) -> Card:
        """A card of its tab."""
        cards: dict[str, Callable[[], Card]] = {
            "map": lambda: self.selected,
            "distances": lambda: self.matrix,
            "outlook": lambda: self.outlook,
            "segmentation": lambda: self._placed("segmentation", SegmentationCard(self.scene)),
            "own": lambda: self.own,
        }
        return self.cards[key] if key in self.cards else cards[key]()

    # Cards are made when they are first looked at: a page opens faster with fewer widgets on it.

    @cached_property
    def matrix(self) -> MatrixCard:
        """The distances between all maps."""
        card = self._placed("distances", MatrixCard(self.scene, self._pick))
        card.matrix.epoch, card.matrix.order = self.epoch.value, self.order.value
        for source, target in (
            ((self.epoch, "value"), (card.matrix, "epoch")),
            ((self.order, "value"), (card.matrix, "order")),
            ((self.grid, "filter"), (card.matrix, "filter")),
            ((card.matrix, "marked"), (self.grid, "marked")),
        ):
            ipywidgets.jsdlink(source, target)
        return card

    @cached_property
    def outlook(self) -> OutlookCard:
        """What a threshold would take."""
        return self._placed("outlook", OutlookCard(self.scene, self.grid))

    @cached_property
    def own(self) -> OwnImageCard:
        """An image of the reader's own."""
        return self._placed("own", OwnImageCard(self.scene, lambda: setattr(self.tabs, "value", "map")))

    def _placed(self, key: str, card: C) -> C:
        self.cards[key] = card
        self.side.children = (*self.side.children, card.widget)
        return card

    def _pick(self, first: int, second: int) -> None:
        """Two maps of a cell of the matrix: the one is chosen, the other pinned beside it."""
        self.selected.pinned = first if first != second else -1
        self.viewer.state.filter = second

    def _supply(self, epoch: int) -> Frame | str:
        try:
            return self.scene.frame(epoch)
        except SauronError as error:
            return str(error)


def _fullest(labels: Array, axis: int) -> int:
    """The slice in which most is labelled; the middle where nothing is."""
    others = tuple(a for a in range(labels.ndim) if a != axis)
    labelled = (labels > 0).sum(axis=others)
    return int(np.argmax(labelled)) if labelled.any() else len(labelled) // 2


def _at_a_glance(view: RunView, epoch: int) -> tuple[dict[str, int], dict[str, str]]:
    """Filters left and, in words, the share of pairs of maps that are alike, by layer."""
    rows = view.layers[view.layers["epoch"] == epoch].set_index("layer")
    left = {str(layer): int(count) for layer, count in rows["filters"].items()}
    if "neighbours_share" not in rows:
        return left, {}
    shares = rows["neighbours_share"].dropna()
    return left, {str(layer): f" · {100 * share:.0f} % alike" for layer, share in shares.items()}

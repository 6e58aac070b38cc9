"""Which maps say the same thing? All maps of a layer, the image they answer to, and one of them in detail."""

from __future__ import annotations

from typing import Any, ClassVar

import ipywidgets
import numpy as np

from sauron_train.errors import SauronError
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Bytes, Frame, slice_position, take_slice, to_bytes
from sauron_viz.runs import RunView
from sauron_viz.theme import CIVIDIS_CSS, class_colours, palette
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Choice, Select, Slider
from sauron_viz.widgets.grid import FeatureGrid, ImageView
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import explain

_SIZES = [["0", "Fit"], ["48", "S"], ["80", "M"], ["144", "L"]]
_SCALES = [["map", "Each map"], ["layer", "Whole layer"]]
_ORDERS = [
    ["number", "Filter number"],
    ["clusters", "Clusters"],
    ["reference", "Distance to the reference"],
    ["variance", "Variance, largest first"],
]
_REMOVED = [["shown", "Shown"], ["hidden", "Hidden"]]


class FeatureMapsPanel(Panel):
    """Choose layer, epoch, probe image and, in 3D, a slice; click a map for its numbers and its nearest neighbour."""

    watches: ClassVar[tuple[str, ...]] = ("version", "epoch", "layer", "image", "filter")

    def build(self) -> None:
        """Make the controls, the grid and the card beside it."""
        state, guard = self.viewer.state, self.viewer.guard
        self.layer = Select(label="Layer")
        self.image = Select(label="Probe image")
        self.axis = Choice(label="Slice along")
        self.scale = Choice(label="Colour scale", options=_SCALES, value="map")
        self.size = Choice(label="Size of maps", options=_SIZES, value="0")
        self.order = Select(label="Order", options=_ORDERS, value="number")
        self.removed = Choice(label="Removed filters", options=_REMOVED, value="shown")
        self.epoch = Slider(label="Epoch")
        self.slice = Slider(label="Slice")
        self.epoch.add_class("sauron-wide")
        self.slice.add_class("sauron-wide")
        self.grid = FeatureGrid(self._supply)
        self.input = ImageView()
        self.legend = text("")
        self.chosen, self.nearest = ImageView(palette=palette("cividis")), ImageView(palette=palette("cividis"))
        self.detail = text("")
        self.pair = box(self.chosen, self.nearest, css="sauron-pair")
        self.picked = box(self.pair, self.detail, css="sauron-stack")
        side = box(box(self.input, self.legend, css="sauron-stack"), self.picked, css="sauron-card sauron-side")
        self.main = box(box(self.grid, css="sauron-card sauron-stack"), side, css="sauron-maps")
        choices = box(
            self.layer, self.image, self.axis, self.order, self.removed, self.scale, self.size, css="sauron-row"
        )
        self.controls = box(choices, box(self.epoch, self.slice, css="sauron-row"), css="sauron-toolbar")
        self.empty = text("", "sauron-card")
        self.children = (self.controls, self.empty, self.main)
        # The browser itself moves the grid with the slider. One way only: an epoch that comes late from the kernel
        # would otherwise pull back a slider that is being dragged.
        ipywidgets.jsdlink((self.epoch, "value"), (self.grid, "epoch"))
        for control, trait in ((self.scale, "scale"), (self.order, "order"), (self.removed, "removed")):
            ipywidgets.jsdlink((control, "value"), (self.grid, trait))
        self.epoch.observe(guard(lambda change: self._set("epoch", change.new)), "value")
        self.layer.observe(guard(lambda change: self._set("layer", change.new)), "value")
        self.image.observe(guard(lambda change: self._set("image", int(change.new or 0))), "value")
        self.grid.observe(guard(lambda change: setattr(state, "filter", change.new)), "filter")
        self.scale.observe(guard(lambda _: self._update_detail()), "value")
        self.size.observe(guard(lambda change: setattr(self.grid, "size", int(change.new))), "value")
        self.axis.observe(guard(lambda _: self._cut_elsewhere()), "value")
        self.slice.observe(guard(lambda _: self.update()), "value")
        self._busy = False

    def update(self) -> None:
        """Follow the state; controls that follow it must not write back."""
        view = self.viewer.view
        epochs = view.map_epochs if view else []
        for widget in (self.controls, self.main):
            show(widget, bool(epochs))
        show(self.empty, not epochs)
        if view is None or not epochs:
            self.empty.value = f'<p class="sauron-empty">{esc(self._why_empty())}</p>'
            self.grid.base = ""
            return
        self._busy = True
        try:
            self._update_controls(view, epochs)
        finally:
            self._busy = False
        self._update_grid(view, epochs)
        self._update_input(view)
        self._update_detail()

    def _set(self, trait: str, value: Any) -> None:
        if not self._busy:
            setattr(self.viewer.state, trait, value)

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
            wanted = state.epoch if state.epoch in epochs else epochs[-1]
            moved = wanted != self.epoch.value
            self.epoch.value = wanted
        if moved:
            # Only then: where the reader moved the slider, the browser has moved the grid, and is ahead of the kernel.
            self.grid.epoch = wanted
        stored = set(view.run.map_layers(self.epoch.value))
        left = _filters_left(view, self.epoch.value)
        options = [
            [info.name, f"{info.name} – {left.get(info.name, info.filters)} of {info.filters}", info.part.capitalize()]
            for info in self.viewer.layers
            if info.name in stored or not stored
        ]
        with self.layer.hold_sync():
            self.layer.options = options
            self.layer.value = state.layer
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
            self.axis.options, self.axis.value = [["0", "Axis 1"], ["1", "Axis 2"], ["2", "Axis 3"]], "0"
        size = labels.shape[1 + int(self.axis.value)]
        if len(self.slice.options) != size:
            with self.slice.hold_sync():
                self.slice.options = list(range(size))
                self.slice.value = self._fullest(labels[self.viewer.state.image], int(self.axis.value))

    @staticmethod
    def _fullest(labels: Array, axis: int) -> int:
        """The slice in which most is labelled."""
        others = tuple(a for a in range(labels.ndim) if a != axis)
        return int(np.argmax((labels > 0).sum(axis=others)))

    def _cut_elsewhere(self) -> None:
        if not self._busy:
            self._busy = True
            self.slice.options = []
            self._busy = False
            self.update()

    def _position(self, shape: tuple[int, ...]) -> tuple[int, int | None]:
        if len(shape) == 2:
            return 0, None
        axis = int(self.axis.value or 0)
        share = (self.slice.value + 0.5) / max(1, len(self.slice.options))
        return axis, slice_position(share, shape[axis])

    def _update_grid(self, view: RunView, epochs: list[int]) -> None:
        state = self.viewer.state
        cut = f"{self.axis.value}@{self.slice.value}" if self.slice.options else "2d"
        with self.grid.hold_sync():
            self.grid.epochs = epochs
            self.grid.aspect = self._aspect(view)
            self.grid.label = f"Maps of {state.layer}"
            self.grid.base = f"{state.run}|{view.created}|{state.layer}|{state.image}|{cut}"
            self.grid.filter = state.filter

    def _aspect(self, view: RunView) -> float:
        """Height of a voxel over its width in the slice that is shown."""
        spacing = list(view.probe().spacing)
        if len(spacing) == 3:
            spacing.pop(int(self.axis.value or 0))
        return float(spacing[0] / spacing[1])

    def _frame(self, epoch: int) -> Frame:
        view, state = self.viewer.view, self.viewer.state
        if view is None:
            raise KeyError("no run is open")
        axis, position = self._position(view.map_shape(epoch, state.layer))
        return view.frame(epoch, state.layer, state.image, axis, position)

    def _supply(self, epoch: int) -> Frame | str:
        try:
            return self._frame(epoch)
        except SauronError as error:
            return str(error)

    def _update_input(self, view: RunView) -> None:
        state = self.viewer.state
        probe = view.probe()
        image = probe.images[state.image, 0]
        axis, position = self._position(image.shape)
        flat = take_slice(image[None], axis, position)[0]
        labels = take_slice(probe.labels[state.image][None], axis, position)[0]
        try:
            whole = view.prediction(self.epoch.value)[state.image]
            predicted = take_slice(whole[None], axis, position)[0]
        except SauronError:
            predicted = None
        name = probe.names[state.image]
        self.input.put(
            to_bytes(flat),
            f"Input: {name}",
            label=np.ascontiguousarray(labels).tobytes(),
            prediction=b"" if predicted is None else np.ascontiguousarray(predicted).tobytes(),
            class_colours=class_colours(list(view.info.labels.values())),
            aspect=self._aspect(view),
            alt=f"Input image {name} with the outlines of its label and of the prediction at epoch {self.epoch.value}",
        )
        self.legend.value = _legend(view, predicted is not None)

    def _update_detail(self) -> None:
        number = self.viewer.state.filter
        show(self.pair, False)
        if number < 0:
            self.detail.value = (
                '<p class="sauron-note">Choose a map to see it beside the one that says most nearly the same.</p>'
            )
            return
        frame = self._supply(self.epoch.value)
        row = None if isinstance(frame, str) else frame.index(number)
        if isinstance(frame, str) or row is None or not frame.is_left(row):
            self.detail.value = f'<p class="sauron-note">{esc(self._where_it_went(number))}</p>'
            return
        show(self.pair, True)
        stats = frame.stats
        other = int(stats.nearest[row])
        aspect = self.grid.aspect
        self.chosen.put(self._coloured(frame, row), f"Filter {number}", alt=f"Map of filter {number}", aspect=aspect)
        near = frame.index(other)
        picture = None if near is None else self._coloured(frame, near)
        name = f"Nearest: {other}" if near is not None else ""
        self.nearest.put(picture, name, alt=f"Map of filter {other}", aspect=aspect)
        ends = frame.whole_range if self._common else (float(stats.low[row]), float(stats.high[row]))
        whose = "Colours of the whole layer" if self._common else f"Colours of filter {number}"
        self.detail.value = _colour_bar(whose, *ends) + _numbers(frame, row)

    @property
    def _common(self) -> bool:
        """Whether all maps of the layer share one colour scale."""
        return bool(self.scale.value == "layer")

    def _coloured(self, frame: Frame, row: int) -> Bytes:
        return frame.on_common_scale(row) if self._common else frame.pixels[row]

    def _where_it_went(self, number: int) -> str:
        view, layer = self.viewer.view, self.viewer.state.layer
        for cut in view.prunings if view else []:
            gone = next((g for g in cut.removed if g.filter == number and cut.layer == layer), None)
            if gone:
                return (
                    f"Filter {number} was removed at epoch {cut.epoch} (δ_prune {gone.delta_prune:.3f} below "
                    f"τ {cut.threshold:.3f}); filter {gone.nearest} said most nearly the same ({gone.distance:.3f})."
                )
        return f"This layer has no filter {number} at this epoch."


def _colour_bar(whose: str, low: float, high: float) -> str:
    bar = f'<i style="--scale:{CIVIDIS_CSS}"></i>'
    ends = f"<span>{esc(f'{low:.3g}')}</span>{bar}<span>{esc(f'{high:.3g}')}</span>"
    return f'<p class="sauron-note">{esc(whose)}</p><div class="sauron-scale">{ends}</div>'


def _numbers(frame: Frame, row: int) -> str:
    stats = frame.stats
    items = [("Values", f"{stats.low[row]:.3g} to {stats.high[row]:.3g}")]
    if row != frame.left[0]:
        items.append(("δ to the reference", f"{stats.to_reference[row]:.3f}"))
    if np.isfinite(stats.nearest_distance[row]):
        items.append(("δ to the nearest", f"{stats.nearest_distance[row]:.3f}"))
    if np.isfinite(stats.delta_prune[row]):
        items.append(("δ_prune", f"{stats.delta_prune[row]:.3f}"))
    cells = "".join(
        f'<tr title="{esc(explain(name))}"><td>{esc(name)}</td><td class="num">{esc(value)}</td></tr>'
        for name, value in items
    )
    return f'<table class="sauron-table"><tbody>{cells}</tbody></table>'


def _filters_left(view: RunView, epoch: int) -> dict[str, int]:
    rows = view.layers[view.layers["epoch"] == epoch]
    return dict(zip(rows["layer"], (int(n) for n in rows["filters"]), strict=True))


def _legend(view: RunView, predicted: bool) -> str:
    labels = view.info.labels
    colours = class_colours(list(labels.values()))
    items = [
        f'<span><i style="--swatch:{esc(colours[str(value)])}"></i>{esc(name)}</span>'
        for name, value in labels.items()
        if value
    ]
    if predicted:
        items.append('<span><i class="dashed"></i>prediction</span>')
    return f'<div class="sauron-legend">{"".join(items)}</div>'

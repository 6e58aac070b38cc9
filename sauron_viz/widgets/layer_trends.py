"""In which layers, and since when? The measures of chosen layers over epochs, and how much they changed."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from sauron_viz.figures import (
    Measure,
    grid_of,
    layer_heat,
    measure,
    measure_by_layer,
    measure_lines,
    measure_multiples,
    measures,
)
from sauron_viz.figures.plot import Plot
from sauron_viz.figures.trends import has_thirds, moved_lines
from sauron_viz.runs import RunView
from sauron_viz.theme import layer_colours
from sauron_viz.widgets.base import box, show
from sauron_viz.widgets.changes import ChangesCard
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Choice, LayerPicker, Select, Slider
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import explain

_SCALES = [["same", "Same for all"], ["own", "Each its own"]]
_FORMS = [["curves", "Curves"], ["multiples", "Small multiples"], ["heat", "Heat map"]]
_LINES = "Solid: encoder; dashed: decoder; dotted: transposed. A dot: the layer lost filters."
_NOTES = {
    "curves": _LINES,
    "multiples": _LINES,
    "heat": "Input at the top, output below. A dot: the layer lost filters.",
}
_THIRDS = {
    "curves": "Shaded: the thirds of the epochs whose means p1 and p2 are compared.",
    "multiples": "Short lines: p1 and p2, means of the first and the last third of the epochs; in percent how much "
    "they differ.",
}
_SAMPLES = {"pairs": "all distances", "reference": "distances to channel 0", "pca": "the first principal component"}
_WITHIN = ("neighbours", "neighbours_share")
_NONE = ["", "None"]
# In thousandths: finer where layers differ most, and each on the edge of a bin of the stored distances.
_RADII = [*range(5, 200, 5), *range(200, 500, 10), *range(500, 1001, 50)]
_FIRST = ("delta_opt", "neighbours_share")


class LayerTrendsPanel(Panel):
    """One or two measures for any choice of layers, and Table 4 of the paper beside them."""

    watches: ClassVar[tuple[str, ...]] = ("version", "epoch", "layer", "measure", "form")

    def build(self) -> None:
        """Make the controls, the charts and the table."""
        library = self.viewer.plotly
        self.picker = LayerPicker()
        self.measure = [Select(label="Measure"), Select(label="Second measure")]
        self.form = Choice(label="Shown as", options=_FORMS, value="curves")
        self.scale = Choice(label="Vertical scale", options=_SCALES, value="same")
        self.charts = [PlotlyChart(library=library), PlotlyChart(library=library)]
        self.changes = ChangesCard(self.viewer)
        self.radius = Slider(
            label="Radius",
            hint="Maps no farther apart than this are neighbours; 1 is the range of a map",
            options=_RADII,
            texts=[f"{radius / 1000:g}" for radius in _RADII],
            value=100,
        )
        self.radius.layout.width = "300px"
        self.radius.add_class("sauron-above")
        self._layers: list[str] = []
        self._run = ""
        self._busy = False
        self._drawn: list[tuple[object, ...]] = [(), ()]
        self._link()
        left = box(*self.charts, css="sauron-stack")
        self.children = (
            box(*self.measure, self.form, self.scale, self.radius, self.picker, css="sauron-toolbar"),
            box(left, self.changes.widget, css="sauron-maps"),
        )

    def _link(self) -> None:
        guard, state = self.viewer.guard, self.viewer.state
        self.radius.observe(guard(lambda _: self._count_again()), "value")
        self.picker.observe(guard(lambda _: self._draw()), "value")
        self.form.observe(guard(lambda change: setattr(state, "form", change.new)), "value")
        self.scale.observe(guard(lambda _: self._draw()), "value")
        for select in self.measure:
            select.observe(guard(lambda _: self._chosen()), "value")
        for chart in self.charts:
            chart.observe(guard(self._clicked), "clicked")

    def update(self) -> None:
        """Offer the measures that this run has, keep the choice where it still holds."""
        view, state = self.viewer.view, self.viewer.state
        self._busy = True
        try:
            self._offer_layers()
            if view and view.name != self._run:
                self._run = view.name
                self.radius.value = min(_RADII, key=lambda radius: abs(radius / 1000 - view.config.probe.radius))
            self._offer_measures(view)
            show(self.form, view is None or not view.derived)
            self.form.value = state.form if state.form in dict(_FORMS) else "curves"
        finally:
            self._busy = False
        self._draw()

    def _offer_layers(self) -> None:
        names = [info.name for info in self.viewer.layers]
        if names == self._layers:
            return
        self._layers = names
        light, dark = layer_colours(names), layer_colours(names, dark=True)
        self.picker.layers = [
            {"name": i.name, "part": i.part, "kind": i.kind, "light": light[i.name], "dark": dark[i.name]}
            for i in self.viewer.layers
        ]
        self.picker.value = names

    def _offer_measures(self, view: RunView | None) -> None:
        found = measures(view.layers) if view else []
        columns = [known.column for known in found]
        asked = [column for column in self.viewer.state.measure.split(",") if column in columns]
        usual = [column for column in _FIRST if column in columns] or columns[:1]
        wanted = asked or usual
        options = [[known.column, known.name] for known in found]
        for select, place in zip(self.measure, (0, 1), strict=True):
            with select.hold_sync():
                select.options = options if place == 0 else [_NONE, *options]
                select.value = wanted[place] if place < len(wanted) else ""

    def _chosen(self) -> None:
        if not self._busy:
            self.viewer.state.measure = ",".join(dict.fromkeys(select.value for select in self.measure if select.value))

    def _table(self, view: RunView, column: str) -> pd.DataFrame:
        """`layers.csv`, with the neighbours within the radius that is chosen."""
        return self._counted(view) if column in _WITHIN else view.layers

    def _counted(self, view: RunView) -> pd.DataFrame:
        radius = self.radius.value / 1000
        if not view.has_distances or abs(radius - view.config.probe.radius) < 1e-9:
            return view.layers
        return view.layers_within(radius)

    def _count_again(self) -> None:
        """Put the neighbours within another radius into the charts that show them."""
        view = self.viewer.view
        if view is None or self._busy:
            return
        for select, chart in zip(self.measure, self.charts, strict=True):
            if select.value not in _WITHIN or not chart.figure:
                continue
            if view.derived or self.form.value != "curves":
                self._draw()
                return
            table, wanted = self._table(view, select.value), measure(select.value)
            with chart.hold_sync():
                chart.title = self._title(wanted, view)
                chart.values = moved_lines(
                    table, self.viewer.layers, wanted, self.picker.value, self.viewer.state.layer
                )
        self.changes.update(view, self._counted(view), self.radius.value / 1000)

    def _title(self, wanted: Measure, view: RunView) -> str:
        if wanted.column in ("dip", "dip_p"):
            return f"{wanted.name} of {_SAMPLES[view.config.probe.dip]}"
        within = wanted.column in _WITHIN and view.has_distances
        return f"{wanted.name} within {self.radius.value / 1000:g} of a map's range" if within else wanted.name

    def _draw(self) -> None:
        if self._busy:
            return
        view, state = self.viewer.view, self.viewer.state
        asked = any(select.value in _WITHIN for select in self.measure)
        show(self.radius, asked and view is not None and view.has_distances)
        show(self.picker, self.form.value != "heat")
        show(self.scale, self.form.value == "multiples")
        for place, (select, chart) in enumerate(zip(self.measure, self.charts, strict=True)):
            show(chart, place == 0 or bool(select.value))
            chart.mark = 0 if view is None or view.derived else state.epoch
            if place == 0 or select.value:
                self._draw_one(place, chart, measure(select.value))
        if view is not None:
            self.changes.update(view, self._counted(view), self.radius.value / 1000)

    def _draw_one(self, place: int, chart: PlotlyChart, wanted: Measure) -> None:
        view, state = self.viewer.view, self.viewer.state
        if view is None or not wanted.column or view.layers.empty:
            self._drawn[place] = ()
            chart.empty = state.problem or "No epoch is complete yet; the first one appears here by itself."
            chart.draw(None)
            return
        if not self.picker.value:
            self._drawn[place] = ()
            chart.empty = "No layer is chosen."
            chart.draw(None)
            return
        how = (self.form.value, self.scale.value, self.radius.value, tuple(self.picker.value))
        drawn = (view.name, view.created, state.version, state.layer, wanted, *how)
        if drawn == self._drawn[place]:
            return
        self._drawn[place] = drawn
        chart.title, chart.source, chart.hint = self._title(wanted, view), view.title, explain(wanted.name)
        thick = f"Thick: {state.layer}." if self.form.value == "curves" and state.layer in self.picker.value else ""
        thirds = _THIRDS.get(self.form.value, "") if has_thirds(view.layers["epoch"]) else ""
        note = "" if view.derived else " ".join(filter(None, (_NOTES[self.form.value], thirds, thick)))
        chart.draw(self._figure(view, wanted), f"{wanted.meaning} {note}".strip())

    def _figure(self, view: RunView, wanted: Measure) -> Plot:
        table, layers, chosen = self._table(view, wanted.column), self.viewer.layers, self.picker.value
        highlight = self.viewer.state.layer
        if view.derived:
            return measure_by_layer(table, layers, wanted, chosen, highlight)
        if self.form.value == "multiples":
            return measure_multiples(table, layers, wanted, chosen, highlight, self.scale.value == "same")
        if self.form.value == "heat":
            removed = grid_of(table, layers, measure("removed")) if "removed" in table else None
            return layer_heat(grid_of(table, layers, wanted), wanted, highlight, removed)
        return measure_lines(table, layers, wanted, chosen, highlight)

    def _clicked(self, change: Any) -> None:
        for key in ("name", "y"):
            if change.new.get(key) in self._layers:
                self.viewer.state.layer = change.new[key]
        self.viewer.choose_epoch(change.new.get("x"))

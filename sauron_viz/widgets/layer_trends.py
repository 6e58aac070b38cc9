"""In which layers, and since when? The measures of chosen layers over epochs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sauron_viz.figures import measure_by_layer, measure_lines, measures
from sauron_viz.figures.base import numbers
from sauron_viz.runs import RunView
from sauron_viz.theme import layer_colours
from sauron_viz.widgets.base import box
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import LayerPicker, Select, Slider
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import explain

_NOTE = "Solid: encoder; dashed: decoder; dotted: transposed. A dot marks an epoch in which the layer lost filters."
_MEANS = {
    "dip": "Higher: more clusterable.",
    "delta_opt": "Lower: more clusterable.",
    "neighbours": "Higher: more clusterable; cuts take neighbours away, see their share.",
    "neighbours_share": "Higher: more clusterable.",
    "dip_p": "The distances are no independent draws, so p orders layers and epochs but proves nothing.",
}
_SAMPLES = {"pairs": "all distances", "reference": "distances to channel 0", "pca": "the first principal component"}
_WITHIN = ("neighbours", "neighbours_share")
# In thousandths: finer where layers differ most, and each on the edge of a bin of the stored distances.
_RADII = [*range(5, 200, 5), *range(200, 500, 10), *range(500, 1001, 50)]


class LayerTrendsPanel(Panel):
    """Two measures, one above the other, for any choice of layers."""

    def build(self) -> None:
        """Make the picker and the two charts with their measures."""
        guard, library = self.viewer.guard, self.viewer.plotly
        self.picker = LayerPicker()
        self.measure = [Select(label="Chart"), Select(label="Second chart")]
        self.charts = [PlotlyChart(library=library, note=_NOTE), PlotlyChart(library=library, note=_NOTE)]
        self.radius = Slider(
            label="Radius",
            hint="Maps no farther apart than this are neighbours; 1 is the range of a map",
            options=_RADII,
            texts=[f"{radius / 1000:g}" for radius in _RADII],
            value=100,
        )
        self.radius.layout.width = "300px"
        self.radius.add_class("sauron-above")
        self.radius.observe(guard(lambda _: self._count_again()), "value")
        self._layers: list[str] = []
        self._run = ""
        self.picker.observe(guard(lambda _: self._draw()), "value")
        for select in self.measure:
            select.observe(guard(lambda _: self._draw()), "value")
        for chart in self.charts:
            chart.observe(guard(self._clicked), "clicked")
        self.children = (
            box(*self.measure, self.radius, self.picker, css="sauron-toolbar"),
            *self.charts,
        )

    def update(self) -> None:
        """Offer the measures that this run has, keep the choice where it still holds."""
        view = self.viewer.view
        names = [info.name for info in self.viewer.layers]
        if names != self._layers:
            self._layers = names
            light, dark = layer_colours(names), layer_colours(names, dark=True)
            self.picker.layers = [
                {"name": i.name, "part": i.part, "kind": i.kind, "light": light[i.name], "dark": dark[i.name]}
                for i in self.viewer.layers
            ]
            self.picker.value = names
        if view and view.name != self._run:
            self._run = view.name
            self.radius.value = min(_RADII, key=lambda radius: abs(radius / 1000 - view.config.probe.radius))
        found = measures(view.layers) if view else []
        columns = [column for column, _ in found]
        for select, first in zip(self.measure, ("delta_opt", "filters"), strict=True):
            with select.hold_sync():
                select.options = [list(pair) for pair in found]
                if select.value not in columns:
                    select.value = first if first in columns else (columns[0] if columns else "")
        self._draw()

    def _table(self, view: RunView, measure: str) -> pd.DataFrame:
        """`layers.csv`, with the neighbours within the radius that is chosen."""
        radius = self.radius.value / 1000
        if measure not in _WITHIN or not view.has_distances or abs(radius - view.config.probe.radius) < 1e-9:
            return view.layers
        return view.layers_within(radius)

    def _count_again(self) -> None:
        """Put the neighbours within another radius into the charts that show them."""
        view = self.viewer.view
        for select, chart in zip(self.measure, self.charts, strict=True):
            if view is None or select.value not in _WITHIN or not chart.figure:
                continue
            table = self._table(view, select.value)
            known = table[table[select.value].notna()]
            with chart.hold_sync():
                chart.title = self._title(select, view)
                chart.values = {
                    str(name): [[name] if view.derived else rows["epoch"].tolist(), numbers(rows[select.value])]
                    for name, rows in known.groupby("layer")
                }

    def _title(self, select: Select, view: RunView) -> str:
        name = next((text for column, text in select.options if column == select.value), "")
        if select.value in ("dip", "dip_p"):
            return f"{name} of {_SAMPLES[view.config.probe.dip]}"
        within = select.value in _WITHIN and view.has_distances
        return f"{name} within {self.radius.value / 1000:g} of a map's range" if within else name

    def _draw(self) -> None:
        view, state = self.viewer.view, self.viewer.state
        asked = any(select.value in _WITHIN for select in self.measure)
        self.radius.layout.display = None if asked and view is not None and view.has_distances else "none"
        for select, chart in zip(self.measure, self.charts, strict=True):
            chart.title = next((text for column, text in select.options if column == select.value), "")
            chart.hint = explain(chart.title)
            if view is None or not select.value or view.layers.empty:
                chart.empty = state.problem or "No epoch is complete yet; the first one appears here by itself."
                chart.draw(None)
            elif not self.picker.value:
                chart.empty = "No layer is chosen."
                chart.draw(None)
            else:
                seen = view.seen_epoch(state.epoch)
                table, layers = self._table(view, select.value), self.viewer.layers
                chart.title = self._title(select, view)
                if view.derived:
                    figure = measure_by_layer(table, layers, select.value, self.picker.value, state.layer)
                    chart.draw(figure, _MEANS.get(select.value, ""))
                    continue
                figure = measure_lines(table, layers, select.value, self.picker.value, seen, state.layer)
                thick = f"Thick: {state.layer}." if state.layer in self.picker.value else ""
                parts = (_MEANS.get(select.value, ""), _NOTE, thick, self.named_line(seen))
                chart.draw(figure, " ".join(filter(None, parts)))

    def _clicked(self, change: Any) -> None:
        layer = change.new.get("name")
        if layer in self._layers:
            self.viewer.state.layer = layer
        self.viewer.choose_epoch(change.new.get("x"))

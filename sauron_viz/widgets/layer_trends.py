"""In which layers, and since when? The measures of chosen layers over epochs."""

from __future__ import annotations

from typing import Any

from sauron_viz.figures import measure_lines, measures
from sauron_viz.theme import layer_colours
from sauron_viz.widgets.base import box
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import LayerPicker, Select
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import explain

_NOTE = "Solid: encoder; dashed: decoder; dotted: transposed. A dot marks an epoch in which the layer lost filters."


class LayerTrendsPanel(Panel):
    """Two measures, one above the other, for any choice of layers."""

    def build(self) -> None:
        """Make the picker and the two charts with their measures."""
        guard, library = self.viewer.guard, self.viewer.plotly
        self.picker = LayerPicker()
        self.measure = [Select(label="Chart"), Select(label="Second chart")]
        self.charts = [PlotlyChart(library=library, note=_NOTE), PlotlyChart(library=library, note=_NOTE)]
        self._layers: list[str] = []
        self.picker.observe(guard(lambda _: self._draw()), "value")
        for select in self.measure:
            select.observe(guard(lambda _: self._draw()), "value")
        for chart in self.charts:
            chart.observe(guard(self._clicked), "clicked")
        self.children = (
            box(*self.measure, self.picker, css="sauron-toolbar"),
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
        found = measures(view.layers) if view else []
        columns = [column for column, _ in found]
        for select, first in zip(self.measure, ("delta_opt", "filters"), strict=True):
            with select.hold_sync():
                select.options = [list(pair) for pair in found]
                if select.value not in columns:
                    select.value = first if first in columns else (columns[0] if columns else "")
        self._draw()

    def _draw(self) -> None:
        view, state = self.viewer.view, self.viewer.state
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
                figure = measure_lines(
                    view.layers, self.viewer.layers, select.value, self.picker.value, seen, state.layer
                )
                chart.draw(figure, f"{_NOTE} {self.named_line(seen)}")

    def _clicked(self, change: Any) -> None:
        layer = change.new.get("customdata")
        if layer in self._layers:
            self.viewer.state.layer = layer
        self.viewer.choose_epoch(change.new.get("x"))

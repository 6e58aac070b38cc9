"""Plotly figures in any number for the price of one: the library reaches the page once."""

from __future__ import annotations

import os
from typing import Any

import anywidget
import ipywidgets
from traitlets import Bytes, Dict, Float, Instance, Unicode

from sauron_viz.plotlyjs import packed
from sauron_viz.visit import SERVER
from sauron_viz.widgets.base import script


class PlotlyLib(anywidget.AnyWidget):
    """plotly.js itself, compressed; never shown. A page of our server loads it while its kernel starts."""

    _esm = "export default { render() {} };"
    packed = Bytes().tag(sync=True)

    def __init__(self) -> None:
        super().__init__(packed=b"" if SERVER in os.environ else packed())


class PlotlyChart(anywidget.AnyWidget):
    """A card with a title, a chart and buttons that take it away as PNG, SVG or CSV.

    `figure` is `plotly.graph_objects.Figure.to_json()`; "" shows the words of `empty` instead. `clicked` is the last
    point that was clicked: x, y, customdata and name of its trace; only x where the click met no point.
    `hint` is what the pointer reads on the title, `source` the run, after which files are named. `values` are x, y
    and text in the place of those of a line, by its name: a slider may change them many times a second, which takes too
    long for whole figures. `mark` is the place of a line across a figure that is `markable`, 0 for none.
    """

    _esm = script("chart.js")
    library = Instance(PlotlyLib).tag(sync=True, **ipywidgets.widget_serialization)
    figure = Unicode().tag(sync=True)
    values = Dict().tag(sync=True)
    mark = Float(0).tag(sync=True)
    title = Unicode().tag(sync=True)
    note = Unicode().tag(sync=True)
    hint = Unicode().tag(sync=True)
    source = Unicode().tag(sync=True)
    empty = Unicode("Nothing to draw yet.").tag(sync=True)
    clicked = Dict().tag(sync=True)

    def draw(self, figure: Any, note: str | None = None) -> None:
        """Show a figure, or None to show the words of `empty`."""
        with self.hold_sync():
            self.figure = "" if figure is None else figure.to_json()
            self.values = {}
            if note is not None:
                self.note = note

"""One layer at one epoch: what is left of it, why its threshold stands where it does, and what its maps look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sauron_train.analysis.widths import told
from sauron_train.errors import SauronError
from sauron_viz.figures import decision_lines
from sauron_viz.reasons import reason
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Actions
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import Strip
from sauron_viz.widgets.viewer import Viewer
from sauron_viz.words import DELTA_OPT, TAU

_MAPS = 12
_NOTE = "Dotted vertical line: the epoch that is looked at; a click moves it."
_WAYS = [
    ["trends", "Its trends", "Open the tab Layer trends at this layer"],
    ["maps", "Its maps", "Open the tab Feature maps at this layer and epoch"],
]


class LayerCard:
    """Follows the chosen layer and epoch; `decisions` is a chart that has room of its own."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.scene = Scene(viewer)
        self.words = text("")
        self.strip = Strip(viewer.guard(self._choose), label="Maps")
        self.actions = Actions(viewer.guard(viewer.turn_to), options=[w for w in _WAYS if w[0] in viewer.tabs])
        self.actions.add_class("sauron-row")
        show(self.actions, bool(self.actions.options))
        self.widget = box(self.words, self.actions, self.strip, css="sauron-card sauron-stack sauron-tight")
        self.decisions = PlotlyChart(
            library=viewer.plotly, note=_NOTE, empty="Nothing has been decided for this layer."
        )
        self._drawn: tuple[object, ...] = ()
        self._pictured: tuple[object, ...] = ()

    def update(self, view: RunView) -> None:
        """Show the layer that is chosen now."""
        state = self.viewer.state
        log = view.layers[view.layers["layer"] == state.layer]
        drawn = (view.name, view.created, state.version, state.layer)
        if drawn != self._drawn:
            self._drawn = drawn
            self._draw(view, log)
        self.decisions.mark = 0 if view.derived else state.epoch
        self._say(view, log)
        self._show_maps(view)

    def _draw(self, view: RunView, log: pd.DataFrame) -> None:
        self.decisions.title = f"Decisions for {self.viewer.state.layer}"
        self.decisions.source = view.title
        known = "threshold" in log and log["threshold"].notna().any()
        self.decisions.draw(decision_lines(log) if known else None)

    def _say(self, view: RunView, log: pd.DataFrame) -> None:
        state = self.viewer.state
        info = next((layer for layer in self.viewer.layers if layer.name == state.layer), None)
        now, before = (log[log["epoch"] == epoch].to_dict("records") for epoch in (state.epoch, state.epoch - 1))
        if info is None:
            self.words.value = ""
            return
        row: dict[str, Any] = {str(k): v for k, v in now[0].items()} if now else {}
        earlier = {str(k): v for k, v in before[0].items()} if before else None
        kind = "transposed convolution" if info.kind == "trans" else "convolution"
        cells = [
            (
                "Filters",
                f"{int(row.get('filters', info.filters))} <small>of {info.filters}</small>",
                _filters_hint(view.config.prune.width_multiple),
            ),
            ("δ_opt", _number(row.get("delta_opt")), DELTA_OPT),
            ("τ", _number(row.get("threshold")), TAU),
            ("Patience", _count(row.get("patience")), "Epochs until τ may rise"),
        ]
        items = "".join(
            f'<div title="{esc(hint)}"><dt>{esc(name)}</dt><dd>{value}</dd></div>' for name, value, hint in cells
        )
        why = esc(reason(row, view.config.prune, earlier)) if row else ""
        self.words.value = (
            f'<h2>{esc(info.name)}</h2><p class="sauron-note">{esc(info.part.capitalize())}, level {esc(info.level)}, '
            f'{kind}; epoch {esc(state.epoch)}.</p><dl class="sauron-numbers">{items}</dl><p>{why}</p>'
        )

    def _show_maps(self, view: RunView) -> None:
        state = self.viewer.state
        epoch = view.stored_epoch(state.epoch)
        pictured = (view.name, view.created, epoch, state.layer, state.image)
        if pictured == self._pictured:
            return
        self._pictured = pictured
        self.scene.epoch = epoch
        frame = self.scene.frame_or_none() if epoch else None
        rows = [] if frame is None else [int(row) for row in frame.left[:_MAPS]]
        numbers = [int(frame.stats.filters[row]) for row in rows] if frame else []
        maps = frame.pixels[rows] if frame else np.zeros((0, 1, 1), np.uint8)
        more = f", the first {_MAPS} of {len(frame.left)}" if frame and len(frame.left) > _MAPS else ""
        self.strip.label = f"Maps at epoch {epoch}{more}"
        try:
            self.strip.put(maps, numbers, [], self.scene.aspect)
        except SauronError:
            self.strip.put(maps[:0], [], [], 1.0)

    def _choose(self, number: int) -> None:
        self.viewer.choose_filter(number)
        self.viewer.turn_to("maps")


def _filters_hint(multiple: int) -> str:
    return "Left of those at the start" + (f"; cut to {told(multiple)}" if multiple > 1 else "")


def _number(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


def _count(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else str(int(value))

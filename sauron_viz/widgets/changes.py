"""Table 4 of the paper beside the curves it is told from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sauron_train.analysis.trends import LARGE, MEASURES, changes, summarise
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.table import Column, DataTable
from sauron_viz.widgets.viewer import Viewer
from sauron_viz.words import DELTA_OPT, DIP, NEIGHBOURS

COLUMNS = (
    Column("layer", "Layer"),
    Column("filters", "Filters", "count", "At the start; shaded: 256 or more"),
    Column("dip", "Dip", "change", f"{DIP}. More clusterable: up"),
    Column("delta_opt", "δ_opt", "change", f"{DELTA_OPT}. More clusterable: down"),
    Column("neighbours", "Neighbours", "change", f"{NEIGHBOURS}. More clusterable: up"),
)


CHANGES_NOTE = "Mean of the last third of the epochs against that of the first: the paper's Table 4."
_SHARE = "Filters were cut: neighbours are counted as a share of the maps that were left."
_MOVED = {"dip": "Dip rose", "delta_opt": "δ_opt fell", "neighbours": "Neighbours rose"}


class ChangesCard:
    """How much each layer changed between the first and the last third of the epochs; a click chooses a layer."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.table = DataTable(
            COLUMNS,
            on_open=viewer.guard(lambda layer: setattr(viewer.state, "layer", layer)),
            title="Change of clusterability",
            note=CHANGES_NOTE,
            unit="layers",
            opens="Choose this layer",
        )
        self.table.add_class("sauron-changes")
        self.words = text("", "sauron-card")
        self.widget = box(self.table, self.words, css="sauron-side")
        self._shown: tuple[object, ...] = ()

    def update(self, view: RunView, table: pd.DataFrame, radius: float) -> None:
        """Show the changes of a run; `table` is `layers.csv` with the neighbours within the radius."""
        show(self.widget, not view.derived)
        self.table.current = self.viewer.state.layer
        shown = (view.name, view.created, self.viewer.state.version, radius)
        if shown == self._shown or view.derived:
            return
        self._shown = shown
        rows, told = change_rows(view, table)
        self.table.source = view.title
        self.table.fill(rows)
        self.words.value = told


def change_rows(view: RunView, table: pd.DataFrame) -> tuple[list[dict[str, Any]], str]:
    """The rows of Table 4 of a run, and as markup in how many layers each measure moved.

    `table` is `layers.csv`; where filters were cut, neighbours are taken as a share of the maps that are left.
    """
    cut = bool(table["removed"].sum()) if "removed" in table else False
    found = _changes(view, table, cut)
    return [_row(values) for values in found.to_dict("records")], _reading(found, [_SHARE] if cut else [])


def _reading(found: pd.DataFrame, notes: list[str]) -> str:
    """In how many layers each measure moved towards more clusterable, as the paper reads its table."""
    rows = []
    for told in summarise(found):
        large = f"{told.large} of {told.large_of}" if told.large_of else "–"
        small = f"{told.small} of {told.small_of}" if told.small_of else "–"
        rows.append(
            f'<tr><td>{_MOVED[told.measure]} in</td><td class="num">{large}</td><td class="num">{small}</td></tr>'
        )
    head = f'<th scope="col">Towards more clusterable</th><th scope="col" class="num">{LARGE}+ filters</th>'
    lines = "".join(f'<p class="sauron-note">{esc(note)}</p>' for note in notes)
    return (
        f'<table class="sauron-table"><thead><tr>{head}<th scope="col" class="num">smaller</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{lines}"
    )


def _changes(view: RunView, table: pd.DataFrame, cut: bool) -> pd.DataFrame:
    filters = {info.name: info.filters for info in view.info.layers}
    measured = table.assign(neighbours=table["neighbours_share"]) if cut and "neighbours_share" in table else table
    return changes(measured, filters)


def _row(values: Mapping[Any, Any]) -> dict[str, Any]:
    moved = {name: _plain(float(values[name])) for name in MEASURES}
    layer, filters = str(values["layer"]), int(values["filters"])
    return {"id": layer, "label": layer, "layer": layer, "filters": filters, "shade": filters >= LARGE} | moved


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value

"""A measure of every layer at every epoch, as one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sauron_viz.figures.base import blank, markable, whole_ticks
from sauron_viz.figures.measures import Measure
from sauron_viz.figures.plot import Plot
from sauron_viz.theme import CIVIDIS_SCALE, MARK

_ROW = 19
_ROOM = 90


def layer_heat(grid: pd.DataFrame, measure: Measure, highlight: str = "", removed: pd.DataFrame | None = None) -> Plot:
    """Layers from input (top) to output, epochs from left to right; a dot where a layer lost filters.

    Args:
        grid: as `measures.grid_of` gives it.
        measure: what it is of.
        highlight: the layer whose name stands out.
        removed: filters removed, in the shape of `grid`.
    """
    layers, epochs = [str(name) for name in grid.index], [int(epoch) for epoch in grid.columns]
    figure = blank(max(260, _ROW * len(layers) + _ROOM), "epoch", "", showlegend=False)
    figure.update_layout(margin={"l": 104, "r": 18, "t": 10, "b": 52})
    figure.add(
        "heatmap",
        x=epochs,
        y=layers,
        z=[[None if pd.isna(value) else float(f"{value:.5g}") for value in row] for row in grid.to_numpy()],
        colorscale=CIVIDIS_SCALE,
        **_range(measure),
        xgap=1 if len(epochs) <= 80 else 0,
        ygap=1,
        name=measure.name,
        colorbar={"title": {"text": measure.axis, "side": "right", "font": {"size": 13}}, "thickness": 14},
        hovertemplate="<b>%{y}</b><br>epoch %{x}: %{z:.4~g}" + (" %" if measure.is_share else "") + "<extra></extra>",
    )
    if removed is not None:
        _cuts(figure, removed, layers)
    ticks = [f"<b>{name}</b>" if name == highlight else name for name in layers]
    figure.update_yaxes(
        autorange="reversed", showline=False, showgrid=False, ticks="", tickvals=layers, ticktext=ticks, ticksuffix="  "
    )
    figure.update_xaxes(showline=False, dtick=1 if len(epochs) == 1 else whole_ticks(max(epochs, default=0)))
    markable(figure, layer="above")
    return figure


def _range(measure: Measure) -> dict[str, Any]:
    if measure.is_share:
        return {"zmin": 0, "zmax": 100}
    return {"zmin": 0} if measure.column in ("removed", "patience", "threshold", "filters") else {}


def _cuts(figure: Plot, removed: pd.DataFrame, layers: list[str]) -> None:
    table = removed.reindex(layers)
    rows, columns = np.nonzero(table.to_numpy() > 0)
    figure.add_scatter(
        x=np.asarray(table.columns)[columns].tolist(),
        y=[layers[row] for row in rows],
        name="filters removed",
        mode="markers",
        marker={"size": 5, "color": MARK, "line": {"width": 1, "color": "#ffffff"}},
        hoverinfo="skip",
    )

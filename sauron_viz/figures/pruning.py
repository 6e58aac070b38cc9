"""Where filters went: layer by layer, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from sauron_train.runlog import LayerInfo
from sauron_viz.figures.base import blank, mark_epoch, whole_ticks
from sauron_viz.theme import CIVIDIS_SCALE, layer_colours


def share_map(share: pd.DataFrame, epoch: int | None = None) -> go.Figure:
    """Heat map of the share of filters left: layers from input (top) to output, epochs from left to right.

    `share`: as `runs.share_left` gives it.
    """
    layers, epochs = [str(name) for name in share.index], [int(e) for e in share.columns]
    figure = blank(max(260, 19 * len(layers) + 90), "epoch", "", margin={"l": 104, "r": 18, "t": 14, "b": 52})
    figure.add_heatmap(
        x=epochs,
        y=layers,
        z=[[round(100 * float(value), 2) for value in row] for row in share.to_numpy()],
        zmin=0,
        zmax=100,
        colorscale=CIVIDIS_SCALE,
        xgap=1 if len(epochs) <= 80 else 0,
        ygap=1,
        name="filters left",
        colorbar={
            "title": {"text": "filters left", "side": "right", "font": {"size": 13}},
            "ticksuffix": " %",
            "thickness": 14,
            "dtick": 25,
        },
        hovertemplate="<b>%{y}</b><br>epoch %{x}: %{z:.0f} % of the filters left<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showline=False, showgrid=False, ticks="", dtick=1, ticksuffix="  ")
    figure.update_xaxes(showline=False, dtick=1 if len(epochs) == 1 else whole_ticks(max(epochs, default=0)))
    mark_epoch(figure, epoch, "above")
    return figure


def filter_bars(layers: pd.DataFrame, infos: Sequence[LayerInfo], epoch: int, highlight: str = "") -> go.Figure:
    """Filters of every layer at an epoch, in front of the ghost of what it began with."""
    names = [info.name for info in infos]
    rows = layers[layers["epoch"] == epoch].set_index("layer")["filters"]
    now = [int(rows.get(name, info.filters)) for name, info in zip(names, infos, strict=True)]
    figure = blank(max(260, 19 * len(names) + 90), "filters", "", names, barmode="overlay", bargap=0.22)
    figure.update_layout(margin={"l": 104, "r": 18, "t": 14, "b": 52}, showlegend=False)
    start = [info.filters for info in infos]
    figure.add_bar(
        x=start,
        y=names,
        orientation="h",
        name="at the start",
        marker={"color": "rgba(128,128,128,0.22)", "line": {"width": 0}},
        hoverinfo="skip",
    )
    colours = layer_colours(names)
    figure.add_bar(
        x=now,
        y=names,
        orientation="h",
        name=f"after epoch {epoch}",
        marker={"color": [colours[name] for name in names], "line": {"width": 0}},
        customdata=start,
        text=[f"<b>{n}</b>" if name == highlight else str(n) for n, name in zip(now, names, strict=True)],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="<b>%{y}</b><br>%{x} of %{customdata} filters left<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showline=False, showgrid=False, ticks="", dtick=1, ticksuffix="  ")
    figure.update_xaxes(showgrid=True, rangemode="tozero", range=[0, 1.06 * max([*start, 1])])
    return figure

"""The frame all figures share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sauron_viz.figures.plot import Plot
from sauron_viz.theme import dark_swaps


def blank(height: int, x_title: str, y_title: str, layers: Sequence[str] = (), **layout: Any) -> Plot:
    """An empty figure with named axes; the page shows through, and its script sets the colours of text and grid."""
    axis: dict[str, Any] = {
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
    }
    figure = Plot(
        height=height,
        margin={"l": 66, "r": 18, "t": 14, "b": 52},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 13},
        hovermode="closest",
        dragmode="zoom",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left", "font": {"size": 12.5}},
        meta={"dark": dark_swaps(layers), "mark": []},
        # The same value keeps zoom and hidden lines when a growing run is drawn again.
        uirevision="run",
    )
    figure.update_layout(**layout)
    title = {"font": {"size": 13}, "standoff": 10}
    figure.update_xaxes(title={**title, "text": x_title}, showgrid=False, zeroline=False, **axis)
    figure.update_yaxes(title={**title, "text": y_title}, zeroline=False, **axis)
    return figure


def numbers(column: pd.Series[Any]) -> list[float | None]:
    """A column as plain numbers, None where nothing was measured: the figure stays readable JSON."""
    return [None if math.isnan(value) else value for value in column.astype(float).tolist()]


def whole_ticks(last: int) -> int | None:
    """Steps of one while epochs are few, or there would be ticks at half epochs; later plotly's own choice."""
    return 1 if last <= 10 else None


def span_epochs(figure: Plot, epochs: pd.Series[int]) -> None:
    """The same axis from 0 to the last epoch in all charts over epochs, so that they can be read together.

    Around the one epoch of a run that has no other.
    """
    last = int(epochs.max()) if len(epochs) else 1
    if last > 1 and epochs.nunique() == 1:
        # A run that was made, not trained: nothing came before.
        figure.update_xaxes(range=[last - 1, last + 1], dtick=1)
        return
    figure.update_xaxes(range=[0, last * 1.015 + 0.2], dtick=whole_ticks(last))


def markable(figure: Plot, axes: Sequence[tuple[str, str]] = (("x", "paper"),), layer: str = "below") -> None:
    """Let the page draw a line at the epoch that is looked at, which moves more often than the figure changes.

    `axes` are the x axis of each plot and what the line is as high as: "paper" or "y2 domain".
    """
    figure.update_layout(meta={"mark": [{"xref": x, "yref": y, "layer": layer} for x, y in axes]})

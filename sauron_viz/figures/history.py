"""One map through the epochs, and the values it has."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sauron_train.runlog.schema import Array
from sauron_viz.figures.base import blank, markable, numbers, span_epochs
from sauron_viz.figures.plot import Plot
from sauron_viz.theme import MARK, VALIDATION

_MANY_VOXELS = 200
_NEAREST, _REFERENCE = "#332288", "#44aa99"


def filter_history(
    distances: pd.DataFrame, epochs: pd.Series[int], threshold: pd.Series[float] | None, gone: int | None
) -> Plot:
    """How far a map was from the nearest other and from the reference, epoch by epoch, and when it went.

    Args:
        distances: epoch, nearest, nearest_distance and reference_distance, for epochs at which the filter is there.
        epochs: all epochs of the run, for the axis.
        threshold: τ of its layer by epoch; None where nothing is cut.
        gone: the epoch at which it was removed.
    """
    figure = blank(260, "epoch", "distance", showlegend=True)
    x = distances["epoch"].tolist()
    figure.add_scatter(
        x=x,
        y=numbers(distances["nearest_distance"]),
        name="to the nearest",
        mode="lines+markers",
        line={"color": _NEAREST, "width": 2.5},
        marker={"size": 4},
        customdata=distances["nearest"].tolist(),
        hovertemplate="epoch %{x}: %{y:.3f}, filter %{customdata}<extra>to the nearest</extra>",
    )
    figure.add_scatter(
        x=x,
        y=numbers(distances["reference_distance"]),
        name="to the reference",
        mode="lines",
        line={"color": _REFERENCE, "width": 2, "dash": "dash"},
        hovertemplate="epoch %{x}: %{y:.3f}<extra>to the reference</extra>",
    )
    if threshold is not None and threshold.notna().any():
        figure.add_scatter(
            x=threshold.index.tolist(),
            y=numbers(threshold),
            name="τ (of δ_prune)",
            mode="lines",
            line={"color": VALIDATION, "width": 1.5, "dash": "dot", "shape": "hv"},
            hovertemplate="epoch %{x}: τ %{y:.3f}<extra></extra>",
        )
    if gone is not None and gone > 0:
        line = {"color": MARK, "width": 2}
        figure.add_shape(type="line", xref="x", yref="paper", x0=gone, x1=gone, y0=0, y1=1, line=line)
        figure.add_annotation(
            x=gone,
            xref="x",
            y=1,
            yref="paper",
            text="removed",
            showarrow=False,
            xanchor="left",
            xshift=4,
            font={"color": MARK},
        )
    figure.update_yaxes(rangemode="tozero")
    span_epochs(figure, epochs)
    markable(figure)
    return figure


def value_histogram(values: Array, unit: str = "value of the map") -> Plot:
    """How the values of a map are distributed, in 60 steps of its range."""
    figure = blank(260, unit, "voxels", bargap=0.04)
    known = values[np.isfinite(values)].ravel()
    if len(known):
        counts, edges = np.histogram(known, bins=60)
        figure.add(
            "bar",
            x=((edges[1:] + edges[:-1]) / 2).tolist(),
            y=counts.tolist(),
            name="voxels",
            marker={"color": _NEAREST, "line": {"width": 0}},
            hovertemplate="about %{x:.3g}: %{y} voxels<extra></extra>",
        )
    # Most voxels of most maps share one value: on a linear axis there would be one bar.
    many = len(known) > _MANY_VOXELS
    figure.update_yaxes(type="log" if many else "linear", rangemode="tozero", dtick=1 if many else None)
    return figure

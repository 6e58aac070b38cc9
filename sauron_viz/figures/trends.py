"""How the measures of layers.csv move over epochs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from sauron_train.runlog import LayerInfo
from sauron_viz.figures.base import blank, mark_epoch, numbers, span_epochs
from sauron_viz.theme import layer_colours

# Column of layers.csv -> (name in the picker, title of the axis).
_NAMES = {
    "delta_opt": ("δ_opt: distance to the reference", "δ_opt (share of the maps' range)"),
    "dip": ("Dip statistic", "dip statistic"),
    "dip_p": ("Dip test, p-value", "p-value of one mode"),
    "neighbours": ("Average neighbours", "other maps within the radius"),
    "neighbours_share": ("Average neighbours, share", "share of the other maps within the radius"),
    "filters": ("Filters left", "filters left"),
    "removed": ("Filters removed in the epoch", "filters removed"),
    "delta_prune_min": ("δ_prune, smallest", "δ_prune (share of the largest distance)"),
    "delta_prune_q25": ("δ_prune, lower quartile", "δ_prune (share of the largest distance)"),
    "delta_prune_median": ("δ_prune, median", "δ_prune (share of the largest distance)"),
    "delta_prune_q75": ("δ_prune, upper quartile", "δ_prune (share of the largest distance)"),
    "threshold": ("Threshold τ", "τ (unit of δ_prune)"),
    "patience": ("Patience left", "epochs until τ may rise"),
}
_FEW_POINTS = 4
_NOT_MEASURES = {"epoch", "layer", "raised", "reference", "dip_n"}


def measures(layers: pd.DataFrame) -> list[tuple[str, str]]:
    """(column, name) of every measure the table really has numbers for; unknown columns appear by their own name."""
    found = [
        column
        for column in layers.columns
        if column not in _NOT_MEASURES
        and pd.api.types.is_numeric_dtype(layers[column])
        and not pd.api.types.is_bool_dtype(layers[column])
        and layers[column].notna().any()
    ]
    known = [column for column in _NAMES if column in found]
    return [(c, _NAMES[c][0]) for c in known] + [(c, c) for c in found if c not in _NAMES]


def measure_by_layer(
    layers: pd.DataFrame, infos: Sequence[LayerInfo], measure: str, chosen: Sequence[str], highlight: str = ""
) -> go.Figure:
    """One point per chosen layer, from input to output: what there is to see of a single epoch.

    Raises:
        KeyError: the table has no such measure.
    """
    every = [info.name for info in infos]
    colours = layer_colours(every)
    values = dict(zip(layers["layer"], numbers(layers[measure]), strict=True))
    figure = blank(400, "layer", _NAMES.get(measure, (measure, measure))[1], every, showlegend=False)
    for info in infos:
        if info.name in chosen and values.get(info.name) is not None:
            figure.add_scatter(
                x=[info.name],
                y=[values[info.name]],
                name=info.name,
                mode="markers",
                marker={"size": 14 if info.name == highlight else 10, "color": colours[info.name]},
                hovertemplate="<b>%{fullData.name}</b><br>%{y:.4~g}<extra></extra>",
            )
    figure.update_yaxes(rangemode="tozero")
    return figure


def measure_lines(
    layers: pd.DataFrame,
    infos: Sequence[LayerInfo],
    measure: str,
    chosen: Sequence[str],
    epoch: int | None = None,
    highlight: str = "",
) -> go.Figure:
    """One line per chosen layer over epochs, coloured by depth; dots where the layer was cut.

    A line goes on over epochs that have no value; where there are few, each is a small dot. Encoder solid, decoder
    dashed, transposed convolutions dotted. `epoch` is marked, `highlight` drawn thicker.

    Raises:
        KeyError: the table has no such measure.
    """
    every = [info.name for info in infos]
    colours = layer_colours(every)
    figure = blank(400, "epoch", _NAMES.get(measure, (measure, measure))[1], every, showlegend=False)
    for info in infos:
        if info.name not in chosen:
            continue
        rows = layers[layers["layer"] == info.name]
        rows = rows[rows[measure].notna()]
        small = 3.5 if len(rows) < _FEW_POINTS else 0.1
        cut = [bool(removed) for removed in rows["removed"]] if "removed" in rows else [False] * len(rows)
        dash = "dot" if info.kind == "trans" else ("solid" if info.part == "encoder" else "dash")
        figure.add_scatter(
            x=[int(e) for e in rows["epoch"]],
            y=numbers(rows[measure]),
            name=info.name,
            mode="lines+markers",
            line={"color": colours[info.name], "width": 4 if info.name == highlight else 2, "dash": dash},
            marker={
                "size": [5 if c else small for c in cut],
                "color": colours[info.name],
                "line": {"width": 0},
            },
            hovertemplate="<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4~g}<extra></extra>",
        )
    span_epochs(figure, layers["epoch"])
    mark_epoch(figure, epoch)
    return figure

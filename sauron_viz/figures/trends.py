"""How a measure moves over epochs: all layers in one plot, or each in a small one of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pandas as pd

from sauron_train.analysis.trends import change
from sauron_train.runlog import LayerInfo
from sauron_viz.figures.base import blank, markable, numbers, span_epochs
from sauron_viz.figures.measures import Measure, shown_values
from sauron_viz.figures.plot import Plot
from sauron_viz.theme import layer_colours

_FEW_POINTS = 4
_MANY_LAYERS = 8
_BAND = "rgba(128,128,128,0.09)"
_CELL_HEIGHT = 112
_CELL_GAP = 34


def measure_by_layer(
    layers: pd.DataFrame, infos: Sequence[LayerInfo], measure: Measure, chosen: Sequence[str], highlight: str = ""
) -> Plot:
    """One point per chosen layer, from input to output: what there is to see of a single epoch.

    Raises:
        KeyError: the table has no such measure.
    """
    every = [info.name for info in infos]
    colours = layer_colours(every)
    values = dict(zip(layers["layer"], numbers(shown_values(layers, measure)), strict=True))
    figure = blank(400, "layer", measure.axis, every, showlegend=False)
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
    layers: pd.DataFrame, infos: Sequence[LayerInfo], measure: Measure, chosen: Sequence[str], highlight: str = ""
) -> Plot:
    """One line per chosen layer over epochs, coloured by depth; dots where the layer was cut.

    A line goes on over epochs that have no value; where there are few, each is a small dot. Encoder solid, decoder
    dashed, transposed convolutions dotted. `highlight` is drawn thicker and last, with the means of the first and the
    last third of the epochs, which are shaded; among many lines the others step back.

    Raises:
        KeyError: the table has no such measure.
    """
    every = [info.name for info in infos]
    colours = layer_colours(every)
    figure = blank(420, "epoch", measure.axis, every, showlegend=False)
    shown = [info for info in infos if info.name in chosen]
    pale = highlight in chosen and len(shown) > _MANY_LAYERS
    for info in sorted(shown, key=lambda info: info.name == highlight):
        x, y, cut = _points(layers, info.name, measure)
        mine = info.name == highlight
        small = 3.5 if len(x) < _FEW_POINTS else 0.1
        figure.add_scatter(
            x=x,
            y=y,
            name=info.name,
            mode="lines+markers",
            opacity=0.5 if pale and not mine else 1,
            line={"color": colours[info.name], "width": 4 if mine else 1.8, "dash": _dash(info)},
            marker={"size": [5 if c else small for c in cut], "color": colours[info.name], "line": {"width": 0}},
            hovertemplate="<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4~g}<extra></extra>",
        )
        if mine:
            _thirds(figure, info.name, (x, y), colours[info.name])
    _bands(figure, layers["epoch"])
    span_epochs(figure, layers["epoch"])
    markable(figure)
    return figure


def measure_multiples(
    layers: pd.DataFrame,
    infos: Sequence[LayerInfo],
    measure: Measure,
    chosen: Sequence[str],
    highlight: str = "",
    same: bool = True,
) -> Plot:
    """A small plot for each chosen layer, with its change between the thirds in the heading.

    The axes are the `same` for all, or each has a vertical one of its own.

    Raises:
        KeyError: the table has no such measure.
    """
    every = [info.name for info in infos]
    colours = layer_colours(every)
    shown = [info for info in infos if info.name in chosen]
    columns, gap = 4, 0.035 if same else 0.075
    rows = max(1, math.ceil(len(shown) / columns))
    inner = rows * _CELL_HEIGHT + (rows - 1) * _CELL_GAP
    figure = blank(inner + 78, "", "", every, showlegend=False)
    figure.update_layout(margin={"l": 58, "r": 12, "t": 28, "b": 50})
    look = deepcopy({"x": figure.layout["xaxis"], "y": figure.layout["yaxis"]})
    width = (1 - (columns - 1) * gap) / columns
    lows, highs, marks = [], [], []
    for place, info in enumerate(shown):
        row, column = divmod(place, columns)
        x, y, cut = _points(layers, info.name, measure)
        known = [value for value in y if value is not None]
        lows += [min(known)] if known else []
        highs += [max(known)] if known else []
        end = "" if place == 0 else str(place + 1)
        left, top = column * (width + gap), 1 - row * (_CELL_HEIGHT + _CELL_GAP) / inner
        bottom = top - _CELL_HEIGHT / inner
        last = place + columns >= len(shown)
        axes = {
            f"xaxis{end}": look["x"]
            | {"domain": [left, left + width], "anchor": f"y{end}", "matches": "x", "nticks": 5}
            | {"showticklabels": last, "title": {"text": "epoch" if last else "", "standoff": 4, "font": {"size": 12}}},
            f"yaxis{end}": look["y"]
            | {"domain": [bottom, top], "anchor": f"x{end}", "matches": "y" if same else None, "nticks": 4}
            | {"showticklabels": column == 0 or not same, "title": {"text": ""}},
        }
        figure.update_layout(**axes)
        colour = colours[info.name]
        figure.add_scatter(
            x=x,
            y=y,
            name=info.name,
            xaxis=f"x{end}",
            yaxis=f"y{end}",
            mode="lines+markers",
            line={"color": colour, "width": 2.2, "dash": _dash(info)},
            marker={"size": [4.5 if c else (3 if len(x) < _FEW_POINTS else 0.1) for c in cut], "color": colour},
            hovertemplate="<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4~g}<extra></extra>",
        )
        _thirds(figure, info.name, (x, y), colour, end, words=False)
        figure.add_annotation(
            text=_heading(info.name, x, y, highlight),
            x=left,
            xref="paper",
            xanchor="left",
            y=top,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12},
        )
        marks.append((f"x{end}", f"y{end} domain"))
    if highs and same:
        room = 0.06 * (max(highs) - min(lows) or abs(max(highs)) or 1)
        figure.update_layout(yaxis={"range": [min(lows) - room, max(highs) + room]})
    span_epochs(figure, layers["epoch"])
    figure.update_xaxes(dtick=None)
    markable(figure, marks)
    return figure


def _points(layers: pd.DataFrame, name: str, measure: Measure) -> tuple[list[int], list[float | None], list[bool]]:
    rows = layers[layers["layer"] == name]
    rows = rows[rows[measure.column].notna()]
    cut = [bool(removed) for removed in rows["removed"]] if "removed" in rows else [False] * len(rows)
    return [int(epoch) for epoch in rows["epoch"]], numbers(shown_values(rows, measure)), cut


def _dash(info: LayerInfo) -> str:
    return "dot" if info.kind == "trans" else ("solid" if info.part == "encoder" else "dash")


def third_marks(x: Sequence[int], y: Sequence[float | None]) -> dict[str, tuple[list[int], list[float], list[str]]]:
    """The two means that the change is told from, p1 and p2: where they lie, and how they are labelled."""
    means = _third_means(x, y)
    moved = _percent(100 * (means[1][2] / means[0][2] - 1)) if means and means[0][2] else ""
    return {
        name: ([start, stop], [mean, mean], [f"{name} = {mean:.3g} {word}".strip(), ""])
        for name, word, (start, stop, mean) in zip(("p1", "p2"), ("", moved), means, strict=False)
    }


def _third_means(x: Sequence[int], y: Sequence[float | None]) -> list[tuple[int, int, float]]:
    """(from, to, mean) of the first and the last third of the epochs, as the change of Table 4 takes them."""
    if not x or x[-1] - x[0] + 1 < 3:
        return []
    third = (x[-1] - x[0] + 1) // 3
    values = np.array([np.nan if value is None else value for value in y])
    epochs = np.array(x)
    first, last = values[epochs - x[0] < third], values[x[-1] - epochs < third]
    if np.isnan(first).all() or np.isnan(last).all():
        return []
    return [(x[0], x[0] + third - 1, float(np.nanmean(first))), (x[-1] - third + 1, x[-1], float(np.nanmean(last)))]


def _thirds(
    figure: Plot,
    layer: str,
    points: tuple[Sequence[int], Sequence[float | None]],
    colour: str,
    end: str = "",
    words: bool = True,
) -> None:
    for name, (x, y, text) in third_marks(*points).items():
        figure.add_scatter(
            x=x,
            y=y,
            xaxis=f"x{end}",
            yaxis=f"y{end}",
            name=name,
            meta=layer,
            mode="lines+text" if words else "lines",
            text=text,
            textposition="top right",
            line={"color": colour, "width": 2, "dash": "longdash"},
            textfont={"size": 12},
            hovertemplate=f"{name}, mean of a third of the epochs: %{{y:.4~g}}<extra></extra>",
        )


def _bands(figure: Plot, epochs: pd.Series[int]) -> None:
    if not len(epochs) or epochs.nunique() < 3:
        return
    first, last = int(epochs.min()), int(epochs.max())
    third = (last - first + 1) // 3
    for start, stop in ((first, first + third - 1), (last - third + 1, last)):
        edges = {"xref": "x", "yref": "paper", "x0": start, "x1": stop, "y0": 0, "y1": 1, "line": {"width": 0}}
        figure.add_shape(type="rect", fillcolor=_BAND, layer="below", **edges)


def _heading(name: str, x: Sequence[int], y: Sequence[float | None], highlight: str) -> str:
    moved = change(x, [math.nan if value is None else value for value in y]) if x else math.nan
    shown = f"<b>{name}</b>" if name == highlight else name
    if math.isnan(moved):
        return shown
    if math.isinf(moved):
        return f"{shown}  {'+∞' if moved > 0 else '−∞'}"
    return f"{shown}  {_percent(moved)}"


def _percent(moved: float) -> str:
    return f"{moved:+.0f} %".replace("-", "−")

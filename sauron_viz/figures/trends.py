"""How a measure moves over epochs: all layers in one plot, or each in a small one of its own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd

from sauron_train.analysis.trends import change
from sauron_train.runlog import LayerInfo
from sauron_viz.figures.base import blank, markable, numbers, span_epochs
from sauron_viz.figures.measures import Measure, shown_values
from sauron_viz.figures.plot import Plot
from sauron_viz.theme import layer_colours

# The name of the dots where filters went.
CUTS = "filters removed"
_FEW_POINTS = 4
_LEAST_EPOCHS = 3
_MANY_LAYERS = 8
_STEPPED_BACK = 0.6
_BAND = "rgba(128,128,128,0.09)"
_CELL_HEIGHT = 112
_CELL_GAP = 34
# Four plots beside each other with their headings, in pixels; a narrower page scrolls.
_LEAST_WIDTH = 700
_Points = tuple[list[int], list[float | None], list[bool]]


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
    points = _points(layers, measure)
    shown = sorted((info for info in infos if info.name in chosen), key=lambda info: info.name == highlight)
    pale = highlight in chosen and len(shown) > _MANY_LAYERS
    for info in shown:
        mine = info.name == highlight
        look = {"width": 4 if mine else 1.8, "dash": _dash(info), "color": colours[info.name]}
        _line(figure, info.name, points[info.name], look, opacity=_STEPPED_BACK if pale and not mine else 1)
    if any(info.name == highlight for info in shown):
        _thirds(figure, highlight, points[highlight], colours[highlight])
    x, y, names = _cuts(points, shown)
    faint = [_STEPPED_BACK if pale and name != highlight else 1 for name in names]
    _dots(figure, (x, y), {"size": 5, "color": [colours[name] for name in names], "opacity": faint})
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
    points = _points(layers, measure)
    rows = max(1, math.ceil(len(shown) / columns))
    inner = rows * _CELL_HEIGHT + (rows - 1) * _CELL_GAP
    figure = blank(inner + 78, "", "", every, showlegend=False)
    figure.update_layout(margin={"l": 58, "r": 12, "t": 28, "b": 50})
    look = deepcopy({"x": figure.layout["xaxis"], "y": figure.layout["yaxis"]})
    width = (1 - (columns - 1) * gap) / columns
    lows, highs, marks = [], [], []
    for place, info in enumerate(shown):
        row, column = divmod(place, columns)
        x, y, cut = points[info.name]
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
        axis = {"xaxis": f"x{end}", "yaxis": f"y{end}"}
        _line(figure, info.name, (x, y, cut), {"color": colour, "width": 2.2, "dash": _dash(info)}, **axis)
        _dots(figure, _cuts(points, [info])[:2], {"size": 4.5, "color": colour}, **axis)
        _thirds(figure, info.name, (x, y, cut), colour, end, words=False)
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
    figure.update_layout(meta={"least": _LEAST_WIDTH})
    return figure


def moved_lines(
    layers: pd.DataFrame, infos: Sequence[LayerInfo], measure: Measure, chosen: Sequence[str], highlight: str = ""
) -> dict[str, list[list[Any]]]:
    """x, y and where there are any words of the lines that `measure_lines` draws, by their names.

    They move the lines of a figure that is there already.
    """
    points = _points(layers, measure)
    shown = sorted((info for info in infos if info.name in chosen), key=lambda info: info.name == highlight)
    lines: dict[str, list[list[Any]]] = {info.name: list(points[info.name][:2]) for info in shown}
    marks = third_marks(*points[highlight][:2]) if highlight in lines else {}
    dots = _cuts(points, shown)
    return lines | {name: list(mark) for name, mark in marks.items()} | {CUTS: list(dots[:2])}


def _points(layers: pd.DataFrame, measure: Measure) -> dict[str, _Points]:
    """Epochs, values, and whether filters went, by layer."""
    table = layers.assign(value=shown_values(layers, measure))
    table = table[table["value"].notna()]
    found: dict[str, _Points] = defaultdict(lambda: ([], [], []))
    for name, rows in table.groupby("layer", sort=False):
        cut = (rows["removed"] > 0).tolist() if "removed" in rows else [False] * len(rows)
        found[str(name)] = (rows["epoch"].astype(int).tolist(), numbers(rows["value"]), cut)
    return found


def _cuts(points: Mapping[str, _Points], shown: Sequence[LayerInfo]) -> tuple[list[int], list[float | None], list[str]]:
    """Epochs, values and layers of all cuts."""
    found = [
        (epoch, value, info.name) for info in shown for epoch, value, cut in zip(*points[info.name], strict=True) if cut
    ]
    x, y, names = zip(*found, strict=True) if found else ((), (), ())
    return list(x), list(y), list(names)


def _line(figure: Plot, name: str, points: _Points, look: Mapping[str, Any], **trace: Any) -> None:
    # A symbol at every point would be thousands of them, and a line shows where it has been measured; a few it hides.
    few = len(points[0]) < _FEW_POINTS
    figure.add_scatter(
        x=points[0],
        y=points[1],
        name=name,
        mode="lines+markers" if few else "lines",
        line=dict(look),
        marker={"size": 3.5, "color": look["color"]},
        hovertemplate="<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4~g}<extra></extra>",
        **trace,
    )


def _dots(
    figure: Plot, points: tuple[Sequence[int], Sequence[float | None]], look: dict[str, Any], **axis: Any
) -> None:
    if points[0]:
        # They stand on points of the lines, which is where a table of the figure has them.
        figure.update_layout(meta={"dots": CUTS})
        figure.add_scatter(
            x=points[0], y=points[1], name=CUTS, mode="markers", marker=look, hoverinfo="skip", cliponaxis=False, **axis
        )


def _dash(info: LayerInfo) -> str:
    return "dot" if info.kind == "trans" else ("solid" if info.part == "encoder" else "dash")


def has_thirds(epochs: pd.Series[int]) -> bool:
    """Whether there are epochs enough for means of their first and their last third."""
    return len(epochs) > 0 and int(epochs.max() - epochs.min()) + 1 >= _LEAST_EPOCHS


def third_marks(x: Sequence[int], y: Sequence[float | None]) -> dict[str, tuple[list[int], list[float], list[str]]]:
    """The two means that the change is told from, p1 and p2: where they lie, and how they are labelled."""
    means = _third_means(x, y)
    moved = _percent(100 * (means[1][2] / means[0][2] - 1)) if means and means[0][2] else ""
    marks = {}
    for name, word, (start, stop, mean) in zip(("p1", "p2"), ("", moved), means, strict=False):
        words = f"{name} = {mean:.3g} {word}".strip()
        # Each from its end of the plot inwards, however short the thirds are.
        marks[name] = ([start, stop], [mean, mean], [words, ""] if name == "p1" else ["", words])
    return marks


def _third_means(x: Sequence[int], y: Sequence[float | None]) -> list[tuple[int, int, float]]:
    """(from, to, mean) of the first and the last third of the epochs, as the change of Table 4 takes them."""
    if not x or x[-1] - x[0] + 1 < _LEAST_EPOCHS:
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
    points: _Points,
    colour: str,
    end: str = "",
    words: bool = True,
) -> None:
    for name, (x, y, text) in third_marks(*points[:2]).items():
        # A third of one epoch has no line to draw.
        mode = "lines" if x[0] < x[1] else "markers"
        figure.add_scatter(
            x=x,
            y=y,
            xaxis=f"x{end}",
            yaxis=f"y{end}",
            name=name,
            meta=layer,
            mode=f"{mode}+text" if words else mode,
            text=text,
            textposition="top right" if name == "p1" else "top left",
            line={"color": colour, "width": 2, "dash": "longdash"},
            marker={"symbol": "line-ew-open", "size": 14, "color": colour, "line": {"width": 2}},
            # It may lie on the lines of other layers, and go on beside the axes.
            textfont={"size": 12, "shadow": "auto"},
            cliponaxis=False,
            hovertemplate=f"{name}, mean of a third of the epochs: %{{y:.4~g}}<extra></extra>",
        )


def _bands(figure: Plot, epochs: pd.Series[int]) -> None:
    if not has_thirds(epochs):
        return
    first, last = int(epochs.min()), int(epochs.max())
    third = (last - first + 1) // 3
    for start, stop in ((first, first + third - 1), (last - third + 1, last)):
        # From the middle between two epochs on, or a third of one epoch would have no width.
        edges = {"x0": start - 0.5, "x1": stop + 0.5, "y0": 0, "y1": 1, "line": {"width": 0}}
        figure.add_shape(type="rect", xref="x", yref="paper", fillcolor=_BAND, layer="below", **edges)


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

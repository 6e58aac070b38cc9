"""How the threshold of one layer was decided, epoch by epoch."""

from __future__ import annotations

import pandas as pd

from sauron_viz.figures.base import numbers, span_epochs
from sauron_viz.figures.plot import Plot
from sauron_viz.figures.rows import Line, Row, stacked
from sauron_viz.reasons import CONDITIONS
from sauron_viz.theme import MARK, VALIDATION

_NEAR = "#332288"
_HELD, _NOT = "#44aa99", "#cc6677"
_STRIP = 17


def decision_lines(layer: pd.DataFrame) -> Plot:
    """τ among the δ_prune of a layer's maps, its patience, and which conditions for a rise held.

    Args:
        layer: the rows of layers.csv of one layer.
    """
    known = layer[layer["threshold"].notna()]
    asked = [column for column in CONDITIONS if column in known and known[column].notna().any()]
    rows = [_distances(known), _patience(known)]
    if asked:
        rows.append(Row("Conditions for τ to rise, which all must hold", [], _STRIP * len(asked) + 6))
    figure = stacked(rows)
    if asked:
        _strip(figure, known, asked)
    span_epochs(figure, layer["epoch"])
    return figure


def _distances(known: pd.DataFrame) -> Row:
    x = _epochs(known)
    lines = [
        Line("upper quartile", x, numbers(known["delta_prune_q75"]), _NEAR, "dot", width=1, named=False),
        Line("median", x, numbers(known["delta_prune_median"]), _NEAR),
        Line("quartiles", x, numbers(known["delta_prune_q25"]), _NEAR, "dot", width=1),
        Line("smallest", x, numbers(known["delta_prune_min"]), _NEAR, "dash", width=1.5),
        Line("τ", x, numbers(known["threshold"]), VALIDATION, width=2.5, steps=True),
    ]
    cut = known[known["removed"] > 0]
    if len(cut):
        lines.append(Line("cut", _epochs(cut), numbers(cut["threshold"]), MARK, points=True, form="filters removed"))
    return Row("δ_prune and τ", lines, 260, {"rangemode": "tozero"})


def _patience(known: pd.DataFrame) -> Row:
    line = Line("patience", _epochs(known), numbers(known["patience"]), VALIDATION, form="%{y:d} epochs", steps=True)
    longest = int(known["patience"].max()) if len(known) else 1
    axis = {"range": [0, 1.1 * max(longest, 1)], "dtick": max(1, longest // 2)}
    return Row("Patience (epochs until τ may rise)", [line], 60, axis)


def _strip(figure: Plot, known: pd.DataFrame, asked: list[str]) -> None:
    values = [[None if pd.isna(held) else float(_held(held)) for held in known[column]] for column in reversed(asked)]
    names = [CONDITIONS[column] for column in reversed(asked)]
    words = [["" if v is None else "held" if v else "did not hold" for v in row] for row in values]
    figure.add(
        "heatmap",
        x=_epochs(known),
        y=names,
        z=values,
        text=words,
        name="condition",
        zmin=0,
        zmax=1,
        colorscale=[[0, _NOT], [0.5, _NOT], [0.5, _HELD], [1, _HELD]],
        showscale=False,
        xgap=1 if len(known) <= 120 else 0,
        ygap=2,
        yaxis="y3",
        hovertemplate="%{text}<extra>%{y}</extra>",
    )
    figure.update_layout(yaxis3={"showline": False, "ticks": "", "tickvals": names, "tickfont": {"size": 11.5}})
    figure.update_layout(margin={"l": 140})


def _held(value: object) -> bool:
    # Columns with empty cells come as text or as objects, whatever they hold.
    return value is True or str(value).lower() == "true"


def _epochs(table: pd.DataFrame) -> list[int]:
    return [int(epoch) for epoch in table["epoch"]]

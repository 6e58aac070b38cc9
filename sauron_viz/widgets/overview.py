"""All runs of a folder as one table."""

from __future__ import annotations

import pandas as pd

from sauron_train.errors import SauronError
from sauron_viz.runs import Library
from sauron_viz.widgets.base import esc


def runs_table(library: Library) -> pd.DataFrame:
    """One row per run: name, status, data set, epochs, Dice, and what is left of filters, parameters and FLOPs (%)."""
    return pd.DataFrame([_row(library, name) for name in library.names()])


def _row(library: Library, name: str) -> dict[str, object]:
    row: dict[str, object] = {"run": name, "status": library.status(name)}
    try:
        view = library.open(name)
        info, epochs = view.info, view.epochs
    except SauronError as error:
        return row | {"note": str(error)}
    row |= {"data set": info.dataset, "epochs": f"{len(epochs)} of {info.epochs_planned}"}
    if len(epochs):
        last = epochs.iloc[-1]
        row |= {
            "Dice": round(float(last["val_dice"]), 3),
            "filters left (%)": round(100 * last["filters"] / sum(layer.filters for layer in info.layers), 1),
            "parameters left (%)": round(100 * last["parameters"] / info.parameters, 1),
            "FLOPs left (%)": round(100 * last["flops"] / info.flops, 1),
        }
    return row


def as_html(table: pd.DataFrame) -> str:
    """The table in the style of the views."""
    if table.empty:
        return '<p class="sauron-empty">There are no runs in this folder yet.</p>'
    head = "".join(f'<th scope="col">{esc(column)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{'–' if pd.isna(value) else esc(value)}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    inner = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="sauron-scroll"><table class="sauron-table">{inner}</table></div>'

"""The list of cuts: what went when, who stands in for it, and what the Dice said."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sauron_train.runlog import Pruning
from sauron_viz.widgets.table import Column, DataTable
from sauron_viz.words import TAU

_NAMED = 8
_HEAD = ["epoch", "layer", "threshold", "filter", "delta_prune", "reference", "nearest", "distance"]
_HEAD += ["val_dice_before_cut", "val_dice"]
_BEFORE = "Mean Dice on the validation cases, before all cuts of that epoch"
_DISTANCE = "RMS distance of the two maps before the cut, in units of the maps' range"
_AFTER = "The same after them, before training went on"

COLUMNS = (
    Column("epoch", "Epoch", "count"),
    Column("layer", "Layer"),
    Column("before", "Filters before", "count"),
    Column("after", "After", "count"),
    Column("threshold", "τ", "number", TAU),
    Column("dice_before", "Dice before", "number", _BEFORE),
    Column("dice_after", "Dice after", "number", _AFTER),
    Column(
        "dice_change", "Change", "signed", "Dice after minus before; all layers that were cut in that epoch together"
    ),
    Column("removed", "Removed → nearest survivor (distance)", "long", _DISTANCE),
)


def cuts_table(**kwargs: Any) -> DataTable:
    """The table, still empty; keywords as those of `DataTable`."""
    return DataTable(
        COLUMNS,
        title="Cuts",
        unit="cuts",
        sort=["epoch", "down"],
        searchable=True,
        opens="Look at this layer and epoch",
        **kwargs,
    )


def cut_rows(cuts: Sequence[Pruning], epochs: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each layer and epoch in which filters went."""
    scores = _scores(epochs)
    rows = []
    for place, cut in enumerate(cuts):
        before, after = scores.get(cut.epoch, (math.nan, math.nan))
        rows.append(
            {
                "id": str(place),
                "epoch": cut.epoch,
                "layer": cut.layer,
                "before": cut.filters_before,
                "after": cut.filters_after,
                # Filters that were named to be cut went at no threshold.
                "threshold": cut.threshold or None,
                "removed": _named(cut),
                "dice_before": _known(before),
                "dice_after": _known(after),
                "dice_change": _known(after - before),
            }
        )
    return rows


def cuts_csv(cuts: Sequence[Pruning], epochs: pd.DataFrame) -> str:
    """One line for each filter that went."""
    scores = _scores(epochs)
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(_HEAD)
    for cut in cuts:
        dice = [_known(score) for score in scores.get(cut.epoch, (math.nan, math.nan))]
        for gone in cut.removed:
            pi = "" if gone.reference is None else gone.reference
            values = [gone.filter, gone.delta_prune, pi, gone.nearest, gone.distance, *dice]
            table.writerow([cut.epoch, cut.layer, cut.threshold, *values])
    return file.getvalue()


def _named(cut: Pruning) -> str:
    shown = ", ".join(f"{gone.filter} → {gone.nearest} ({gone.distance:.3f})" for gone in cut.removed[:_NAMED])
    more = len(cut.removed) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _scores(epochs: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """Dice before and after the cuts of an epoch."""
    columns = (epochs["epoch"], epochs["val_dice_before_cut"], epochs["val_dice"])
    return {int(epoch): (float(before), float(after)) for epoch, before, after in zip(*columns, strict=True)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value

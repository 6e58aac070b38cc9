"""What a run costs and how good it is, epoch by epoch."""

from __future__ import annotations

import pandas as pd

from sauron_train.runlog import RunInfo
from sauron_viz.figures.base import numbers, span_epochs
from sauron_viz.figures.plot import Plot
from sauron_viz.figures.rows import Line, Row, stacked
from sauron_viz.theme import SAFE, TRAIN, VALIDATION

FLOPS, PARAMETERS, FILTERS = "#332288", "#117733", "#882255"
_TIME, _MEMORY = "#332288", "#882255"
_PERCENT = "%{y:.1f} %"


def progress_lines(epochs: pd.DataFrame, info: RunInfo) -> Plot:
    """What is left of the network, Dice, loss, seconds per epoch and memory, one above the other on one axis of epochs.

    Epoch 0 is the whole network; a run that was made and not trained has only its own epoch. Training and validation
    loss are not the same quantity: training sums over the heads of all resolutions, validation has the full one.
    """
    figure = stacked([_left(epochs, info), _dice(epochs), _loss(epochs), *_effort(epochs)])
    span_epochs(figure, epochs["epoch"])
    return figure


def cost_lines(epochs: pd.DataFrame, info: RunInfo) -> Plot:
    """FLOPs, parameters and filters left, in percent of the unpruned network."""
    figure = stacked([_left(epochs, info, 280)])
    span_epochs(figure, epochs["epoch"])
    return figure


def _left(epochs: pd.DataFrame, info: RunInfo, height: int = 170) -> Row:
    whole = {"flops": info.flops, "parameters": info.parameters, "filters": sum(x.filters for x in info.layers)}
    looks = [
        ("flops", "FLOPs", FLOPS, "solid"),
        ("parameters", "parameters", PARAMETERS, "dash"),
        ("filters", "filters", FILTERS, "dot"),
    ]
    lines = []
    for column, name, colour, dash in looks:
        x, y = _epochs(epochs), numbers(100 * epochs[column] / max(whole[column], 1))
        if info.derived_from is None:
            x, y = [0, *x], [100.0, *y]
        lines.append(Line(name, x, y, colour, dash, _PERCENT, 2.2))
    return Row("Left of the network (%)", lines, height, {"range": [0, 104]})


def _dice(epochs: pd.DataFrame) -> Row:
    labels = [column for column in epochs.columns if column.startswith("dice_")]
    lines = [
        Line(
            column.removeprefix("dice_"),
            _epochs(epochs),
            numbers(epochs[column]),
            SAFE[(i * 3) % len(SAFE)],
            "dot",
            width=1.5,
        )
        for i, column in enumerate(labels if len(labels) > 1 else [])
    ]
    lines.append(Line("mean", _epochs(epochs), numbers(epochs["val_dice"]), VALIDATION, width=2.5))
    lines += _before_cut(epochs, "val_dice_before_cut")
    return Row("Dice, validation", lines, 150, {"range": [0, 1.02]})


def _loss(epochs: pd.DataFrame) -> Row:
    x = _epochs(epochs)
    lines = [
        Line("training", x, numbers(epochs["train_segmentation_loss"]), TRAIN),
        Line("validation", x, numbers(epochs["val_loss"]), VALIDATION, "dash"),
        *_before_cut(epochs, "val_loss_before_cut"),
    ]
    return Row("Segmentation loss", lines, axis={"rangemode": "tozero"})


def _effort(epochs: pd.DataFrame) -> list[Row]:
    x, rows = _epochs(epochs), []
    if epochs["seconds"].notna().any():
        lines = [
            Line("whole epoch", x, numbers(epochs["seconds"]), _TIME, form="%{y:.1f} s"),
            Line("training steps", x, numbers(epochs["seconds_training"]), TRAIN, "dash", "%{y:.1f} s"),
        ]
        rows.append(Row("Seconds per epoch", lines, 100, {"rangemode": "tozero"}))
    if epochs["memory_mb"].notna().any():
        line = Line("largest so far", x, numbers(epochs["memory_mb"]), _MEMORY, form="%{y:.0f} MiB")
        rows.append(Row("Memory, largest so far (MiB)", [line], 80, {"rangemode": "tozero"}))
    return rows


def _before_cut(epochs: pd.DataFrame, column: str) -> list[Line]:
    cut = epochs[epochs["filters_removed"] > 0]
    if cut.empty:
        return []
    return [Line("before a cut", _epochs(cut), numbers(cut[column]), VALIDATION, points=True)]


def _epochs(table: pd.DataFrame) -> list[int]:
    return [int(epoch) for epoch in table["epoch"]]

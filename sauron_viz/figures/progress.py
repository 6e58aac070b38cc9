"""What a run costs and how good it is, epoch by epoch."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sauron_train.runlog import RunInfo
from sauron_viz.figures.base import blank, mark_epoch, numbers, span_epochs
from sauron_viz.theme import SAFE, TRAIN, VALIDATION

FLOPS, PARAMETERS, FILTERS = "#332288", "#117733", "#882255"


def cost_lines(epochs: pd.DataFrame, info: RunInfo, epoch: int | None = None) -> go.Figure:
    """FLOPs, parameters and filters left, in percent of the unpruned network.

    Epoch 0 is the whole one; a run that was made and not trained has only its own epoch.
    """
    figure = blank(320, "epoch", "share left (%)")
    whole = {"flops": info.flops, "parameters": info.parameters, "filters": sum(x.filters for x in info.layers)}
    looks = [
        ("flops", "FLOPs", FLOPS, "solid"),
        ("parameters", "parameters", PARAMETERS, "dash"),
        ("filters", "filters", FILTERS, "dot"),
    ]
    for column, name, colour, dash in looks:
        share = 100 * epochs[column] / max(whole[column], 1)
        x, y = list(epochs["epoch"]), numbers(share)
        if info.derived_from is None:
            x, y = [0, *x], [100.0, *y]
        _line(figure, x, y, name, colour, dash, "%{y:.1f} %")
    figure.update_yaxes(range=[0, 104])
    span_epochs(figure, epochs["epoch"])
    mark_epoch(figure, epoch)
    return figure


def loss_lines(epochs: pd.DataFrame, epoch: int | None = None) -> go.Figure:
    """Segmentation loss of training and validation; the validation loss also as it was before the cut.

    The two are not the same quantity: training sums over the heads of all resolutions, validation has the full one.
    """
    figure = blank(320, "epoch", "segmentation loss")
    x = list(epochs["epoch"])
    _line(figure, x, numbers(epochs["train_segmentation_loss"]), "training (all heads)", TRAIN, "solid", "%{y:.3f}")
    _line(figure, x, numbers(epochs["val_loss"]), "validation (full resolution)", VALIDATION, "solid", "%{y:.3f}")
    _before_cut(figure, epochs, "val_loss_before_cut", "%{y:.3f}")
    figure.update_yaxes(rangemode="tozero")
    span_epochs(figure, epochs["epoch"])
    mark_epoch(figure, epoch)
    return figure


def dice_lines(epochs: pd.DataFrame, epoch: int | None = None) -> go.Figure:
    """Validation Dice: the mean, before the cut where there was one, and every label."""
    figure = blank(320, "epoch", "Dice, validation", showlegend=True)
    x = list(epochs["epoch"])
    labels = [column for column in epochs.columns if column.startswith("dice_")]
    for i, column in enumerate(labels if len(labels) > 1 else []):
        colour = SAFE[(i * 3) % len(SAFE)]
        _line(figure, x, numbers(epochs[column]), column.removeprefix("dice_"), colour, "dot", "%{y:.3f}", 1.5)
    _line(figure, x, numbers(epochs["val_dice"]), "mean", VALIDATION, "solid", "%{y:.3f}", 2.5)
    _before_cut(figure, epochs, "val_dice_before_cut", "%{y:.3f}")
    figure.update_yaxes(range=[0, 1.02])
    span_epochs(figure, epochs["epoch"])
    mark_epoch(figure, epoch)
    return figure


def _line(
    figure: go.Figure,
    x: list[int],
    y: list[float | None],
    name: str,
    colour: str,
    dash: str,
    form: str,
    width: float = 2,
) -> None:
    figure.add_scatter(
        x=[int(value) for value in x],
        y=y,
        name=name,
        # One epoch alone is a point, not a line of no length.
        mode="lines" if len(x) > 1 else "markers",
        line={"color": colour, "width": width, "dash": dash},
        marker={"size": 9, "color": colour},
        hovertemplate=f"<b>{name}</b><br>epoch %{{x}}: {form}<extra></extra>",
    )


def _before_cut(figure: go.Figure, epochs: pd.DataFrame, column: str, form: str) -> None:
    cut = epochs[epochs["filters_removed"] > 0]
    if cut.empty:
        return
    figure.add_scatter(
        x=[int(e) for e in cut["epoch"]],
        y=numbers(cut[column]),
        name="before the cut",
        mode="markers",
        marker={"symbol": "circle-open", "size": 6, "color": VALIDATION, "line": {"width": 1.3}},
        hovertemplate=f"<b>before the cut</b><br>epoch %{{x}}: {form}<extra></extra>",
    )

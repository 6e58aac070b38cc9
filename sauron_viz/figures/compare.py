"""Curves of any set of runs in one plot, as in the paper's Fig. S1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sauron_viz.figures.base import blank, markable, whole_ticks
from sauron_viz.figures.plot import Plot
from sauron_viz.groups import Group
from sauron_viz.theme import SAFE

# As the paper's figure has them: Sauron orange, the baseline blue, maps not scaled red, distances scaled green.
_PAPER = {"maps": "#e66100", "baseline": "#1f5fb4", "none": "#c4302b", "distances": "#26873f"}
_OTHERS = [SAFE[i] for i in (5, 8, 6, 2, 0, 7, 4, 1, 3)]
DARK = {"#1f5fb4": "#6ea8f0", "#c4302b": "#f0706b", "#26873f": "#57c274", "#e66100": "#ff9440"}


_MOST_BANDS = 3


@dataclass(frozen=True)
class Curve:
    """What may be compared: a column of epochs.csv, or HD95 as the mean over labels."""

    column: str
    name: str
    axis: str
    percent_of: str = ""


CURVES = (
    Curve("val_dice", "Dice, validation", "Dice, validation"),
    Curve("hd95", "HD95, validation", "HD95 (mm), validation"),
    Curve("val_loss", "Loss, validation", "segmentation loss, validation"),
    Curve("train_segmentation_loss", "Loss, training", "segmentation loss, training (all heads)"),
    Curve("train_delta_opt", "δ_opt, training", "δ_opt, mean over layers"),
    Curve("flops", "FLOPs left", "FLOPs left (%)", "flops"),
    Curve("parameters", "Parameters left", "parameters left (%)", "parameters"),
    Curve("filters", "Filters left", "filters left (%)", "filters"),
    Curve("seconds", "Seconds per epoch", "seconds per epoch"),
)


def colours(groups: Sequence[Group]) -> list[str]:
    """One colour per group: the paper's for its own modes, others for what comes in addition."""
    found: list[str] = []
    spare = list(_OTHERS)
    for group in groups:
        wanted = _PAPER.get(group.mode.removesuffix(", not pruned"), "")
        if not wanted or wanted in found:
            wanted = spare.pop(0)
            spare.append(wanted)
        found.append(wanted)
    return found


def comparison(groups: Sequence[Group], curve: Curve, window: int = 1) -> Plot | None:
    """Mean over the runs of each group, with the range between the lowest and the highest; the baseline is dashed.

    A dotted line goes on at the height where the baseline ended. None where no run has such values.
    """
    figure = blank(460, "epoch", curve.axis, showlegend=True)
    last, drawn = 1, 0
    many = sum(len(group.views) > 1 for group in groups) > _MOST_BANDS
    # Bars stand side by side behind the ends of the curves.
    shift = 0.012 * max((int(view.epochs["epoch"].max()) for group in groups for view in group.views), default=1)
    for group, colour in zip(groups, colours(groups), strict=True):
        table = group.curve(curve.column, window)
        if table.empty:
            continue
        drawn += 1
        scale = _scale(group, curve)
        x = [int(epoch) for epoch in table["epoch"]]
        last = max(last, x[-1])
        low, mean, high = ((scale * table[name]).tolist() for name in ("low", "mean", "high"))
        several = len(group.views) > 1
        if several and not many:
            _band(figure, group, colour, (x, low, high))
        elif several:
            _bar(figure, group, colour, (x[-1] + shift * (drawn - 0.5), low[-1], mean[-1], high[-1]))
        figure.add_scatter(
            x=x,
            y=mean,
            name=group.title,
            legendgroup=group.label,
            mode="lines" if len(x) > 1 else "markers",
            line={"color": colour, "width": 2.8, "dash": "dash" if group.is_baseline else "solid"},
            marker={"size": 9, "color": colour},
            customdata=list(zip(low, high, strict=True)),
            hovertemplate=f"<b>{group.title}</b><br>epoch %{{x}}: %{{y:.4~g}}" + _between(group) + "<extra></extra>",
        )
        if group.is_baseline:
            line = {"color": colour, "width": 1.2, "dash": "dot"}
            figure.add_shape(
                type="line", xref="paper", yref="y", x0=0, x1=1, y0=mean[-1], y1=mean[-1], line=line, layer="below"
            )
    if not drawn:
        return None
    if curve.percent_of:
        figure.update_yaxes(range=[0, 104])
    figure.update_layout(meta={"dark": DARK})
    right = last * 1.015 + 0.2 + (shift * (drawn + 0.5) if many else 0)
    figure.update_xaxes(range=[0, right], dtick=whole_ticks(last))
    markable(figure)
    return figure


def _between(group: Group) -> str:
    return "<br>%{customdata[0]:.4~g} to %{customdata[1]:.4~g}" if len(group.views) > 1 else ""


def _scale(group: Group, curve: Curve) -> float:
    info = group.views[0].info
    whole = {
        "flops": info.flops,
        "parameters": info.parameters,
        "filters": sum(layer.filters for layer in info.layers),
    }
    return 100 / max(whole[curve.percent_of], 1) if curve.percent_of else 1.0


def _bar(figure: Plot, group: Group, colour: str, end: tuple[float, float, float, float]) -> None:
    """How far the runs of a group lie apart at the end, where bands would cover each other."""
    x, low, mean, high = end
    figure.add_scatter(
        x=[x],
        y=[mean],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - mean],
            "arrayminus": [mean - low],
            "color": colour,
            "thickness": 2,
            "width": 4,
        },
        name=f"{group.label}, range at the end",
        legendgroup=group.label,
        showlegend=False,
        mode="markers",
        marker={"size": 6, "color": colour},
        hovertemplate=f"<b>{group.title}</b><br>at the end {low:.4g} to {high:.4g}<extra></extra>",
    )


def _band(figure: Plot, group: Group, colour: str, band: tuple[list[int], list[float], list[float]]) -> None:
    x, low, high = band
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        name=f"{group.label}, range",
        legendgroup=group.label,
        showlegend=False,
        mode="lines",
        line={"width": 0, "color": colour},
        fill="toself",
        fillcolor=colour,
        opacity=0.18,
        hoverinfo="skip",
    )

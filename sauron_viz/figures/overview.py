"""All runs in one picture: what is left of the network against how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from sauron_viz.figures.base import blank
from sauron_viz.figures.plot import Plot
from sauron_viz.summaries import Summary
from sauron_viz.theme import MARK, SAFE

_SYMBOLS = {"baseline": "square", "off": "triangle-up", "none": "triangle-down", "distances": "diamond", "λ=0": "x"}

# Neighbours in the list are easy to tell apart, on white and on black.
_APART = [SAFE[i] for i in (4, 1, 3, 0, 5, 2, 8, 7, 6)]


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points (cost, score) no other beats in both, from the cheapest on."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


# Of one run alone nothing says how far an axis of Dice should reach.
_LEAST_ROOM = 0.05


def dice_against_flops(summaries: Sequence[Summary], ticked: Sequence[str] = (), current: str = "") -> Plot | None:
    """Validation Dice over the share of FLOPs left, one point per run, with the Pareto front of each data set.

    Colour: data set; symbol: how it was trained. Ticked runs are ringed, the current one in orange. None where no run
    has both numbers.
    """
    known = [s for s in summaries if s.dice is not None and s.flops is not None]
    if not known:
        return None
    figure = blank(400, "FLOPs left (%)", "Dice, validation", showlegend=True)
    datasets = list(dict.fromkeys(s.dataset for s in known))
    for place, dataset in enumerate(datasets):
        runs = [s for s in known if s.dataset == dataset]
        _points(figure, dataset, _APART[place % len(_APART)], runs)
    _rings(figure, [s for s in known if s.name in ticked], "#808080")
    _rings(figure, [s for s in known if s.name == current], MARK)
    highest = max(100.0, *(100 * (s.flops or 0) for s in known))
    figure.update_xaxes(range=[0, 1.08 * highest], showgrid=True)
    low, high = min(s.dice or 0 for s in known), max(s.dice or 0 for s in known)
    room = max(_LEAST_ROOM, 0.1 * (high - low))
    figure.update_yaxes(range=[max(-0.02, low - room), min(1.02, high + room)])
    return figure


def _points(figure: Plot, dataset: str, colour: str, runs: list[Summary]) -> None:
    places = [(100 * (s.flops or 0.0), s.dice or 0.0) for s in runs]
    front = pareto(places)
    if len(front) > 1:
        figure.add_scatter(
            x=[places[i][0] for i in front],
            y=[places[i][1] for i in front],
            name=f"{dataset}: best for its cost",
            legendgroup=dataset,
            showlegend=False,
            mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dot", "shape": "hv"},
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        name=dataset,
        legendgroup=dataset,
        mode="markers",
        customdata=[s.name for s in runs],
        text=[_words(s) for s in runs],
        marker={
            "size": 11,
            "color": colour,
            "symbol": [_SYMBOLS.get(s.mode.split(",")[0], "circle") for s in runs],
            "line": {"width": 0},
        },
        hovertemplate="%{text}<br>Dice %{y:.3f}, %{x:.1f} % of the FLOPs<extra></extra>",
    )


def _rings(figure: Plot, runs: Sequence[Summary], colour: str) -> None:
    figure.add_scatter(
        x=[100 * (s.flops or 0) for s in runs],
        y=[s.dice or 0 for s in runs],
        name="chosen",
        showlegend=False,
        mode="markers",
        marker={"size": 19, "color": colour, "symbol": "circle-open", "line": {"width": 2}},
        hoverinfo="skip",
    )


def _words(run: Summary) -> str:
    seed = "" if run.seed is None else f", seed {run.seed}"
    made = f"<br>made from {run.derived_from}" if run.derived_from else ""
    return f"<b>{run.name}</b><br>{run.mode or 'mode not recorded'}{seed}{made}"

"""Plots on top of each other over one axis of epochs, each with a heading that names its lines in their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sauron_viz.figures.base import blank, markable
from sauron_viz.figures.plot import Plot

_DASHES = {"solid": "━━", "dash": "╍╍", "dot": "┅┅"}
_HEADING = 30
_BELOW = 46


@dataclass(frozen=True)
class Line:
    """Values over epochs; `form` is how one is written, `points` draws circles instead.

    One that is not `named` has no place in the heading.
    """

    name: str
    x: Sequence[int]
    y: Sequence[float | None]
    colour: str
    dash: str = "solid"
    form: str = "%{y:.3f}"
    width: float = 2
    points: bool = False
    steps: bool = False
    named: bool = True

    def add_to(self, figure: Plot, place: int, heading: str) -> None:
        """Draw it into the plot at that place from the top, from 1, which has this heading."""
        figure.add_scatter(
            x=list(self.x),
            y=list(self.y),
            name=self.name,
            meta=heading,
            # One epoch alone is a point, not a line of no length.
            mode="markers" if self.points or len(self.x) < 2 else "lines",
            line={
                "color": self.colour,
                "width": self.width,
                "dash": self.dash,
                "shape": "hv" if self.steps else "linear",
            },
            marker=self._marker(),
            hovertemplate=f"{self.form}<extra>{self.name}</extra>",
            yaxis="y" if place == 1 else f"y{place}",
        )

    @property
    def key(self) -> str:
        """Its name behind a piece of its line."""
        sign = "○" if self.points else _DASHES[self.dash]
        return f'<span style="color:{self.colour}">{sign}</span> {self.name}'

    def _marker(self) -> dict[str, Any]:
        if self.points:
            return {"symbol": "circle-open", "size": 6, "color": self.colour, "line": {"width": 1.3}}
        return {"size": 9, "color": self.colour}


@dataclass(frozen=True)
class Row:
    """One of the plots: its heading with the unit, its lines, and how high it is in pixels."""

    heading: str
    lines: Sequence[Line]
    height: int = 130
    axis: dict[str, Any] = field(default_factory=dict)


def stacked(rows: Sequence[Row], **layout: Any) -> Plot:
    """One figure of all rows; the pointer reads the same epoch in all of them."""
    inner = sum(row.height + _HEADING for row in rows)
    figure = blank(inner + _BELOW, "epoch", "", **layout)
    figure.update_layout(
        margin={"l": 60, "r": 18, "t": 0, "b": _BELOW}, showlegend=False, hovermode="x unified", hoversubplots="axis"
    )
    template = dict(figure.layout["yaxis"])
    top = float(inner)
    for place, row in enumerate(rows, start=1):
        bottom = top - _HEADING - row.height
        axis = (
            template
            | {"domain": [bottom / inner, (bottom + row.height) / inner], "anchor": "x", "nticks": 5}
            | row.axis
        )
        figure.update_layout(**{"yaxis" if place == 1 else f"yaxis{place}": axis})
        keys = [line.key for line in row.lines if line.named] if len(row.lines) > 1 else []
        figure.add_annotation(
            text="&nbsp;&nbsp; ".join([f"<b>{row.heading}</b>", *keys]),
            x=0,
            xref="paper",
            xanchor="left",
            y=(bottom + row.height) / inner,
            yref="paper",
            yanchor="bottom",
            yshift=3,
            showarrow=False,
            font={"size": 12.5},
            align="left",
            name="heading",
        )
        for line in row.lines:
            line.add_to(figure, place, row.heading)
        top = bottom
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    figure.update_xaxes(anchor=last)
    markable(figure)
    return figure

"""Figures as the plain tables that plotly.js draws.

`plotly.graph_objects` checks every value that is set, which takes a second for the figures of one tab, and half a
second to load. Dashboards draw far too often for that; the tests let it check all figures, and `Plot.figure` gives one
to whoever wants to go on with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Plot:
    """Traces and a layout, in the words of plotly's reference; tables in them are merged, all else is replaced."""

    def __init__(self, **layout: Any) -> None:
        self.data: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {"xaxis": {}, "yaxis": {}}
        self.update_layout(**layout)

    def add(self, kind: str, **trace: Any) -> None:
        """Add a trace: "scatter", "bar" or "heatmap"."""
        self.data.append({"type": kind, **trace})

    def add_scatter(self, **trace: Any) -> None:
        """Add lines or markers."""
        self.add("scatter", **trace)

    def add_annotation(self, **words: Any) -> None:
        """Add a piece of text."""
        self.layout.setdefault("annotations", []).append(words)

    def add_shape(self, **shape: Any) -> None:
        """Add a line or a rectangle."""
        self.layout.setdefault("shapes", []).append(shape)

    def update_layout(self, **layout: Any) -> None:
        """Change the layout."""
        _merge(self.layout, layout)

    def update_xaxes(self, **axis: Any) -> None:
        """Change all x axes there are."""
        self._update_axes("xaxis", axis)

    def update_yaxes(self, **axis: Any) -> None:
        """Change all y axes there are."""
        self._update_axes("yaxis", axis)

    def to_json(self) -> str:
        """For plotly.js."""
        return json.dumps(
            {"data": self.data, "layout": self.layout}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )

    def figure(self) -> go.Figure:
        """The same as a figure of plotly's, to show, change or write.

        Raises:
            ValueError: something in it is not in plotly's reference.
        """
        import plotly.graph_objects as go  # noqa: PLC0415

        return go.Figure(deepcopy(self.data), deepcopy(self.layout) | {"template": "none"})

    def _update_axes(self, kind: str, axis: Mapping[str, Any]) -> None:
        for name in [name for name in self.layout if name.startswith(kind)]:
            _merge(self.layout[name], axis)


def _merge(table: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(table.get(key), dict):
            _merge(table[key], value)
        else:
            # Two axes must not share a table, or one would change with the other.
            table[key] = deepcopy(value)

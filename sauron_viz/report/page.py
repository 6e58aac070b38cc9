"""Widgets without a kernel: their scripts, their style and their state in one HTML file that loads nothing."""

from __future__ import annotations

import base64
import html
import json
from importlib.resources import files
from typing import Any

from sauron_viz.plotlyjs import packed
from sauron_viz.widgets.base import style
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Slider
from sauron_viz.widgets.network import Network
from sauron_viz.widgets.table import DataTable

_VIZ = files("sauron_viz")
_SCRIPTS = {PlotlyChart: "chart", DataTable: "table", Network: "network", Slider: "slider"}
# What only a kernel needs.
_LEFT_OUT = {"layout", "tabbable", "tooltip", "library", "clicked", "comm"}


class Page:
    """Collects widgets; each is drawn where its mark stands."""

    def __init__(self) -> None:
        self._widgets: list[tuple[str, dict[str, Any]]] = []
        self._places: dict[int, int] = {}
        self._links: list[tuple[int, str, int, str]] = []
        self._kept: list[Any] = []

    def put(self, widget: Any) -> str:
        """The mark of a widget; its state is taken as it is now."""
        place = len(self._widgets)
        self._places[id(widget)] = place
        # A widget that is gone could leave its number to another.
        self._kept.append(widget)
        # A widget's own type is one that was made for it.
        kind = next(script for known, script in _SCRIPTS.items() if isinstance(widget, known))
        self._widgets.append((kind, _state(widget)))
        return f'<div data-widget="{place}"></div>'

    def link(self, source: Any, trait: str, target: Any, other: str) -> None:
        """Let what is chosen in one widget be chosen in another; both have been put."""
        self._links.append((self._places[id(source)], trait, self._places[id(target)], other))

    def render(self, title: str, body: str) -> str:
        """The whole file."""
        kinds = "\n".join(f"KINDS.{name} = {_script(name)};" for name in sorted({kind for kind, _ in self._widgets}))
        return "\n".join(
            (
                '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{html.escape(title)}</title>",
                f"<style>{_colours()}\n{style()}\n{_own('report.css')}</style></head>",
                f'<body class="sauron-report" data-jp-theme-name="report"><main class="sauron">{body}</main>',
                f'<script type="application/json" id="widgets">{_json(self._widgets)}</script>',
                f'<script type="application/json" id="links">{_json(self._links)}</script>',
                f'<script type="application/octet-stream" id="plotly">{_plotly()}</script>',
                f"<script>\nconst KINDS = {{}};\n{kinds}\n{_own('report.js')}</script>",
                "</body></html>\n",
            )
        )


def _state(widget: Any) -> dict[str, Any]:
    names = [name for name in widget.keys if not name.startswith("_") and name not in _LEFT_OUT]
    return {name: getattr(widget, name) for name in names}


def _json(values: Any) -> str:
    # "</script>" in a name would end the element.
    return json.dumps(values, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _script(name: str) -> str:
    parts = ((_VIZ / "widgets" / f"{part}.js").read_text(encoding="utf-8") for part in ("common", name))
    source = "\n".join(parts).replace("export default", "return")
    return f"(() => {{\n{source}\n}})()"


def _own(name: str) -> str:
    return (_VIZ / "report" / name).read_text(encoding="utf-8")


def _colours() -> str:
    return (_VIZ / "templates" / "voila" / "templates" / "sauron" / "colours.css").read_text(encoding="utf-8")


def _plotly() -> str:
    return base64.b64encode(packed(9)).decode()

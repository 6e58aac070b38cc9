"""One class per dashboard; the last line of a notebook's cell shows it.

Each takes the folder of runs; without one, `$SAURON_RUNS`, else `runs` or `demo/runs`, here or one folder up. Importing
this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets

from sauron_train.errors import DataError, SauronError
from sauron_viz.figures import cost_lines
from sauron_viz.runs import Library
from sauron_viz.visit import wait_for_visitor
from sauron_viz.widgets.base import box, style_widget
from sauron_viz.widgets.chart import PlotlyChart, PlotlyLib
from sauron_viz.widgets.compare import ComparePanel
from sauron_viz.widgets.controls import Tabs
from sauron_viz.widgets.explorer import ExplorerPanel
from sauron_viz.widgets.header import Header
from sauron_viz.widgets.layer_trends import LayerTrendsPanel
from sauron_viz.widgets.overview import OverviewPanel, overview_rows, overview_table
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.pruning import PruningPanel
from sauron_viz.widgets.viewer import Viewer

__all__ = ["Compare", "Costs", "Dashboard", "FeatureMapExplorer", "LayerTrends", "PruningProgress", "RunsTable"]


class App(ipywidgets.Box):
    """The header and whatever is below it. `state` is what is looked at: set its traits to drive the app from code."""

    title = "Sauron"

    def __init__(self, runs: Path | str | None = None) -> None:
        super().__init__()
        for name in ("sauron", "sauron-stack"):
            self.add_class(name)
        self.viewer = Viewer(runs)
        self.state = self.viewer.state
        self.header = Header(self.viewer)
        self.header.name(self.title)
        self.body = box(css="sauron-stack")
        self.children = (style_widget(), self.viewer.session, self.header, self.body)
        self.fill()
        self.state.observe(self.viewer.guard(lambda _: self._hide_when_nothing()), ["version", "problem"])
        self._hide_when_nothing()

    def fill(self) -> None:
        """Put the panels into the body."""
        raise NotImplementedError

    def _hide_when_nothing(self) -> None:
        # The header says why in that case; empty panels would only repeat it.
        self.body.layout.display = None if self.viewer.view else "none"


class FeatureMapExplorer(App):
    """All maps of a layer, epoch by epoch: which say the same thing, what went, and what would go."""

    title = "Feature maps"

    def fill(self) -> None:
        """One panel."""
        self.panel = ExplorerPanel(self.viewer)
        self.body.children = (self.panel,)

    def explore(self, *images: Path | str, epoch: int | None = None) -> None:
        """Show an image of your own to the network of the open run; its maps are opened when they are there.

        Args:
            images: NIfTI files, one per channel of the network.
            epoch: whose weights; None = the epoch that is looked at, or the last whose weights are kept.

        Raises:
            RunError: no run is open, no weights are kept, or another image is on its way.
            DataError: no such file.
        """
        paths = [Path(image).expanduser().resolve() for image in images]
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise DataError(f"{missing[0]} is not there; give NIfTI files" if missing else "give a NIfTI file")
        self.panel.tabs.value = "own"
        self.panel.own.run(paths, epoch)


class LayerTrends(App):
    """Measures of chosen layers over epochs."""

    title = "Layer trends"

    def fill(self) -> None:
        """One panel."""
        self.panel = LayerTrendsPanel(self.viewer)
        self.body.children = (self.panel,)


class PruningProgress(App):
    """What was cut, what it saved and what it cost."""

    title = "Pruning"

    def fill(self) -> None:
        """One panel."""
        self.panel = PruningPanel(self.viewer)
        self.body.children = (self.panel,)


class Compare(App):
    """Curves of any set of runs in one plot, and how they ended, against the baseline."""

    title = "Comparison"

    def fill(self) -> None:
        """One panel."""
        self.panel = ComparePanel(self.viewer)
        self.body.children = (self.panel,)


class Dashboard(App):
    """All panels in tabs. What is chosen in one is chosen in all; a tab is built when it is first opened."""

    def fill(self) -> None:
        """The row of tabs, and the first one."""
        self.kinds: dict[str, tuple[str, Callable[[Viewer], Panel]]] = {
            "runs": ("Runs", OverviewPanel),
            "maps": ("Feature maps", ExplorerPanel),
            "trends": ("Layer trends", LayerTrendsPanel),
            "pruning": ("Pruning", PruningPanel),
            "compare": ("Compare", ComparePanel),
        }
        self.viewer.tabs = tuple(self.kinds)
        self.panels: dict[str, Panel] = {}
        if self.state.tab not in self.kinds:
            self.state.tab = "runs" if self._many() else "maps"
        self.tabs = Tabs(options=[[key, title] for key, (title, _) in self.kinds.items()], value=self.state.tab)
        self.body.children = (self.tabs,)
        self.tabs.observe(self.viewer.guard(self._chosen), "value")
        self.state.observe(self.viewer.guard(lambda _: self._turn()), "tab")
        self._turn()

    def _many(self) -> bool:
        # Whoever follows a link to a run, or has but one, need not choose first.
        return len(self.state.runs) > 1 and not self.viewer.asked_for_run

    def _chosen(self, change: Any) -> None:
        self.state.tab = change.new

    def _turn(self) -> None:
        tab = self.state.tab
        self.tabs.value = tab
        for key, panel in self.panels.items():
            panel.seen(key == tab)
        if tab not in self.panels:
            self.panels[tab] = self.kinds[tab][1](self.viewer)
            self.body.children = (self.tabs, *self.panels.values())


class RunsTable(ipywidgets.Box):
    """All runs of a folder, one line each."""

    def __init__(self, runs: Path | str | None = None) -> None:
        super().__init__()
        wait_for_visitor()
        for name in ("sauron", "sauron-stack"):
            self.add_class(name)
        self.table = overview_table()
        try:
            self.table.fill(overview_rows(Library(runs).overview()))
        except SauronError as error:
            self.table.empty = str(error)
        self.children = (style_widget(), self.table)


class Costs(ipywidgets.Box):
    """FLOPs, parameters and filters left of one run over its epochs."""

    def __init__(self, runs: Path | str | None = None, run: str | None = None) -> None:
        super().__init__()
        for name in ("sauron", "sauron-stack"):
            self.add_class(name)
        wait_for_visitor()
        library = Library(runs)
        plotly = PlotlyLib()
        chart = PlotlyChart(library=plotly, title="What is left of the network", empty="There is no run to draw yet.")
        try:
            if library.names():
                view = library.open(run or library.first())
                chart.draw(cost_lines(view.epochs, view.info), f"Run {view.title}; for one patch and one forward pass.")
        except SauronError as error:
            chart.empty = str(error)
        self.children = (style_widget(), chart)

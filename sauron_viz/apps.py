"""One class per dashboard; the last line of a notebook's cell shows it.

Each takes the folder of runs; without one, `$SAURON_RUNS`, else `runs` or `demo/runs`, here or one folder up. Importing
this module imports no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from sauron_train.errors import DataError, SauronError
from sauron_train.runlog import Run
from sauron_viz.figures import cost_lines
from sauron_viz.runs import Library, find_root
from sauron_viz.training.allowed import Allowed
from sauron_viz.training.progress import Tail
from sauron_viz.training.request import as_yaml
from sauron_viz.training.request import require as check_request
from sauron_viz.visit import wait_for_visitor
from sauron_viz.widgets.base import box, show, style_widget
from sauron_viz.widgets.chart import PlotlyChart, PlotlyLib
from sauron_viz.widgets.compare import ComparePanel
from sauron_viz.widgets.controls import Tabs
from sauron_viz.widgets.explorer import ExplorerPanel
from sauron_viz.widgets.header import Header
from sauron_viz.widgets.layer_trends import LayerTrendsPanel
from sauron_viz.widgets.overview import OverviewPanel, overview_rows, overview_table
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.pruning import PruningPanel
from sauron_viz.widgets.training import TrainingPanel
from sauron_viz.widgets.viewer import Viewer

__all__ = [
    "Compare",
    "Costs",
    "Dashboard",
    "FeatureMapExplorer",
    "LayerTrends",
    "PruningProgress",
    "RunsTable",
    "TrainingView",
    "train",
]


class App(ipywidgets.Box):
    """The header and whatever is below it. `state` is what is looked at: set its traits to drive the app from code."""

    title = "Sauron"
    needs_run = True

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
        if not self.needs_run:
            self.header.below_is_training()
        self.state.observe(self.viewer.guard(lambda _: self._hide_when_nothing()), ["version", "problem"])
        self._hide_when_nothing()

    def fill(self) -> None:
        """Put the panels into the body."""
        raise NotImplementedError

    def _hide_when_nothing(self) -> None:
        # The header says why in that case; empty panels would only repeat it.
        self.body.layout.display = None if self.viewer.view or not self.needs_run else "none"


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
        allowed = Allowed.from_environment()
        if allowed is not None and not self.viewer.folder.has("."):
            self.kinds["training"] = ("Training", partial(TrainingPanel, allowed=allowed))
            self.needs_run = False
        self.viewer.tabs = tuple(self.kinds)
        self.panels: dict[str, Panel] = {}
        if self.state.tab not in self.kinds:
            self.state.tab = "runs" if self._many() else "maps" if self.state.runs or self.needs_run else "training"
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
        if tab not in self.panels:
            self.panels[tab] = self.kinds[tab][1](self.viewer)
            self.body.children = (self.tabs, *self.panels.values())
        for key, panel in self.panels.items():
            panel.seen(key == tab and (self.needs_run or self.viewer.view is not None or key == "training"))

    def _hide_when_nothing(self) -> None:
        super()._hide_when_nothing()
        if not self.needs_run:
            self._turn()


class TrainingView(App):
    """Starts trainings, and follows, stops and resumes them; they go on when the notebook is closed.

    Args:
        runs: the folder that runs are written into; it is made if it is not there.
        data: the folder, or several, that hold data sets and recipes of your own; a data set itself will do.

    Raises:
        DataError: no such folder.
    """

    title = "Training"
    needs_run = False

    def __init__(self, runs: Path | str | None = None, data: Path | str | Sequence[Path | str] = "data") -> None:
        self.allowed = Allowed.of([data] if isinstance(data, (str, Path)) else data)
        find_root(runs).mkdir(parents=True, exist_ok=True)
        super().__init__(runs)

    def fill(self) -> None:
        """One panel."""
        self.panel = TrainingPanel(self.viewer, self.allowed)
        self.body.children = (self.panel,)

    def start(self, recipe: str, data: Path | str, name: str, changes: Sequence[str] = ()) -> None:
        """Train a new run.

        Args:
            recipe: name of a recipe, or path of a YAML file.
            data: the data set.
            name: of the run, in the folder of runs.
            changes: `section.key=value` each, as for `--set`.

        Raises:
            ConfigError, DataError, RunError: something that cannot be used; nothing was started then.
        """
        self.job = self.panel.start(recipe, check_request(recipe, Path(data), changes), name, changes)
        self.viewer.followers.append(self._turn_to_it)

    def _turn_to_it(self) -> None:
        """Look at what was started as soon as there is something to look at."""
        if self.viewer.folder.has(self.job.run):
            self.viewer.followers.remove(self._turn_to_it)
            self.viewer.look_at(self.job.run)

    def wait(self, hear: Callable[[str], object] = str) -> Run:
        """Wait until the training that was started last is over; interrupting stops it, and it can be resumed.

        Args:
            hear: told the lines of the log.

        Raises:
            RunError: it did not finish; the sentence says why.
        """
        log = Tail(self.job.log)
        try:
            for _ in self.job.wait():
                # While the cell runs the page gets no answers, and would take the session for lost.
                self.viewer.session.send({"pong": 1})
                self.viewer.beat()
                for line in log.read():
                    hear(line)
        except KeyboardInterrupt:
            self.job.stop()
            where = self.viewer.folder.root / self.job.run
            raise KeyboardInterrupt(f"training stops; go on with it: sauron-train resume {where}") from None
        self.viewer.beat()
        for line in log.read():
            hear(line)
        return self.job.result(self.viewer.folder.root)


def train(
    recipe: str,
    data: Path | str,
    out: Path | str | None = None,
    set: Sequence[str] | Mapping[str, object] = (),  # noqa: A002 - as the command calls it
    wait: bool = False,
) -> TrainingView | Run:
    """Train a network in a process of its own.

    Args:
        recipe: name of a recipe, or path of a YAML file.
        data: the data set, a folder in the nnU-Net raw layout or as ACDC, KiTS19 and the Rats are handed out.
        out: run folder to make; None = a free name in the folder of runs.
        set: keys of the recipe to change, `["epochs=3"]` or `{"epochs": 3}`.
        wait: return when training is over, with the run; otherwise at once, with a view that follows it.

    Raises:
        ConfigError, DataError, RunError: something that cannot be used, or a training that was waited for and failed.
    """
    changes = [f"{key}={as_yaml(value)}" for key, value in set.items()] if isinstance(set, Mapping) else list(set)
    folder = find_root(data)
    view = TrainingView(Path(out).parent if out is not None else None, data=folder)
    name = Path(out).name if out is not None else view.panel.jobs.free_name(Path(recipe).stem)
    show(view.panel.asking, yes=False)
    view.start(recipe, folder, name, changes)
    if not wait:
        return view
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return view.wait(lambda line: sys.stdout.write(f"{line}\n"))
    display(view)  # type: ignore[no-untyped-call]
    return view.wait()


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

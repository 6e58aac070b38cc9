"""All runs of a folder: a table that is sorted, searched and ticked, and what each is worth for its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sauron_viz.figures import dice_against_flops
from sauron_viz.summaries import Summary
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.table import Column, DataTable
from sauron_viz.words import HEADER, STATUS

COLUMNS = (
    Column("label", "Run", hint="Path in the folder of runs"),
    Column("status", "Status", "status"),
    Column("dataset", "Data set", hint=HEADER["Data set"]),
    Column(
        "mode", "δ_opt", hint="How it was trained: normalisation of δ_opt (paper, Appendix A), and whether it pruned"
    ),
    Column("seed", "Seed", "count", hint="Of all random choices of the run"),
    Column("epochs", "Epochs", "count", hint=HEADER["Epoch"]),
    Column("dice", "Dice", "number", hint=HEADER["Dice"]),
    Column(
        "hd95", "HD95 (mm)", "number", digits=2, hint="95th percentile of the distance between surfaces, mean of labels"
    ),
    Column("parameters", "Parameters left", "percent", hint=HEADER["Parameters left"]),
    Column("flops", "FLOPs left", "percent", hint=HEADER["FLOPs left"]),
    Column("seconds", "Time", "duration", hint="Sum over the epochs, measuring and validation included"),
    Column("created", "Begun", "time", hint="UTC"),
)
_NOTE = "Click a run to look at it in all tabs; tick some to compare them: a copied link keeps them."
SCATTER_NOTE = (
    "Left is cheaper, higher is better. Square: baseline; dotted line: no other run is better for its cost. "
    "Scores on different data sets are not to be compared."
)


def overview_rows(summaries: Sequence[Summary], titles: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The rows of the table; `titles` call some runs otherwise than by their path."""
    return [_row(summary, (titles or {}).get(summary.name, summary.name)) for summary in summaries]


def overview_table(**kwargs: Any) -> DataTable:
    """The table, still empty; keywords as those of `DataTable`."""
    return DataTable(
        COLUMNS,
        title="Runs",
        unit="runs",
        empty="There are no runs in this folder yet.",
        sort=["created", "down"],
        searchable=True,
        **kwargs,
    )


class OverviewPanel(Panel):
    """Which runs there are, how they stand, and which to look at."""

    watches: ClassVar[tuple[str, ...]] = ("runs", "run", "listed", "picked")

    def build(self) -> None:
        """Make the table and the chart."""
        viewer = self.viewer
        viewer.follow_all(self, True)
        self.table = overview_table(
            on_open=viewer.guard(self._open), note=_NOTE, tickable="Compare", opens="Look at this run"
        )
        self.chart = PlotlyChart(library=viewer.plotly, title="Dice against cost")
        self.chart.note = f"{SCATTER_NOTE} Click a point to look at its run."
        self.chart.empty = "No run has been scored yet."
        self.table.observe(viewer.guard(lambda change: setattr(viewer.state, "picked", change.new)), "ticked")
        self.chart.observe(viewer.guard(lambda change: self._open(change.new.get("customdata"))), "clicked")
        self.children = (self.table, self.chart)

    def update(self) -> None:
        """List what is there now."""
        viewer, state = self.viewer, self.viewer.state
        found = viewer.list_runs()
        self.table.current = state.run
        self.table.source = viewer.folder.root.name
        self.table.fill(overview_rows(found, {summary.name: viewer.folder.title(summary.name) for summary in found}))
        self.table.ticked = [name for name in state.picked if name in state.runs]
        self.chart.draw(dice_against_flops(found, state.picked, state.run))

    def seen(self, yes: bool) -> None:
        """Follow the runs only while somebody looks."""
        self.viewer.follow_all(self, yes)
        super().seen(yes)

    def _open(self, name: object) -> None:
        if isinstance(name, str) and name in self.viewer.state.runs:
            self.viewer.state.run = name


def _row(run: Summary, label: str) -> dict[str, Any]:
    row = {
        "id": run.name,
        "label": label,
        "status": run.status,
        "status_word": STATUS.get(run.status, run.status),
        "note": run.problem or (f"Made from {run.derived_from}" if run.derived_from else ""),
    }
    values = {column.key: getattr(run, column.key) for column in COLUMNS if column.key not in row}
    return row | values | {"epochs_of": run.planned or None, "epochs": run.epochs if run.planned else None}

"""Do they differ? Curves of any set of runs, those of a kind taken together, and how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sauron_train.errors import SauronError
from sauron_viz.figures.compare import CURVES, comparison
from sauron_viz.groups import Group, Spread, are_comparable, averaged_over, baseline_of, group_runs, other_settings
from sauron_viz.runs import RunView
from sauron_viz.summaries import Summary
from sauron_viz.widgets.base import box
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Select, Slider
from sauron_viz.widgets.overview import overview_rows, overview_table
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.table import Column, DataTable
from sauron_viz.words import HEADER

_MOST = 24
_WINDOWS = [1, 3, 5, 7, 9, 11, 15, 21, 31, 51]
_BASELINE = "Dashed: the baseline, without δ_opt and without cuts; dotted: where it ended."
END_COLUMNS = (
    Column(
        "label",
        "Settings",
        hint="Normalisation of δ_opt (paper, Appendix A), whether filters were cut, and what tells it apart",
    ),
    Column("runs", "Runs", "count"),
    Column("dice", "Dice", "spread", HEADER["Dice"]),
    Column(
        "dice_change",
        "To the baseline",
        "signed",
        "Mean Dice minus that of the baseline with the same data, preprocessing and network",
    ),
    Column("hd95", "HD95 (mm)", "spread", "95th percentile of the distance between surfaces, mean of labels", 2),
    Column("parameters", "Parameters left", "percent", HEADER["Parameters left"]),
    Column("flops", "FLOPs left", "percent", HEADER["FLOPs left"]),
    Column(
        "differs", "Also differs in", "long", "Settings that are not the baseline's, beside δ_opt and cuts", 3, True
    ),
    Column("seconds", "Training", "duration", "Sum over the epochs, measuring and validation included"),
    Column("inference", "Seconds per case", "number", "As measured by sauron-train evaluate on its machine", 3, True),
    Column("faster", "Faster", "times", "Seconds per case of the baseline, divided by these", 3, True),
)


class ComparePanel(Panel):
    """Fig. S1 of the paper for the runs that are ticked, or for all of the open run's data set where none is."""

    watches: ClassVar[tuple[str, ...]] = ("runs", "run", "listed", "picked", "version", "epoch")

    def build(self) -> None:
        """Make the controls, the chart and the two tables."""
        viewer, guard = self.viewer, self.viewer.guard
        viewer.follow_all(self, True)
        self._views: dict[str, RunView] = {}
        self._drawn: tuple[object, ...] = ()
        self.curve = Select(label="Curve", options=[[curve.column, curve.name] for curve in CURVES], value="val_dice")
        self.window = Slider(
            label="Smoothing",
            hint="Mean of so many epochs around each",
            options=_WINDOWS,
            texts=["off", *(f"{window} epochs" for window in _WINDOWS[1:])],
            value=1,
        )
        self.window.layout.width = "300px"
        self.window.add_class("sauron-above")
        self.chart = PlotlyChart(library=viewer.plotly, empty="No run has been scored yet.")
        self.ends = DataTable(END_COLUMNS, title="How they ended", unit="settings", empty="No run is compared.")
        self.runs = overview_table(on_open=guard(self._open), tickable="Compare", opens="Look at this run")
        self.runs.title, self.runs.note = "Runs to compare", "Tick those that are to be compared."
        for key, control in (("curve", self.curve), ("smoothing", self.window)):
            viewer.remember(key, control)
            control.observe(guard(lambda _: self._draw()), "value")
        self.runs.observe(guard(lambda change: setattr(viewer.state, "picked", change.new)), "ticked")
        self.children = (box(self.curve, self.window, css="sauron-toolbar"), self.chart, self.ends, self.runs)

    def seen(self, yes: bool) -> None:
        """Follow the runs only while somebody looks."""
        self.viewer.follow_all(self, yes)
        super().seen(yes)

    def update(self) -> None:
        """Compare what is ticked now."""
        viewer, state = self.viewer, self.viewer.state
        found = viewer.list_runs()
        self.runs.current = state.run
        self.runs.source = self.ends.source = self.chart.source = viewer.folder.root.name
        self.runs.fill(overview_rows(found, {line.name: viewer.folder.title(line.name) for line in found}))
        self.runs.ticked = [name for name in state.picked if name in state.runs]
        self._compared, self._why = self._choose(found)
        self._draw()

    def _choose(self, found: Sequence[Summary]) -> tuple[list[Summary], str]:
        """What is compared, and in words why."""
        able = [line for line in found if line.epochs and not line.derived_from and line.status != "damaged"]
        ticked = [line for line in able if line.name in self.viewer.state.picked]
        if ticked:
            left_out = len(self.viewer.state.picked) - len(ticked)
            why = "they were not trained, have no epoch yet, or cannot be read"
            return ticked, f"{left_out} of the ticked runs cannot be compared: {why}." if left_out else ""
        view = self.viewer.view
        same = [line for line in able if view is None or line.dataset == view.info.dataset]
        newest = sorted(same, key=lambda line: line.created)[-_MOST:]
        told = f"the {_MOST} newest runs" if len(same) > _MOST else "all runs"
        where = f" on {view.info.dataset}" if view else ""
        return newest, f"No run is ticked, so {told}{where} are compared."

    def _draw(self) -> None:
        drawn = (tuple(self._compared), self._why, self.curve.value, self.window.value)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        groups = self._groups()
        curve = next(curve for curve in CURVES if curve.column == self.curve.value)
        self.chart.title = curve.name
        figure = comparison(groups, curve, self.window.value) if groups else None
        self.chart.draw(figure, " ".join(filter(None, (self._why, curves_note(groups)))))
        self.ends.note = ends_note(groups)
        self.ends.fill(end_rows(groups))

    def _groups(self) -> list[Group]:
        views, lines = [], []
        for line in self._compared:
            try:
                view = self._views.get(line.name) or self.viewer.folder.open(line.name)
                view.refresh()
                if view.replaced:
                    view = self.viewer.folder.open(line.name)
                # Reads both, so that what cannot be read is left out here.
                _ = view.config, view.epochs
            except SauronError:
                self._views.pop(line.name, None)
                continue
            self._views[line.name] = view
            views.append(view)
            lines.append(line)
        return group_runs(views, lines)

    def _open(self, name: str) -> None:
        if name in self.viewer.state.runs:
            self.viewer.state.run = name


def curves_note(groups: Sequence[Group]) -> str:
    """What the lines and bands of a comparison are."""
    over = averaged_over(groups)
    if not over:
        return f"Line: one run. {_BASELINE}"
    ways = " or ".join(way for way in over if way)
    told = [f"in their {ways} only"] if ways else []
    told += ["in nothing"] if "" in over else []
    return (
        f"Line: mean over runs that differ {', or '.join(told)}, as far as all of them have come. Band, or where there "
        f"are many the bar behind its end: from the lowest to the highest. {_BASELINE}"
    )


def ends_note(groups: Sequence[Group]) -> str:
    """What the numbers of `end_rows` are."""
    over = averaged_over(groups)
    if not over:
        return "After the last epoch."
    *most, last = [f"{way}s" if way else "repeated runs" for way in over]
    words = " and ".join(filter(None, (", ".join(most), last)))
    return f"Mean over {words} after the last epoch; in brackets from the lowest to the highest."


def end_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """How each group ended, against the baseline of its data set."""
    return [_row(group, groups) for group in groups]


def _row(group: Group, groups: Sequence[Group]) -> dict[str, Any]:
    base = baseline_of(group, groups)
    comparable = base is not None and base is not group and are_comparable(group, base)
    row: dict[str, Any] = {
        "id": group.label,
        "label": group.label,
        "runs": len(group.views),
        "shade": group.is_baseline,
    }
    for key in ("dice", "hd95"):
        row |= _spread(key, group.spread(lambda line, key=key: getattr(line, key)))  # type: ignore[misc]
    for key in ("parameters", "flops", "seconds", "inference"):
        row[key] = _mean(group, key)
    if base is not None and base is not group:
        row["differs"] = ", ".join(other_settings(group, base))
    if base is not None and comparable:
        ours, theirs = row["dice"], _mean(base, "dice")
        row["dice_change"] = ours - theirs if ours is not None and theirs is not None else None
        slow = _mean(base, "inference")
        row["faster"] = slow / row["inference"] if slow and row["inference"] else None
    return row


def _mean(group: Group, key: str) -> float | None:
    found = group.spread(lambda line: getattr(line, key))
    return found.mean if found else None


def _spread(key: str, found: Spread | None) -> dict[str, Any]:
    if found is None:
        return {key: None}
    several = found.runs > 1
    return {key: found.mean} | ({f"{key}_low": found.low, f"{key}_high": found.high} if several else {})

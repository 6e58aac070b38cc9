"""Where did filters go, what did it save, and did the Dice hold?"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from typing import Any

from sauron_train.runlog import Pruning
from sauron_viz.figures import cost_lines, dice_lines, filter_bars, loss_lines, share_map
from sauron_viz.runs import RunView, share_left
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import TAU

_ROWS = 150
_OFF = "Pruning is switched off in this run (prune.enabled is false), so every layer keeps all its filters."

_LOSS = (
    "Cross-entropy plus soft Dice, without the term for redundancy; "
    "training: summed over all heads; validation: full resolution."
)


class PruningPanel(Panel):
    """Cost, quality, filters per layer and the list of all cuts."""

    def build(self) -> None:
        """Make the five charts and the table."""
        guard, library = self.viewer.guard, self.viewer.plotly
        self.cost = PlotlyChart(library=library, title="What is left of the network")
        self.dice = PlotlyChart(library=library, title="Dice on the validation cases")
        self.loss = PlotlyChart(library=library, title="Loss")
        self.share = PlotlyChart(library=library, title="Filters left, layer by layer")
        self.bars = PlotlyChart(library=library, title="Filters per layer")
        self.cuts = text("", "sauron-card sauron-full")
        self.off = text(f'<p class="sauron-empty">{_OFF}</p>', "sauron-card")
        for chart in (self.share, self.bars):
            chart.observe(guard(self._layer_clicked), "clicked")
        for chart in (self.cost, self.dice, self.loss, self.share):
            chart.observe(guard(self._epoch_clicked), "clicked")
        self.filters = box(self.share, self.bars, css="sauron-columns", layout="grid")
        self.children = (
            self.off,
            box(self.cost, self.dice, css="sauron-columns", layout="grid"),
            self.filters,
            box(self.loss, css="sauron-stack"),
            self.cuts,
        )

    def update(self) -> None:
        """Draw what the tables say now."""
        view, state = self.viewer.view, self.viewer.state
        charts = (self.cost, self.dice, self.loss, self.share, self.bars)
        pruned = view is not None and view.pruned
        show(self.off, view is not None and not pruned)
        show(self.filters, pruned or view is None)
        show(self.cuts, pruned)
        if view is None or view.epochs.empty:
            for chart in charts:
                chart.empty = state.problem or "No epoch is complete yet; the first one appears here by itself."
                chart.draw(None)
            self.cuts.value = ""
            return
        epochs, layers = view.epochs, view.layers
        seen = view.seen_epoch(state.epoch)
        marked = None if view.derived else seen
        line = self.named_line(marked)
        self.cost.draw(cost_lines(epochs, view.info, marked), f"For one patch and one forward pass. {line}")
        self.dice.draw(dice_lines(epochs, marked), f"Circles: the score just before filters were cut. {line}")
        self.loss.draw(loss_lines(epochs, marked), f"{_LOSS} {line}")
        if pruned:
            share = share_map(share_left(layers, view.info.layers), marked)
            self.share.draw(share, f"Input at the top, output below. {line}")
            note = f"Coloured: after epoch {seen}. Grey: at the start."
            self.bars.draw(filter_bars(layers, view.info.layers, seen, state.layer), note)
            self.cuts.value = cuts_table(view.prunings, view.title, _why_no_cuts(view))

    def _epoch_clicked(self, change: Any) -> None:
        self.viewer.choose_epoch(change.new.get("x"))

    def _layer_clicked(self, change: Any) -> None:
        point = change.new
        if point.get("y") in {info.name for info in self.viewer.layers}:
            self.viewer.state.layer = point["y"]


def _why_no_cuts(view: RunView) -> str:
    if view.status != "running":
        return "No filter was cut in this run."
    if view.config.prune.converge_on == "always":
        return "No filter has been cut yet: thresholds rise every few epochs."
    return "No filter has been cut yet: the threshold of a layer rises once the losses have settled."


def cuts_table(cuts: Sequence[Pruning], run: str, none: str = "No filter has been cut yet.") -> str:
    """All cuts, the latest first, as HTML; long runs show the latest and offer the rest as CSV.

    `none` is said where there are none.
    """
    if not cuts:
        return f'<div class="sauron-top"><h2>Cuts</h2></div><p class="sauron-empty">{esc(none)}</p>'
    rows = "".join(_row(cut) for cut in reversed(cuts[-_ROWS:]))
    removed = sum(len(cut.removed) for cut in cuts)
    some = f" The latest {_ROWS} are listed." if len(cuts) > _ROWS else ""
    data = base64.b64encode(_csv(cuts).encode()).decode()
    return f"""<div class="sauron-top sauron-row"><div><h2>Cuts</h2>
<p class="sauron-note">{_count(len(cuts), "cut")} removed {_count(removed, "filter")}.{some}
In brackets: δ_prune, which was below τ, and the survivor that says most nearly the same.</p></div>
<a class="sauron-note" download="{esc(run)}-cuts.csv" href="data:text/csv;base64,{data}">All as CSV</a></div>
<div class="sauron-scroll" tabindex="0" role="region" aria-label="List of cuts"><table class="sauron-table"><thead><tr>
<th scope="col" class="num">Epoch</th><th scope="col">Layer</th><th scope="col" class="num">Filters</th>
<th scope="col" class="num" title="{esc(TAU)}">τ</th><th scope="col" class="rest">Removed (δ_prune, nearest)</th></tr>
</thead><tbody>{rows}</tbody></table></div>"""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _row(cut: Pruning) -> str:
    shown = ", ".join(f"{esc(gone.filter)} ({gone.delta_prune:.3f}, {esc(gone.nearest)})" for gone in cut.removed[:12])
    more = f" and {len(cut.removed) - 12} more" if len(cut.removed) > 12 else ""
    # Filters that were named to be cut went at no threshold.
    threshold = f"{cut.threshold:.3f}" if cut.threshold else "–"
    return (
        f'<tr><td class="num">{esc(cut.epoch)}</td><td>{esc(cut.layer)}</td>'
        f'<td class="num">{esc(cut.filters_before)} → {esc(cut.filters_after)}</td>'
        f'<td class="num">{threshold}</td><td class="rest">{shown}{more}</td></tr>'
    )


def _csv(cuts: Sequence[Pruning]) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["epoch", "layer", "threshold", "filter", "delta_prune", "reference", "nearest", "distance"])
    for cut in cuts:
        for gone in cut.removed:
            pi = "" if gone.reference is None else gone.reference
            values = [gone.filter, gone.delta_prune, pi, gone.nearest, gone.distance]
            table.writerow([cut.epoch, cut.layer, cut.threshold, *values])
    return file.getvalue()

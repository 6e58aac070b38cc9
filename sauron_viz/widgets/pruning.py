"""Where did filters go, what did it save, and did the Dice hold?"""

from __future__ import annotations

from typing import Any, ClassVar

from sauron_train.analysis.widths import told
from sauron_train.words import counted
from sauron_viz.figures import grid_of, layer_heat, measure, measures, progress_lines
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, show, text
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Select, Slider
from sauron_viz.widgets.cuts import cut_rows, cuts_csv, cuts_table
from sauron_viz.widgets.layer_card import LayerCard
from sauron_viz.widgets.network import Network, colour_network, show_network
from sauron_viz.widgets.panel import Panel

_OFF = "Pruning is switched off in this run (prune.enabled is false), so every layer keeps all its filters."
NETWORK_NOTE = (
    "Each bar is a layer, as long as it has filters; behind it what it began with. Dashed arrows: skip connections; "
    "green: heads of deep supervision."
)
PROGRESS_NOTE = (
    "FLOPs of one patch and one forward pass. Circles: the score just before filters were cut. Training loss sums over "
    "all heads, validation loss has the full resolution."
)
_MARKED = "Dotted: the epoch that is looked at; a click moves it."
SHARE_NOTE = "Input at the top, output below. Dots: filters were removed."
_NOT_YET = "No epoch is complete yet; the first one appears here by itself."


class PruningPanel(Panel):
    """The network as it shrinks, the chosen layer, what it costs and how good it is, and the list of all cuts."""

    watches: ClassVar[tuple[str, ...]] = ("version", "epoch", "layer", "colour", "image")

    def build(self) -> None:
        """Make the network with its controls, the charts and the table."""
        viewer, guard = self.viewer, self.viewer.guard
        self.network = Network(note=f"{NETWORK_NOTE} Choose a layer to look into it.")
        self.colour = Select(label="Colour", hint="What the bars are coloured by")
        self.epoch = Slider(label="Epoch", playable=True)
        self.epoch.add_class("sauron-wide")
        self.layer = LayerCard(viewer)
        self.progress = PlotlyChart(library=viewer.plotly, title="Cost and quality, epoch by epoch")
        self.share = PlotlyChart(library=viewer.plotly, title="Filters left, layer by layer", note=SHARE_NOTE)
        self.cuts = cuts_table(on_open=guard(self._look_at_cut))
        self.off = text(f'<p class="sauron-empty">{_OFF}</p>', "sauron-card")
        self._drawn: tuple[object, ...] = ()
        self._coloured: tuple[object, ...] = ()
        for chart in (self.progress, self.share, self.layer.decisions):
            chart.observe(guard(self._clicked), "clicked")
            viewer.follow_epoch(self.epoch, chart, "mark")
        viewer.follow_epoch(self.epoch, self.network, "epoch")
        self.epoch.observe(guard(lambda change: setattr(viewer.state, "epoch", change.new)), "value")
        self.colour.observe(guard(lambda change: setattr(viewer.state, "colour", change.new)), "value")
        self.network.observe(guard(lambda change: setattr(viewer.state, "layer", change.new)), "layer")
        controls = box(self.colour, self.epoch, css="sauron-row")
        self.network_card = box(controls, self.network, css="sauron-card sauron-stack")
        for card in (self.layer.widget, self.layer.decisions):
            card.add_class("sauron-beside")
        side = box(self.layer.widget, self.layer.decisions, css="sauron-side")
        figure = box(
            box(self.network_card, self.progress, css="sauron-stack"), side, css="sauron-maps sauron-shrinking"
        )
        self.children = (self.off, figure, self.share, self.cuts)

    def update(self) -> None:
        """Follow the state; what has not changed is not drawn again."""
        view = self.viewer.view
        pruned = view is not None and view.pruned
        show(self.off, view is not None and not pruned)
        show(self.cuts, pruned)
        for widget in (self.layer.decisions, self.share):
            show(widget, pruned or view is None)
        if view is None or view.epochs.empty:
            self._blank()
            return
        show(self.network_card, True)
        show(self.layer.widget, True)
        drawn = (view.name, view.created, self.viewer.state.version)
        new = drawn != self._drawn
        if new:
            self._drawn, self._coloured = drawn, ()
            self._draw(view)
        self._turn(view)
        self.layer.update(view)
        if new:
            # Last, because it lies below what is seen first.
            self._draw_cuts(view)

    def _blank(self) -> None:
        self._drawn = self._coloured = ()
        for chart in (self.progress, self.share, self.layer.decisions):
            chart.empty = self.viewer.state.problem or _NOT_YET
            chart.draw(None)
        show(self.network_card, False)
        show(self.layer.widget, False)
        self.cuts.fill([])

    def _draw(self, view: RunView) -> None:
        self.progress.source = self.share.source = self.cuts.source = self.network.source = view.title
        note = PROGRESS_NOTE if view.derived else f"{PROGRESS_NOTE} {_MARKED}"
        self.progress.draw(progress_lines(view.epochs, view.info), note)
        show_network(self.network, view)
        with self.epoch.hold_sync():
            self.epoch.options = view.all_epochs
        with self.colour.hold_sync():
            found = measures(view.layers)
            self.colour.options = [[known.column, known.name] for known in found if known.column != "filters"]

    def _draw_cuts(self, view: RunView) -> None:
        if view.pruned:
            infos = view.info.layers
            removed = grid_of(view.layers, infos, measure("removed"))
            self.share.draw(
                layer_heat(
                    grid_of(view.layers, infos, measure("filters_share")), measure("filters_share"), removed=removed
                ),
                share_note(view),
            )
            self.cuts.empty = _why_no_cuts(view)
            self.cuts.fill(cut_rows(view.prunings, view.epochs))
            self.cuts.export = cuts_csv(view.prunings, view.epochs)
            self.cuts.note = f"{told_cuts(view)} Click one to look at its layer and epoch."

    def _turn(self, view: RunView) -> None:
        """To the chosen epoch, layer and colour."""
        state = self.viewer.state
        self.epoch.value = state.epoch
        self.network.epoch, self.network.layer = state.epoch, state.layer
        self.progress.mark = self.share.mark = 0 if view.derived else state.epoch
        columns = [option[0] for option in self.colour.options]
        usual = "filters_share" if view.pruned else "delta_opt"
        chosen = state.colour if state.colour in columns else usual
        if (chosen,) == self._coloured:
            return
        self._coloured = (chosen,)
        self.colour.value = chosen
        colour_network(self.network, view, measure(chosen))

    def _clicked(self, change: Any) -> None:
        point = change.new
        self.viewer.choose_epoch(point.get("x"))
        if point.get("y") in {info.name for info in self.viewer.layers}:
            self.viewer.state.layer = point["y"]

    def _look_at_cut(self, place: str) -> None:
        view = self.viewer.view
        if view is not None:
            cut = view.prunings[int(place)]
            self.viewer.state.layer = cut.layer
            self.viewer.choose_epoch(cut.epoch)


def share_note(view: RunView) -> str:
    """What stands below the filters of each layer."""
    multiple = view.config.prune.width_multiple
    return SHARE_NOTE if multiple == 1 else f"{SHARE_NOTE} In this run layers are only cut to {told(multiple)} filters."


def told_cuts(view: RunView) -> str:
    """How much was cut, in a sentence."""
    cuts = view.prunings
    removed = sum(len(cut.removed) for cut in cuts)
    gone = f"{counted(len(cuts), 'cut')} removed {counted(removed, 'filter')}. " if cuts else ""
    return f"{gone}Dice is that of all cuts of an epoch together. The CSV has a line for each filter."


def _why_no_cuts(view: RunView) -> str:
    if view.status != "running":
        return "No filter was cut in this run."
    if view.config.prune.converge_on == "always":
        return "No filter has been cut yet: thresholds rise every few epochs."
    return "No filter has been cut yet: the threshold of a layer rises once the losses have settled."

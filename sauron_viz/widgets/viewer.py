"""What all panels of one dashboard share: the folder of runs, the chosen run, epoch, layer and filter, and the beat."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from ipywidgets import Widget, jsdlink
from traitlets import Dict, HasTraits, Int, List, Unicode

from sauron_train.errors import RunError, SauronError
from sauron_train.runlog import LayerInfo
from sauron_viz.runs import Library, RunView, default_layer
from sauron_viz.summaries import Summary
from sauron_viz.visit import wait_for_visitor
from sauron_viz.widgets.base import Notice
from sauron_viz.widgets.chart import PlotlyLib
from sauron_viz.widgets.controls import Choice, Select, Session, Slider, Tabs

LOOK_FOR_RUNS_EVERY = 5
# Panels look whether they know them.
_TAKEN_AS_THEY_ARE = ("tab", "measure", "form", "colour")
# Each is a control of a panel, which `Viewer.remember` joins with the address.
SETTINGS = ("card", "order", "scale", "removed", "axis", "slice", "curve", "smoothing")
_SHARED = ("run", "epoch", "layer", "filter", "image", "picked", "settings", *_TAKEN_AS_THEY_ARE)
# What is not saved lies in the temporary folder, which may be memory.
MOST_GUESTS = 8


class State(HasTraits):
    """What is looked at. Panels watch it and write to it; nothing else links them.

    `epoch` is any that is complete; who shows maps takes the nearest at which there are some. `filter` is an original
    number, -1 for none. `version` grows when the run's files do, `listed` when what the list of runs says does.
    `picked` are the runs that are ticked. `measure` is the column of layers.csv that trends are drawn of, `form` how,
    `colour` the one that the network is coloured by. `problem` is why there is nothing to look at. `settings` are
    those of single panels that the address keeps, where they are not what they begin with.
    """

    runs = List(Unicode())
    run = Unicode()
    epoch = Int(0)
    layer = Unicode()
    filter = Int(-1)
    image = Int(0)
    version = Int(0)
    listed = Int(0)
    picked = List(Unicode())
    tab = Unicode()
    measure = Unicode()
    form = Unicode()
    colour = Unicode()
    problem = Unicode()
    settings = Dict(value_trait=Unicode(), key_trait=Unicode())


class Viewer:
    """Opens runs, keeps the state within what the open run has, and follows a run that is being written."""

    def __init__(self, root: Path | str | None = None, query: str | None = None) -> None:
        asked = parse_qs(wait_for_visitor() if query is None else query)
        wanted = {key: values[-1] for key, values in asked.items()}
        self.folder = Library(root)
        self.state = State()
        self.notice = Notice()
        self.session = Session(self.guard(self.beat))
        self.session.add_class("sauron-session")
        self.view: RunView | None = None
        self.asked_for_run = "run" in asked
        self.followers: list[Callable[[], None]] = []
        self._listing: set[object] = set()
        self.tabs: tuple[str, ...] = ()
        self._lines: list[Summary] = []
        self._beats = 0
        self._no_root = False
        self._library: PlotlyLib | None = None
        for trait in _TAKEN_AS_THEY_ARE:
            setattr(self.state, trait, wanted.get(trait, ""))
        # Those of panels that are not built yet stay as the link said them.
        self.state.settings = {key: wanted[key] for key in SETTINGS if key in wanted}
        self.guard(self._find_runs)()
        self.state.picked = [name for name in dict.fromkeys(asked.get("with", [])) if name in self.state.runs]
        self.state.observe(self.guard(lambda change: self.open(change.new)), "run")
        self.state.observe(lambda _: self._share(), list(_SHARED))
        self.guard(self._start)(wanted)

    @property
    def plotly(self) -> PlotlyLib:
        """The chart library, made when the first chart is."""
        self._library = self._library or PlotlyLib()
        return self._library

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        """Layers of the open run, in the order of the network; empty where none is open."""
        return self.view.info.layers if self.view else ()

    def guard(self, function: Callable[..., Any]) -> Callable[..., None]:
        """See `Notice.guard`."""
        return self.notice.guard(function)

    def open(self, name: str) -> None:
        """Look at another run. What cannot be read becomes `state.problem`, in words."""
        state = self.state
        try:
            view = self.folder.open(name) if name else None
            # Both files of its record are read, so that a run is shown whole or not at all.
            layers = view.info.layers if view and view.config else ()
            epochs = _epochs(view)
        except SauronError as error:
            view, layers, epochs, state.problem = None, (), [0], str(error)
        else:
            state.problem = "" if view else self._no_runs()
        self.view = view
        names = {layer.name for layer in layers}
        with state.hold_trait_notifications():
            state.run = name
            state.layer = state.layer if state.layer in names else default_layer(layers)
            state.epoch = epochs[-1]
            state.image = 0
            state.filter = -1
            state.version += 1

    def beat(self) -> None:
        """Look whether anything has grown: once a second, file times only."""
        self._beats += 1
        if self._beats % LOOK_FOR_RUNS_EVERY == 0:
            self._find_runs()
        for follow in list(self.followers):
            follow()
        if self._listing:
            before = self._lines
            if self.list_runs() != before:
                self.state.listed += 1
        if self.view is None:
            if self.state.run and not self._no_root:
                self.open(self.state.run)
            return
        newest = _epochs(self.view)[-1]
        if not self.view.refresh():
            return
        if self.view.replaced:
            self.open(self.state.run)
            return
        # A reader who looks at the newest epoch goes on seeing the newest; one who has gone back is left there.
        epochs = _epochs(self.view)
        with self.state.hold_trait_notifications():
            if self.state.epoch == newest or self.state.epoch not in epochs:
                self.state.epoch = epochs[-1]
            self.state.version += 1

    def follow_all(self, panel: object, yes: bool) -> None:
        """Look at the files of all runs at every beat, as long as a panel that lists them is seen."""
        (self._listing.add if yes else self._listing.discard)(panel)

    def look_at(self, name: str) -> None:
        """Open a run that may have come since runs were looked for, and turn to its maps."""
        self._find_runs()
        self.state.run = name
        if self.state.tab == "training":
            self.state.tab = "maps"

    def list_runs(self) -> list[Summary]:
        """One line for each run, as they stand now."""
        self._lines = self.folder.overview() if not self._no_root else []
        return self._lines

    def choose_epoch(self, wanted: object) -> None:
        """Look at the epoch nearest to a place on an axis of epochs; what is no number is ignored."""
        if isinstance(wanted, (int, float)) and math.isfinite(wanted):
            self.state.epoch = min(_epochs(self.view), key=lambda epoch: abs(epoch - wanted))

    def welcome(self, made: Path, name: str, origin: str, discard: Callable[[], None]) -> RunView:
        """Offer a run that was made here beside the others, until it is saved or thrown away."""
        view = self.folder.welcome(made, name, origin, discard)
        idle = [guest for guest in self.folder.guests if guest not in (view.name, self.state.run)]
        for guest in idle[: max(0, len(self.folder.guests) - MOST_GUESTS)]:
            self.folder.dismiss(guest)
        self._find_runs()
        return view

    def dismiss(self, name: str) -> None:
        """Throw away a run that was made here, and go back to where it came from if it is looked at."""
        if self.state.run == name:
            # First: whoever is told that the run is gone must not be looking at it.
            back = self.folder.trained(name)
            self.state.run = back if self.folder.has(back) else self.folder.first()
        self.folder.dismiss(name)
        self._find_runs()

    def save(self, name: str, wanted: str) -> Path:
        """Save a run that was made here under a name of its own, and go on looking at it there.

        Raises:
            RunError: see `Library.keep`.
        """
        target = self.folder.keep(self.folder.open(name).run, wanted)
        self._find_runs()
        if self.state.run == name:
            # A root that is a run itself shows no other.
            self.state.run = wanted if wanted in self.state.runs else self.folder.first()
        self.folder.dismiss(name)
        self._find_runs()
        return target

    @property
    def newest(self) -> int:
        """The last epoch that is complete; 0 before the first."""
        return _epochs(self.view)[-1]

    def follow_epoch(self, slider: Slider, widget: Widget, trait: str) -> None:
        """Let a slider move a widget in the browser: what comes late from the kernel would pull a dragged one back."""
        jsdlink((slider, "value"), (widget, trait))

    def remember(self, key: str, control: Select | Choice | Tabs | Slider) -> None:
        """Keep what a control says in the page's address, and let it begin with what the address says.

        Args:
            key: one of `SETTINGS`.
            control: its options and the value it has otherwise are set already.
        """
        begins = str(control.value)
        self.recall(key, control)
        self.settle(key, str(control.value), begins)
        control.observe(self.guard(lambda change: self.settle(key, str(change.new), begins)), "value")

    def recall(self, key: str, control: Select | Choice | Tabs | Slider) -> None:
        """Set a control to what the address says; what is not one of its options leaves the address."""
        asked = self.state.settings.get(key)
        keys = [option[0] if isinstance(option, list) else option for option in control.options]
        found = [value for value in keys if str(value) == asked]
        if found:
            control.value = found[0]
        else:
            self.settle(key, "", "")

    def settle(self, key: str, value: str, begins: str) -> None:
        """Keep a setting in the page's address; one that is what it begins with needs no place there."""
        others = {name: kept for name, kept in self.state.settings.items() if name != key}
        self.state.settings = others if value == begins else others | {key: value}

    def turn_to(self, tab: str) -> None:
        """Go to a tab, where there are tabs."""
        if tab in self.tabs:
            self.state.tab = tab

    def choose_filter(self, number: int) -> None:
        """Look at a filter of the chosen layer."""
        self.state.filter = number

    def _find_runs(self) -> None:
        try:
            self.state.runs = self.folder.names()
        except RunError as error:
            self.state.runs, self.state.problem, self._no_root = [], str(error), True
            return
        if self._no_root:
            self.state.problem, self._no_root = "", False
        if not self.state.run and self.state.runs and self._beats:
            self.state.run = self.folder.first()
        elif not self.state.runs and not self.state.problem:
            self.state.problem = self._no_runs()

    def _no_runs(self) -> str:
        return f"There are no runs in {self.folder.root} yet."

    def _start(self, wanted: dict[str, str]) -> None:
        runs = self.state.runs
        self.state.run = wanted["run"] if wanted.get("run") in runs else self.folder.first()
        if self.view is None:
            return
        if wanted.get("layer") in {layer.name for layer in self.layers}:
            self.state.layer = wanted["layer"]
        if wanted.get("epoch", "").isdecimal() and int(wanted["epoch"]) in _epochs(self.view):
            self.state.epoch = int(wanted["epoch"])
        if wanted.get("image", "").isdecimal() and int(wanted["image"]) < len(self.view.info.probe_images):
            self.state.image = int(wanted["image"])
        if wanted.get("filter", "").isdecimal():
            self.state.filter = int(wanted["filter"])

    def _share(self) -> None:
        state = self.state
        # What was made here is not there for who opens the link.
        run = self.folder.trained(state.run)
        # Who reloads the page of a run that grows shall see it grow, not the epoch that was the newest then.
        follows = self.view is not None and self.view.status == "running" and state.epoch == self.newest
        epoch = "" if follows else state.epoch
        pairs = {"run": run, "tab": state.tab, "layer": state.layer, "epoch": epoch, "filter": state.filter}
        pairs |= {"image": state.image or "", "measure": state.measure, "form": state.form, "colour": state.colour}
        pairs |= {key: state.settings[key] for key in SETTINGS if key in state.settings}
        named = [(key, value) for key, value in pairs.items() if value not in ("", -1)]
        others = [("with", name) for name in state.picked if name not in self.folder.guests]
        self.session.query = urlencode([*named, *others])


def _epochs(view: RunView | None) -> list[int]:
    """The epochs that can be looked at, never none."""
    return (view.all_epochs if view else []) or [0]

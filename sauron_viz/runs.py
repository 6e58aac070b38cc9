"""Finds runs under one folder and reads them lazily: nothing outside that folder, nothing twice, nothing too much."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from sauron_train.analysis.clusterability import neighbours_within
from sauron_train.analysis.tables import histograms, with_share
from sauron_train.config import Config
from sauron_train.errors import RunError, SauronError
from sauron_train.runlog import LayerInfo, Probe, Pruning, Run, RunInfo, files, find_runs
from sauron_train.runlog.growing import GrowingPrunings, GrowingTable
from sauron_train.runlog.schema import Array, safe_file_name
from sauron_viz.cache import ByteCache
from sauron_viz.frames import Frame
from sauron_viz.shelf import Shelf
from sauron_viz.summaries import Summaries, Summary, summarise

ENVIRONMENT = "SAURON_RUNS"
# Notebooks run in their own folder as often as in the one above it; the demo stands in until there are runs.
USUAL_FOLDERS = ("runs", "../runs", "demo/runs", "../demo/runs")

_LONGEST_NAME = 100

T = TypeVar("T")


def default_root() -> Path:
    """The folder of runs when none is named: `$SAURON_RUNS`, else the first of the usual folders that is there."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    usual = [Path(folder) for folder in USUAL_FOLDERS]
    return next((folder for folder in usual if folder.is_dir()), usual[0])


def find_root(root: Path | str | None = None) -> Path:
    """The absolute path of a folder of runs; a relative one that is not here is also looked for one folder up."""
    asked = (Path(root) if root is not None else default_root()).expanduser()
    above = Path("..") / asked
    found = above if not asked.is_dir() and above.is_dir() else asked
    return found.resolve()


@dataclass(frozen=True)
class Guest:
    """A run that a view made, and that lies elsewhere until it is saved.

    `origin` names the run that it was made from, which may be a guest too; `discard` removes its files.
    """

    view: RunView
    origin: str
    discard: Callable[[], None]


class Library:
    """The runs under one root folder, by their path relative to it, and guests."""

    def __init__(self, root: Path | str | None = None, cache: ByteCache | None = None) -> None:
        # Absolute, so that a message says where was looked.
        self.root = find_root(root)
        self.cache = cache or ByteCache()
        self.summaries = Summaries(self.root)
        self.guests: dict[str, Guest] = {}

    def names(self) -> list[str]:
        """Relative paths of all runs, "." where the root is a run itself; then the guests.

        Raises:
            RunError: the root is no folder.
        """
        return [*self._found(), *self.guests]

    def open(self, name: str) -> RunView:
        """Open a run by its relative path, or a guest by its name.

        Raises:
            RunError: no run there, or a path that leaves the root.
        """
        if name in self.guests:
            return self.guests[name].view
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise RunError(f"{name!r} lies outside {self.root}; only runs inside it are shown")
        return RunView(Run(path), name, self)

    def welcome(self, path: Path, name: str, origin: str, discard: Callable[[], None]) -> RunView:
        """Show a run that a view made beside the others, under a name that no other has."""
        others = {*self._found(), *self.guests}
        numbered = (f"{name} ({i})" for i in itertools.count(2))
        free = next(n for n in itertools.chain([name], numbered) if n not in others)
        view = RunView(Run(path), free, self, title=free)
        self.guests[free] = Guest(view, origin, discard)
        return view

    def trained(self, name: str) -> str:
        """The run of the folder that a guest comes from in the end; any other run is its own."""
        while name in self.guests:
            name = self.guests[name].origin
        return name

    def parent(self, view: RunView) -> RunView | None:
        """See `RunView.parent`."""
        derived, guest = view.info.derived_from, self.guests.get(view.name)
        if derived is None:
            return None
        named = [n for n in self._found() if (self.root / n).name == derived.run] if guest is None else [guest.origin]
        for name in named:
            try:
                found = self.open(name)
                if name != view.name and found.probe().names == view.probe().names:
                    return found
            except SauronError:
                continue
        return None

    def has(self, name: str) -> bool:
        """Whether there is such a run now."""
        return name in self.guests or (self.root / name / "run.json").is_file()

    def title(self, name: str) -> str:
        """What a run is called: a root that is a run itself has a name of its own."""
        return self.root.name if name == "." else name

    def dismiss(self, name: str) -> None:
        """Throw a guest away; of one that is gone already nothing is said."""
        guest = self.guests.pop(name, None)
        if guest is not None:
            guest.discard()

    def keep(self, run: Run, name: str) -> Path:
        """Copy a run into this folder, whole or not at all; beside the run where the folder is one itself.

        Raises:
            RunError: a name that is none, one that is taken, or a folder that cannot be written.
        """
        root = self.root.parent if (self.root / "run.json").is_file() else self.root
        if not name:
            raise RunError("give the run a name first")
        if len(name) > _LONGEST_NAME:
            raise RunError(f"a name may have at most {_LONGEST_NAME} characters")
        target = root / safe_file_name(name)
        if target.exists():
            raise RunError(f"{name} exists already in {root}; choose another name")
        try:
            with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}.") as place:
                copy = Path(shutil.copytree(run.path, Path(place) / "run"))
                copy.rename(target)
        except OSError as error:
            raise RunError(f"the run cannot be saved in {root}: {error.strerror or error}") from None
        return target

    def first(self) -> str:
        """The run to look at when none is named; "" where there is none.

        One that has epochs to show, among those one that is training, among those the newest.
        """
        return max(self._found(), key=self._worth, default="")

    def _found(self) -> list[str]:
        return [run.path.relative_to(self.root).as_posix() for run in find_runs(self.root)]

    def _worth(self, name: str) -> tuple[bool, bool, str, str]:
        summary = self.summaries.of(name)
        return summary.epochs > 0, summary.status == "running", summary.created, name

    def status(self, name: str) -> str:
        """How a run stands, in one word; "damaged" where its record cannot be read."""
        return self.guests[name].view.status if name in self.guests else self.summaries.of(name).status

    def overview(self) -> list[Summary]:
        """One line per run, in the order of `names`.

        Raises:
            RunError: the root is no folder.
        """
        guests = [summarise(guest.view.run, name) for name, guest in self.guests.items()]
        return [*self.summaries.all(self._found()), *guests]


class RunView:
    """One run as it was at the last `refresh`; arrays are read when asked for and kept in the shared cache."""

    def __init__(self, run: Run, name: str, library: Library, title: str = "") -> None:
        self.run = run
        self.name = name
        self._library = library
        self._title = title
        self._cache = library.cache
        self.created = self._created()
        self._tables: dict[str, Any] = {}
        self._grown_epochs = GrowingTable(run.path / files.EPOCHS)
        self._grown_layers = GrowingTable(run.path / files.LAYERS)
        self._grown_prunings = GrowingPrunings(run.path / files.PRUNINGS)
        self._signature = self._look()
        self.shelf = Shelf(self)

    @property
    def title(self) -> str:
        """The run's own folder name; a guest's name."""
        return self._title or self.run.path.resolve().name

    def refresh(self) -> bool:
        """Whether the run has changed since the last time; looks at file times only, so it may be asked often."""
        now = self._look()
        if now == self._signature:
            return False
        self._signature, self._tables = now, {}
        return True

    @property
    def replaced(self) -> bool:
        """Whether the folder holds another run by now, or none; this view is of no use then."""
        return self._created() != self.created

    @property
    def info(self) -> RunInfo:
        """`run.json`."""
        return self._table("info", lambda: self.run.info)

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._table("config", lambda: self.run.config)

    @property
    def status(self) -> str:
        """How the run stands, in one word."""
        return self._table("status", lambda: self.run.status)

    @property
    def epochs(self) -> pd.DataFrame:
        """`epochs.csv`."""
        return self._table("epochs", self._grown_epochs.read)

    @property
    def layers(self) -> pd.DataFrame:
        """`layers.csv`, with filters as a share of those at the start, and neighbours of the other maps."""
        return self._table("layers", self._read_layers)

    def _read_layers(self) -> pd.DataFrame:
        grown = self._grown_layers.read()
        table = _with_share(grown[grown["epoch"] <= self._last].reset_index(drop=True))
        start = {layer.name: layer.filters for layer in self.info.layers}
        return table.assign(filters_share=table["filters"] / table["layer"].map(start))

    @property
    def has_distances(self) -> bool:
        """Whether it is stored how the maps lie to each other, so that neighbours within any radius are known."""
        return bool(self._table("distance_epochs", self.run.distance_epochs))

    def layers_within(self, radius: float) -> pd.DataFrame:
        """`layers.csv` with the neighbours within a radius, at every epoch at once."""
        epochs = self._table("distance_epochs", self.run.distance_epochs)
        parts = [self._histograms(epoch) for epoch in epochs]
        if not parts:
            return self.layers
        table = pd.concat([part[0] for part in parts], ignore_index=True)
        values = neighbours_within(np.concatenate([part[1] for part in parts]), table["filters"].to_numpy(), radius)
        found = table[["epoch", "layer"]].assign(neighbours=values)
        logged = self.layers.drop(columns="neighbours", errors="ignore")
        return _with_share(logged.merge(found, on=["epoch", "layer"], how="left"))

    def _histograms(self, epoch: int) -> tuple[pd.DataFrame, Array]:
        return self.kept(("histograms", epoch), lambda: histograms(self.run, [epoch]), lambda h: int(h[1].nbytes))

    @property
    def prunings(self) -> list[Pruning]:
        """All cuts."""
        return self._table("prunings", self._read_prunings)

    def _read_prunings(self) -> list[Pruning]:
        last = self._last
        return [cut for cut in self._grown_prunings.read() if cut.epoch <= last]

    @property
    def map_epochs(self) -> list[int]:
        """Epochs whose maps are stored."""
        return self._table("map_epochs", self.run.map_epochs)

    @property
    def _last(self) -> int:
        """The last epoch that is complete; what lies beyond it is still being written."""
        return self.all_epochs[-1] if len(self.epochs) else 0

    @property
    def all_epochs(self) -> list[int]:
        """Every epoch that is complete."""
        return self._table("all_epochs", lambda: [int(epoch) for epoch in self.epochs["epoch"]])

    def stored_epoch(self, epoch: int) -> int:
        """The epoch nearest to another whose maps are stored, the earlier of two; 0 where none are."""
        return min(self.map_epochs, key=lambda stored: abs(stored - epoch), default=0)

    @property
    def derived(self) -> bool:
        """Whether it was made from another run's network and not trained, so that it has one epoch."""
        made_from = self.info.derived_from
        return made_from is not None and not made_from.trained

    @cached_property
    def parent(self) -> RunView | None:
        """The run that it was made from and shares its probe images with, where that is still there."""
        return self._library.parent(self)

    @property
    def pruned(self) -> bool:
        """Whether filters may be cut in this run."""
        return self.config.prune.enabled

    def probe(self) -> Probe:
        """The probe images."""
        return self.kept(("probe",), self.run.probe, lambda p: int(p.images.nbytes + p.labels.nbytes))

    def prediction(self, epoch: int) -> Array:
        """Label maps (P, *spatial) of an epoch."""
        return self.kept(("prediction", epoch), lambda: self.run.prediction(epoch), lambda a: int(a.nbytes))

    def map_shape(self, epoch: int, layer: str) -> tuple[int, ...]:
        """Spatial shape of the stored maps."""
        return self.run.maps(epoch, layer).shape[2:]

    def frame(self, epoch: int, layer: str, image: int, axis: int = 0, position: int | None = None) -> Frame:
        """What the grid draws; see `Shelf.frame`."""
        return self.shelf.frame(epoch, layer, image, axis, position)

    def kept(self, key: tuple[Hashable, ...], make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What was made of this run before, as long as it is in the cache that all views share."""
        # A run may be trained again under the same name: its arrays are not those of the first.
        return self._cache.get((str(self.run.path), self.created, *key), make, size)

    def _table(self, key: str, make: Callable[[], T]) -> T:
        if key not in self._tables:
            self._tables[key] = make()
        value: T = self._tables[key]
        return value

    def _created(self) -> str:
        try:
            info = self.run.info
        except SauronError:
            return ""
        # Maps that were measured again are others than those that were kept.
        return f"{info.created} {info.analysed}" if info.analysed else str(info.created)

    def _look(self) -> tuple[Any, ...]:
        stats = []
        for name in ("run.json", "epochs.csv", "layers.csv"):
            try:
                stat = os.stat(self.run.path / name)
                stats.append((stat.st_mtime_ns, stat.st_size))
            except OSError:
                stats.append((0, 0))
        try:
            status: str = self.run.status
        except SauronError:
            status = "damaged"
        return (*stats, status)


def _with_share(table: pd.DataFrame) -> pd.DataFrame:
    return with_share(table) if "neighbours" in table else table


def default_layer(layers: tuple[LayerInfo, ...]) -> str:
    """The second-to-last convolution of the decoder: full resolution, and its maps still say different things."""
    names = [layer.name for layer in layers if layer.part == "decoder" and layer.kind == "conv"]
    names = names or [layer.name for layer in layers]
    return names[-2] if len(names) > 1 else (names[0] if names else "")

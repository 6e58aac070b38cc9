"""What a list of runs says of each run: one line, read once and again only when the run's files have changed."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sauron_train.errors import SauronError
from sauron_train.runlog import Run, RunInfo
from sauron_train.runlog.files import EPOCHS, EVALUATION, INFO
from sauron_train.runlog.reader import whole_lines

_FILES = (INFO, EPOCHS, EVALUATION)


@dataclass(frozen=True)
class Summary:
    """One run in a line, as it stands after its last epoch; what was not measured is None.

    `filters`, `parameters` and `flops` are shares of the unpruned network in [0, 1], `hd95` the mean over labels in mm,
    `seconds` the sum over epochs, `inference` the seconds that `evaluate` took per case. `problem` says why a damaged
    run has no more than a name.
    """

    name: str
    status: str
    problem: str = ""
    dataset: str = ""
    mode: str = ""
    seed: int | None = None
    created: str = ""
    derived_from: str = ""
    epochs: int = 0
    planned: int = 0
    dice: float | None = None
    hd95: float | None = None
    filters: float | None = None
    parameters: float | None = None
    flops: float | None = None
    seconds: float | None = None
    inference: float | None = None


def summarise(run: Run, name: str) -> Summary:
    """The line of one run; one that cannot be read is "damaged"."""
    try:
        info, status = run.info, run.status
        rows = _rows(run.path / EPOCHS)
        measured = run.evaluation() or {}
        last = _last(rows, info) if len(rows) > 1 else {}
    except (SauronError, ValueError, IndexError, csv.Error) as error:
        return Summary(name, "damaged", str(error))
    derived = info.derived_from
    return Summary(
        name=name,
        status=status,
        dataset=info.dataset,
        mode=info.mode,
        seed=info.seed,
        created=info.created,
        derived_from=f"{derived.run}, epoch {derived.epoch}" if derived and not derived.trained else "",
        planned=info.epochs_planned,
        inference=_number(measured.get("seconds_per_case")),
        **last,
    )


class Summaries:
    """The lines of many runs; asking again costs no more than a look at file times."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[tuple[object, ...], Summary]] = {}

    def of(self, name: str) -> Summary:
        """The line of the run at this path relative to the root."""
        path = self._root / name
        stamp = tuple(_stamp(path / file) for file in _FILES)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            self._known[name] = known = (stamp, self._read(path, name))
        summary = known[1]
        # Whether its process lives is written nowhere.
        return replace(summary, status=self._status(path)) if summary.status in ("running", "lost") else summary

    def all(self, names: Sequence[str]) -> list[Summary]:
        """The lines of these runs, in this order; those of others are forgotten."""
        found = [self.of(name) for name in names]
        self._known = {name: self._known[name] for name in names}
        return found

    def _read(self, path: Path, name: str) -> Summary:
        try:
            return summarise(Run(path), name)
        except SauronError as error:
            return Summary(name, "damaged", str(error))

    def _status(self, path: Path) -> str:
        try:
            return Run(path).status
        except SauronError:
            return "damaged"


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0, 0
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _rows(path: Path) -> list[list[str]]:
    return [row for row in csv.reader(whole_lines(path).decode().splitlines()) if row]


def _last(rows: list[list[str]], info: RunInfo) -> dict[str, Any]:
    place = {column: i for i, column in enumerate(rows[0])}
    last = rows[-1]
    distances = [_number(last[i]) for column, i in place.items() if column.startswith("hd95_")]
    known = [distance for distance in distances if distance is not None]
    seconds = [_number(row[place["seconds"]]) for row in rows[1:]] if "seconds" in place else []

    def share(column: str, whole: int) -> float | None:
        value = _number(last[place[column]]) if column in place else None
        return value / whole if value is not None and whole else None

    return {
        "epochs": int(last[place["epoch"]]) if "epoch" in place else len(rows) - 1,
        "dice": _number(last[place["val_dice"]]) if "val_dice" in place else None,
        "hd95": sum(known) / len(known) if known else None,
        "filters": share("filters", sum(layer.filters for layer in info.layers)),
        "parameters": share("parameters", info.parameters),
        "flops": share("flops", info.flops),
        "seconds": sum(value for value in seconds if value is not None) if seconds else None,
    }


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None

"""The only writer of run folders.

One epoch is one commit: maps and weights first, then the lines of `layers.csv`, `prunings.jsonl` and `checksums.jsonl`,
and last the line of `epochs.csv`. Readers believe only what belongs to an epoch whose line in `epochs.csv` is whole, so
a crash at any point leaves an epoch that is there or an epoch that never was.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sauron_train.analysis.distances import condensed
from sauron_train.config import Config
from sauron_train.runlog import files
from sauron_train.runlog.aside import aside, refuse_existing
from sauron_train.runlog.ledger import CHECKSUMS, Entry, Ledger, Sum
from sauron_train.runlog.reader import Run, whole_lines
from sauron_train.runlog.schema import (
    Array,
    EpochRow,
    LayerDistances,
    LayerMaps,
    LayerRow,
    Probe,
    Pruning,
    RunInfo,
    Status,
    epoch_columns,
    layer_columns,
)
from sauron_train.runlog.scores import SCORE_COLUMNS, score_rows


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunWriter:
    """Writes one run; make it with `create`."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info
        self._epoch_columns = epoch_columns(info.labels)
        self._layer_columns = layer_columns()
        self._ledger = Ledger()

    @classmethod
    def create(cls, path: Path, config: Config, info: RunInfo) -> RunWriter:
        """Start a new run folder.

        Raises:
            RunError: the folder exists already, or cannot be made.
        """
        refuse_existing(path)
        writer = cls(path, info)
        with aside(path) as folder:
            folder.mkdir()
            files.write_atomically(folder / files.CONFIG, config.to_yaml())
            files.append(folder / files.LAYERS, csv_lines(writer._layer_columns, []))
            files.append(folder / files.PRUNINGS, "")
            files.append(folder / files.EPOCHS, csv_lines(writer._epoch_columns, []))
            files.write_json(folder / files.INFO, info.to_json())
        return writer

    @classmethod
    def reopen(cls, path: Path, info: RunInfo | None = None) -> RunWriter:
        """Go on with a run that was stopped: what an epoch left that was never committed is taken away first.

        Args:
            path: the run folder.
            info: where and with what it goes on; None = as before. When and from what it began, when it was analysed,
                and when it was given more epochs before, stays.

        Raises:
            RunError: no run, or a damaged one.
        """
        run = Run(path)
        last, before = run.last_epoch, run.info
        info = info or before
        extended = (before.epochs_planned,) if info.epochs_planned > before.epochs_planned else ()
        info = replace(
            info,
            created=before.created,
            analysed=before.analysed,
            derived_from=before.derived_from,
            extended=(*before.extended, *extended),
        )
        files.sweep(path)
        cut_back(path, last)
        writer = cls(path, replace(info, status="running", ended=None, message=""))
        files.write_json(path / files.INFO, writer.info.to_json())
        return writer

    def write_probe(self, probe: Probe) -> None:
        """Store the probe images and their labels."""
        tensors: dict[str, Array] = {"images": probe.images.astype(np.float32), "labels": probe.labels.astype(np.uint8)}
        name = f"{files.MAPS}/{files.PROBE}"
        self._store(0, name, tensors, {"names": probe.names, "spacing": probe.spacing})

    def write_maps(self, layer_maps: LayerMaps) -> None:
        """Store one layer's maps of one epoch; they count once the epoch is committed."""
        tensors: dict[str, Array] = {
            "maps": layer_maps.maps.astype(np.float16),
            "pairs": condensed(layer_maps.distances).astype(np.float32),
            "filters": layer_maps.filters.astype(np.int32),
            "delta_prune": layer_maps.delta_prune.astype(np.float32),
        }
        metadata = {"epoch": layer_maps.epoch, "layer": layer_maps.layer, "pooling": layer_maps.pooling}
        self._store(layer_maps.epoch, files.maps_file(layer_maps.epoch, layer_maps.layer), tensors, metadata)

    def write_distances(self, epoch: int, layers: Mapping[str, LayerDistances]) -> None:
        """Store how the maps of all layers lie to each other; they count once the epoch is committed."""
        tensors = {f"{name}/{key}": value for name, layer in layers.items() for key, value in vars(layer).items()}
        self._store(epoch, files.distances_file(epoch), tensors, {"epoch": epoch})

    def write_prediction(self, epoch: int, labels: Array) -> None:
        """Store the label maps (P, *spatial) predicted for the probe images."""
        name = f"{files.epoch_folder(epoch)}/{files.PREDICTION}"
        self._store(epoch, name, {"labels": np.asarray(labels, dtype=np.uint8)}, {"epoch": epoch})

    def wrote(self, epoch: int, name: str, content: Sum) -> None:
        """A file of an epoch, relative to the run, was written by somebody else, such as its weights."""
        self._ledger.wrote(epoch, name, content)

    def written(self) -> list[Entry]:
        """What was written since the last commit, or since this was asked for."""
        return self._ledger.entries()

    def drop_checkpoint(self, epoch: int) -> None:
        """Remove the weights of an epoch, if they are there."""
        (self.path / files.checkpoint_file(epoch)).unlink(missing_ok=True)

    def drop_states(self, but: int) -> None:
        """Remove what was kept to go on from, except that of one epoch."""
        for path in (self.path / files.CHECKPOINTS).glob("resume_*.pt"):
            if path != self.path / files.resume_file(but):
                path.unlink(missing_ok=True)

    def commit_epoch(self, row: EpochRow, layers: Sequence[LayerRow], prunings: Sequence[Pruning]) -> None:
        """Make the epoch part of the run; everything else of this epoch must have been written before."""
        texts = {
            files.LAYERS: csv_lines(self._layer_columns, (r.cells() for r in layers), header=False),
            files.PRUNINGS: "".join(_json_line(asdict(pruning)) for pruning in prunings),
            files.EPOCHS: csv_lines(self._epoch_columns, [row.cells()], header=False),
        }
        for name, text in texts.items():
            self.wrote(row.epoch, name, self._ledger.grows(self.path / name, text))
        commit = texts.pop(files.EPOCHS)
        for name, text in texts.items():
            files.append(self.path / name, text)
        files.append(self.path / CHECKSUMS, "".join(entry.line() for entry in self.written()))
        files.append(self.path / files.EPOCHS, commit)

    def _store(self, epoch: int, name: str, tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
        self.wrote(epoch, name, files.write_tensors(self.path / name, tensors, metadata))

    def finish(self, status: Status, message: str = "") -> None:
        """Say in `run.json` how the run ended."""
        self.info = replace(self.info, status=status, message=message, ended=now())
        files.write_json(self.path / files.INFO, self.info.to_json())


def cut_back(path: Path, last: int) -> None:
    """Take away the lines of later epochs from all tables of a run, and lines that were cut off.

    The checksums go first and the commits last: whoever is cut off here leaves a run that can be cut back again.
    """
    for name, epoch_of in _GROWING.items():
        if name == CHECKSUMS and not (path / name).exists():
            continue  # a run of an earlier version
        lines = whole_lines(path / name).splitlines(keepends=True)
        kept = [line for line in lines if (epoch := epoch_of(line)) is None or epoch <= last]
        files.write_atomically(path / name, b"".join(kept))


def write_evaluation(run: Path, values: Mapping[str, Any]) -> None:
    """Store the result of an evaluation in the run folder, and beside it the table of its scores."""
    files.write_atomically(run / files.EVALUATION_TABLE, csv_lines(SCORE_COLUMNS, score_rows(values)))
    files.write_json(run / files.EVALUATION, values)


def csv_lines(columns: Sequence[str], rows: Iterable[dict[str, Any]], header: bool = True) -> str:
    """Rows of a table as text; what is None or NaN becomes an empty cell."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        table.writeheader()
    for row in rows:
        table.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _first_cell(line: bytes) -> int | None:
    cell = line.split(b",", 1)[0]
    return int(cell) if cell.isdigit() else None


def _json_epoch(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return None  # damaged, which is for `check` to tell


def _entry_epoch(line: bytes) -> int:
    entry = Entry.of(line)
    return entry.epoch if entry else sys.maxsize  # what cannot be read goes


_GROWING: Mapping[str, Callable[[bytes], int | None]] = {
    CHECKSUMS: _entry_epoch,
    files.LAYERS: _first_cell,
    files.PRUNINGS: _json_epoch,
    files.EPOCHS: _first_cell,
}
"""Files that grow, each with how the epoch of a line is told; None is a heading."""


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.8g}" if isinstance(value, float) else value


def _json_line(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

"""The tables of a run, read line by line to see whether they are whole and agree with each other."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sauron_train.errors import SauronError
from sauron_train.runlog import files
from sauron_train.runlog.findings import Finding, epochs_have
from sauron_train.runlog.ledger import latest_of
from sauron_train.runlog.reader import Run, whole_lines
from sauron_train.runlog.schema import Pruning, RunInfo

_NEEDED = {files.EPOCHS: ("epoch", "filters"), files.LAYERS: ("epoch", "layer", "filters")}
_DROPPED = "the last epoch is dropped"


@dataclass
class Tables:
    """The three tables of a run.

    `last` is the last epoch that is told, `torn` whether one more was begun to be told and can be made again, and
    `filters` are those of every layer at every epoch.
    """

    last: int = 0
    torn: bool = False
    filters: dict[int, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def read(cls, run: Run, info: RunInfo) -> Tables:
        """Read them line by line, and compare them with each other."""
        tables = cls()
        epochs, bad = tables._rows(run.path, files.EPOCHS)
        numbers = [int(row["epoch"]) for row in epochs]
        tables.last = numbers[-1] if numbers else 0
        if bad and bad[-1] == len(epochs) + len(bad) + 1:
            tables.torn = len(bad) == 1 and _may_be_dropped_after(tables.last, run, info)
            tables.last += not tables.torn
        tables._tell_bad(files.EPOCHS, bad, _DROPPED if tables.torn else "")
        if numbers != list(range(numbers[0], numbers[0] + len(numbers)) if numbers else []):
            tables.findings.append(Finding("damaged", files.EPOCHS, "its epochs are not in order, or some are missing"))
        tables._read_layers(run, info, numbers)
        tables._compare_epochs(epochs)
        tables._read_prunings(run)
        return tables

    def _rows(self, folder: Path, name: str) -> tuple[list[dict[str, str]], list[int]]:
        """Rows that are sound, and the numbers of the lines that are not."""
        text = self._text(folder, name).decode("utf-8", errors="replace")
        if not (folder / name).is_file():
            return [], []
        lines = [_cells(line) for line in text.split("\n")[:-1]]
        lacking = [column for column in _NEEDED[name] if not lines or column not in lines[0]]
        if lacking:
            self.findings.append(Finding("damaged", name, f"its heading lacks the column {lacking[0]}"))
            return [], []
        heading, *rows = lines
        bad = [place for place, row in enumerate(rows, start=2) if not _sound(heading, row)]
        return [dict(zip(heading, row, strict=True)) for row in rows if _sound(heading, row)], bad

    def _tell_bad(self, name: str, lines: Sequence[int], repair: str = "") -> None:
        if lines:
            what = f"line {lines[0]} is no row of numbers as the heading says"
            self.findings.append(Finding("damaged", name, what, repair))

    def _text(self, folder: Path, name: str) -> bytes:
        try:
            content = whole_lines(folder / name)
            torn = (folder / name).stat().st_size - len(content)
        except (SauronError, OSError) as error:
            self.findings.append(Finding("missing", name, str(error)))
            return b""
        if torn:
            said = f"its last line was cut off ({torn} bytes); readers pass over it"
            self.findings.append(Finding("left over", name, said, "the line is taken away"))
        return content

    def _read_layers(self, run: Run, info: RunInfo, epochs: Sequence[int]) -> None:
        expected = [layer.name for layer in info.layers]
        seen: dict[int, list[str]] = {}
        rows, bad = self._rows(run.path, files.LAYERS)
        self._tell_bad(files.LAYERS, bad)
        for row in rows:
            epoch = int(row["epoch"])
            seen.setdefault(epoch, []).append(row["layer"])
            self.filters.setdefault(epoch, {})[row["layer"]] = int(row["filters"])
        short = [epoch for epoch in epochs if seen.get(epoch) != expected]
        told = any(finding.file == files.LAYERS and not finding.harmless for finding in self.findings)
        if short and (seen or not told):
            what = f"{epochs_have(short)} not one row for each of the {len(expected)} layers"
            before = epochs[-2] if len(epochs) > 1 else 0
            torn = short == [self.last] and not self.torn and _may_be_dropped_after(before, run, info)
            self.findings.append(Finding("damaged", files.LAYERS, what, _DROPPED if torn else ""))
            if torn:
                self.torn, self.last = True, before
        self._later(files.LAYERS, [epoch for epoch in seen if epoch > self.last])

    def _later(self, name: str, epochs: Sequence[int]) -> None:
        if epochs:
            what = f"rows of epoch {epochs[0]}, which was not finished; readers pass over them"
            self.findings.append(Finding("left over", name, what, "they are taken away"))

    def _compare_epochs(self, epochs: Sequence[dict[str, str]]) -> None:
        for row in epochs:
            layers = self.filters.get(int(row["epoch"]))
            if layers and sum(layers.values()) != int(row["filters"]):
                what = f"epoch {row['epoch']} has {row['filters']} filters there, but {sum(layers.values())} here"
                self.findings.append(Finding("contradiction", files.LAYERS, f"{files.EPOCHS} says otherwise: {what}"))
                return

    def _read_prunings(self, run: Run) -> None:
        later = []
        for place, line in enumerate(self._text(run.path, files.PRUNINGS).splitlines(), start=1):
            try:
                record = Pruning.from_json(line, files.PRUNINGS)
            except SauronError:
                self.findings.append(Finding("damaged", files.PRUNINGS, f"line {place} is no record of a cut"))
                return
            left = self.filters.get(record.epoch, {}).get(record.layer, record.filters_after)
            if record.epoch > self.last:
                later.append(record.epoch)
            elif record.filters_before - len(record.removed) != record.filters_after or left != record.filters_after:
                what = f"line {place} does not agree with {files.LAYERS} about {record.layer} at epoch {record.epoch}"
                self.findings.append(Finding("contradiction", files.PRUNINGS, what))
                return
        self._later(files.PRUNINGS, later)


def _may_be_dropped_after(epoch: int, run: Run, info: RunInfo) -> bool:
    """Whether nothing is lost with what comes after: it was never finished, or training makes it again."""
    once = latest_of(run.path).values()
    if once and max(entry.epoch for entry in once) <= epoch:
        return True
    return info.status != "finished" and (epoch == 0 or (run.path / files.resume_file(epoch)).is_file())


def _cells(line: str) -> list[str]:
    """What stands in a line; nothing where it is none of a table."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _sound(heading: Sequence[str], row: Sequence[str]) -> bool:
    if len(heading) != len(row):
        return False
    cells = dict(zip(heading, row, strict=True))
    whole = [cells[name] for name in ("epoch", "filters", "parameters", "flops", "removed") if name in cells]
    return all(cell.isdigit() for cell in whole)

"""Mends what can be mended of a damaged run folder; nothing that can be read is taken away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sauron_train.errors import RunError
from sauron_train.runlog import files
from sauron_train.runlog.check import EPOCH, TABLES, Checked, check
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.findings import Finding
from sauron_train.runlog.ledger import CHECKSUMS, Entry, Sum, latest
from sauron_train.runlog.reader import Run, whole_lines
from sauron_train.runlog.writer import cut_back


def repair(run: Run, on_progress: Callable[[int, int, str], None] | None = None) -> Checked:
    """Take away what writes left that were cut off, drop a torn last epoch, put damaged arrays aside, list checksums.

    Arrays and weights that are damaged are moved to the folder `damaged` of the run, where nothing reads them. A table
    that is damaged stays as it is, and its checksum too, so that later checks tell of it as well.

    Args:
        run: which; no process may be writing it.
        on_progress: told how many of how many bytes are read, and of which file next.

    Returns:
        What was found before anything was mended.

    Raises:
        RunError: the run is training, another process is writing it, or its folder cannot be written.
    """
    with claimed(run.path):
        if run.status == "running":
            raise RunError(f"run {run.name} is training; repair it when it has ended")
        found = check(run, on_progress)
        try:
            _mend(run, found)
        except OSError as error:
            raise RunError(f"{run.path} cannot be mended: {error.strerror}") from None
    return found


def _mend(run: Run, found: Checked) -> None:
    files.sweep(run.path)
    for aside in run.path.glob(".revision.*"):
        shutil.rmtree(aside, ignore_errors=True)
    tables = [finding for finding in found.findings if finding.file in TABLES]
    # Where a table is gone, shorter than it was or without its columns, lines of others are all that is left.
    told = not any(
        finding.kind == "missing" or finding.what.startswith(("its heading", "the run had")) for finding in tables
    )
    if told:
        cut_back(run.path, found.epochs)
        if found.torn:
            _drop_unsound(run.path / files.EPOCHS)
    for finding in found.findings:
        if not finding.harmless and finding.repair and finding.file not in (*TABLES, CHECKSUMS, files.CONFIG):
            _put_aside(run.path, finding)
    if told:
        _list(run, found)


def _drop_unsound(epochs: Path) -> None:
    """A last line that begins with no number stays when the table is cut back; the heading alone may do so."""
    heading, *rows = whole_lines(epochs).splitlines(keepends=True)
    kept = [row for row in rows if row.split(b",", 1)[0].isdigit()]
    if len(kept) < len(rows):
        files.write_atomically(epochs, b"".join([heading, *kept]))


def _put_aside(run: Path, finding: Finding) -> None:
    source, target = run / finding.file, run / files.DAMAGED / finding.file
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target = target.with_name(f"{target.name}.before")
        os.replace(source, target)


def _list(run: Run, found: Checked) -> None:
    """Checksums of all that is whole; what is said of damaged tables, and of files that are gone, stays as it was."""
    path = run.path / CHECKSUMS
    before = latest(whole_lines(path).splitlines()) if path.is_file() else {}
    damaged = {finding.file for finding in found.findings if not finding.harmless}
    entries = [
        before.get(name) or Entry(_epoch(name, found.epochs), name, content) for name, content in found.whole.items()
    ]
    entries += [entry for name, entry in before.items() if name in damaged and name not in (*found.whole, *TABLES)]
    for name in TABLES:
        if name in damaged and name in before:
            entries.append(before[name])
        elif name not in damaged or found.torn:
            entries.append(Entry(found.epochs, name, Sum.of_file(run.path / name)))
    files.write_atomically(path, "".join(entry.line() for entry in entries))


def _epoch(name: str, last: int) -> int:
    """Checksums are cut back with the epochs, so each has to say of which it is."""
    match = EPOCH.search(name)
    return min(int(match[1]), last) if match else 0

"""`checksums.jsonl`: what the files of every epoch held when they were written, so that damage can be told later.

A line for each file of an epoch, with its length and SHA-256. Tables that grow have a line for every epoch too, about
the part of them that there was then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKSUMS = "checksums.jsonl"
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Sum:
    """Length in bytes and SHA-256, in hexadecimal, of a content."""

    length: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Sum:
        """That of what is in memory."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    @classmethod
    def of_file(cls, path: Path, most: int | None = None) -> Sum:
        """That of a file, or of its beginning.

        Raises:
            OSError: it cannot be read.
        """
        digest, left, done = hashlib.sha256(), most, 0
        with path.open("rb") as file:
            while part := file.read(_AT_ONCE if left is None else min(_AT_ONCE, left)):
                digest.update(part)
                done += len(part)
                left = None if left is None else left - len(part)
        return cls(done, digest.hexdigest())


@dataclass(frozen=True)
class Entry:
    """A line: a file, relative to the run, as it was when an epoch was committed; epoch 0 is before the first."""

    epoch: int
    file: str
    sum: Sum

    def line(self) -> str:
        """As it is written."""
        values = {"epoch": self.epoch, "file": self.file, "bytes": self.sum.length, "sha256": self.sum.sha256}
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, line: bytes) -> Entry | None:
        """The entry of a line; None where it is none."""
        try:
            values: Any = json.loads(line)
            found = cls(values["epoch"], values["file"], Sum(values["bytes"], values["sha256"]))
        except (ValueError, KeyError, TypeError):
            return None
        kinds = (found.epoch, int), (found.file, str), (found.sum.length, int), (found.sum.sha256, str)
        return found if all(type(value) is kind for value, kind in kinds) else None


class Ledger:
    """What has been written since the last commit, and the sums of tables as they grow."""

    def __init__(self) -> None:
        self._new: dict[str, tuple[int, Sum]] = {}
        self._tables: dict[Path, tuple[int, Any]] = {}

    def wrote(self, epoch: int, name: str, content: Sum) -> None:
        """A file of an epoch was written."""
        self._new[name] = (epoch, content)

    def grows(self, path: Path, text: str) -> Sum:
        """What a table's sum will be after a text was appended to it; what there is of it is read at most once."""
        length, digest = self._tables.get(path) or _so_far(path)
        data = text.encode()
        digest.update(data)
        self._tables[path] = (length + len(data), digest)
        return Sum(length + len(data), digest.hexdigest())

    def entries(self) -> list[Entry]:
        """Everything since the last time this was asked for."""
        entries = [Entry(epoch, name, content) for name, (epoch, content) in self._new.items()]
        self._new = {}
        return entries


def latest(lines: Iterable[bytes]) -> dict[str, Entry]:
    """The last entry of every file; lines that are none are passed over."""
    return {entry.file: entry for entry in _entries(lines)}


def latest_of(run: Path) -> dict[str, Entry]:
    """The same of a run's list; empty where there is none."""
    try:
        return latest((run / CHECKSUMS).read_bytes().splitlines())
    except FileNotFoundError:
        return {}


def changed_since(run: Path, last: int, names: Iterable[str]) -> list[str]:
    """Those of some files that are not, or do not begin with, what was listed at an epoch or before."""
    try:
        lines = (run / CHECKSUMS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = {entry.file: entry for entry in _entries(lines) if entry.epoch <= last}
    return [name for name in names if name in entries and not _begins_with(run / name, entries[name].sum)]


def _begins_with(path: Path, content: Sum) -> bool:
    try:
        return Sum.of_file(path, content.length) == content
    except FileNotFoundError:
        return False


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    return (entry for line in lines if (entry := Entry.of(line)) is not None)


def _so_far(path: Path) -> tuple[int, Any]:
    content = path.read_bytes() if path.exists() else b""
    return len(content), hashlib.sha256(content)

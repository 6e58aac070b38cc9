"""Reads text files that grow line by line: each line once, however often is asked."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pandas as pd

from sauron_train.errors import RunError
from sauron_train.runlog.schema import Pruning, refuse_unsound


class GrowingLines:
    """The whole lines that have come since the last time; all of them where the file is another than before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode = -1

    def read(self) -> tuple[bytes, bool]:
        """New lines, and whether they begin anew.

        Raises:
            RunError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                anew = stat.st_ino != self._inode or stat.st_size < self._offset
                if anew:
                    self._inode, self._offset = stat.st_ino, 0
                file.seek(self._offset)
                content = file.read()
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from None
        # A line without its end is still being written, or was torn by a crash: it does not count.
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole, anew


class GrowingTable:
    """A CSV file that rows are appended to."""

    def __init__(self, path: Path) -> None:
        self._lines = GrowingLines(path)
        self._header = b""
        self._table = pd.DataFrame()

    def read(self) -> pd.DataFrame:
        """All rows so far, as `pandas.read_csv` would read them; not to be changed.

        Raises:
            RunError: it cannot be read, has no header, or is no table.
        """
        lines, anew = self._lines.read()
        if anew:
            self._header, _, lines = lines.partition(b"\n")
            self._table = self._parse(b"")
        if lines:
            new = self._parse(lines)
            self._table = new if self._table.empty else _below(self._table, new)
        return self._table

    def _parse(self, lines: bytes) -> pd.DataFrame:
        if not self._header:
            self._lines = GrowingLines(self._lines.path)
            raise RunError(f"{self._lines.path} is damaged: it has no header")
        try:
            table = pd.read_csv(io.BytesIO(self._header + b"\n" + lines))
            return refuse_unsound(table, self._lines.path)
        except (ValueError, RunError) as error:
            self._lines = GrowingLines(self._lines.path)
            raise (
                error if isinstance(error, RunError) else RunError(f"{self._lines.path} is damaged: {error}")
            ) from None


class GrowingPrunings:
    """`prunings.jsonl`, record by record."""

    def __init__(self, path: Path) -> None:
        self._lines = GrowingLines(path)
        self._records: list[Pruning] = []

    def read(self) -> list[Pruning]:
        """All records so far.

        Raises:
            RunError: it cannot be read, or a line is no record.
        """
        lines, anew = self._lines.read()
        if anew:
            self._records = []
        try:
            self._records += [Pruning.from_json(line, str(self._lines.path)) for line in lines.splitlines()]
        except RunError:
            self._lines = GrowingLines(self._lines.path)
            raise
        return self._records


def _below(table: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """One table below another, each column with the type it would have had if both had been read at once."""
    columns = {}
    for name in table.columns:
        upper, lower = table[name], new[name]
        if upper.dtype != lower.dtype and (upper.isna().all() or lower.isna().all()):
            joined = pd.Series([*upper.astype(object), *lower.astype(object)], dtype=object)
            columns[name] = joined.infer_objects()
        else:
            columns[name] = pd.concat([upper, lower], ignore_index=True)
    return pd.DataFrame(columns)

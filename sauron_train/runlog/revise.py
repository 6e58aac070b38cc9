"""Changes what a finished run logged about its maps: everything new is written aside first, then put in its place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd

from sauron_train.config import Config
from sauron_train.errors import RunError
from sauron_train.runlog import files
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.ledger import CHECKSUMS, latest
from sauron_train.runlog.reader import Run, whole_lines
from sauron_train.runlog.writer import RunWriter, csv_lines, now


class Revision:
    """A change of a run that is made by `commit`, when all of it is on the disk, or not at all.

    Used as a context; `writer` writes maps, distances and probe images aside.

    Raises:
        RunError: the run is still training, or its folder cannot be written or is being written by another process.
    """

    def __init__(self, run: Run) -> None:
        if run.status == "running":
            raise RunError(f"run {run.name} is still training; analyse it when it has ended")
        self.run = run

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(claimed(self.run.path))
            try:
                self._aside = Path(tempfile.mkdtemp(dir=self.run.path, prefix=".revision."))
            except OSError as error:
                raise RunError(f"{self.run.path} cannot be written: {error.strerror}") from None
            self._claim = stack.pop_all()
        self.writer = RunWriter(self._aside, self.run.info)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)
        self._claim.close()

    def commit(
        self, layers: pd.DataFrame, config: Config, probe_images: Sequence[str], stale: Collection[str] = ()
    ) -> None:
        """Put what was written aside in its place.

        Everything is written aside before the first file is renamed, and what is stale goes last: a full disk changes
        nothing, and only a machine that fails between two renames leaves files of both kinds.

        Args:
            layers: the whole of `layers.csv`.
            config: the configuration that the log has from now on.
            probe_images: names of the images on which maps were measured.
            stale: files that hold no longer, relative to the run.
        """
        columns = list(layers.columns)
        rows = layers.astype(object).where(layers.notna(), None).to_dict("records")
        info = replace(self.run.info, probe_images=tuple(probe_images), analysed=now())
        table = files.write_atomically(self._aside / files.LAYERS, csv_lines(columns, rows))  # type: ignore[arg-type]
        self.writer.wrote(self.run.last_epoch, files.LAYERS, table)
        files.write_atomically(self._aside / CHECKSUMS, self._checksums(set(stale)))
        files.write_atomically(self._aside / files.CONFIG, config.to_yaml())
        files.write_json(self._aside / files.INFO, info.to_json())
        # run.json says that the run was analysed, so it comes last.
        written = sorted(
            (path for path in self._aside.rglob("*") if path.is_file()), key=lambda p: p.name == files.INFO
        )
        for source in written:
            target = self.run.path / source.relative_to(self._aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        self._drop(stale)

    def _checksums(self, stale: set[str]) -> str:
        path = self.run.path / CHECKSUMS
        before = latest(whole_lines(path).splitlines()) if path.exists() else {}
        now_there = before | {entry.file: entry for entry in self.writer.written()}
        return "".join(entry.line() for name, entry in now_there.items() if name not in stale)

    def _drop(self, stale: Iterable[str]) -> None:
        """Remove files, and the folders that are empty then."""
        for path in [self.run.path / name for name in stale]:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

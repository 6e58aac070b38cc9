"""Trainings that were started from a view. They are known by files beside the runs, so whoever comes later finds them.

`RUNS/.jobs/NAME.json` says which process trains which run, `NAME.events` is what the process tells programs, `NAME.log`
what it tells people. Folders that begin with a dot hold no runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from sauron_train.errors import RunError
from sauron_train.runlog import Run
from sauron_train.runlog.files import INFO, write_json
from sauron_train.runlog.process import identity
from sauron_train.runlog.schema import safe_file_name
from sauron_train.runlog.writer import now
from sauron_viz.training.processes import end, launch
from sauron_viz.training.progress import Follower, Progress

FOLDER = ".jobs"
LONGEST_NAME = 100
_YOUNG_NS = 2 * 10**9


@dataclass(frozen=True)
class Record:
    """Which process trains a run: `run` is its path in the folder of runs, `words` those of `sauron-train`.

    `who` tells the process from another that has its number later. `stopping` is set once it was asked to stop.
    """

    run: str
    words: tuple[str, ...]
    host: str
    pid: int
    who: str
    started: str
    stopping: bool = False


class Job:
    """One training, as its files tell."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.record = record
        self._folder = folder
        self._follower = Follower(self.events)

    @property
    def run(self) -> str:
        """Path of the run in the folder of runs."""
        return self.record.run

    @property
    def events(self) -> Path:
        """What the process tells programs."""
        return self._folder / f"{_file_name(self.run)}.events"

    @property
    def log(self) -> Path:
        """What it tells people."""
        return self._folder / f"{_file_name(self.run)}.log"

    @property
    def here(self) -> bool:
        """Whether it was started on this machine."""
        return self.record.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether its process runs on this machine."""
        return self.here and bool(self.record.who) and identity(self.record.pid) == self.record.who

    @property
    def command(self) -> str:
        """The same in a terminal."""
        return shlex.join(["sauron-train", *self.record.words])

    def progress(self) -> Progress:
        """How it stands; cheap when nothing has been written."""
        return self._follower.read()

    def stop(self, at_once: bool = False) -> None:
        """Ask it to stop: the epochs that are finished stay, and it can be resumed. `at_once` kills it.

        Raises:
            RunError: it trains on another machine, or belongs to somebody else.
        """
        if not self.here:
            raise RunError(f"{self.run} trains on {self.record.host}; stop it there")
        if end(self.record.pid, self.record.who, at_once):
            self._write(replace(self.record, stopping=True))

    def wait(self, every_s: float = 0.5) -> Iterator[Progress]:
        """How it stands, again and again until its process is over."""
        while self.alive:
            yield self.progress()
            time.sleep(every_s)

    def result(self, root: Path) -> Run:
        """The run that came of it.

        Args:
            root: the folder of runs.

        Raises:
            RunError: it did not finish; the sentence says why.
        """
        progress = self.progress()
        if progress.ended == "finished":
            return Run(root / self.run)
        if progress.ended == "failed" and progress.why:
            raise RunError(progress.why)
        how = "was stopped" if progress.ended == "stopped" or self.record.stopping else "ended without a word"
        begun = (root / self.run / INFO).is_file()
        on = f"; go on with it: sauron-train resume {shlex.quote(str(root / self.run))}" if begun else ""
        raise RunError(f"the training of {self.run} {how}{on} (what it has printed is in {self.log})")

    def _write(self, record: Record) -> None:
        self.record = record
        write_json(self._folder / f"{_file_name(self.run)}.json", asdict(record))


class Jobs:
    """The trainings of a folder of runs.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self._stamp = 0
        self._known: dict[str, Job] = {}

    def all(self) -> list[Job]:
        """All that were started, the newest first; read again only when a record has changed."""
        try:
            stamp = os.stat(self.folder).st_mtime_ns
        except OSError:
            self._known = {}
            return []
        # What changes twice within a tick of the clock keeps its time: young ones are looked at again.
        if stamp != self._stamp or time.time_ns() - stamp < _YOUNG_NS:
            self._stamp = stamp
            self._known = {record.run: self._job(record) for record in self._records()}
        return sorted(self._known.values(), key=lambda job: job.record.started, reverse=True)

    def of(self, run: str) -> Job | None:
        """The training of a run, if it was started here."""
        self.all()
        return self._known.get(run)

    def free_name(self, wish: str) -> str:
        """A name that no run and no training has yet."""
        taken = {job.run for job in self.all()}
        names = (wish if number == 1 else f"{wish}-{number}" for number in range(1, 10_000))
        return next((name for name in names if name not in taken and not (self.root / name).exists()), wish)

    def start(self, name: str, recipe: str, data: Path, changes: Sequence[str] = ()) -> Job:
        """Train a new run.

        Args:
            name: of the run folder.
            recipe: as `--recipe` takes it.
            data: the data set.
            changes: as `--set` takes them.

        Raises:
            RunError: a name that is none or is taken, or no process can be started.
        """
        check_name(self.root, name)
        if (self.root / INFO).is_file():
            raise RunError(f"{self.root} is a run; new runs are not made inside it")
        words = ["run", f"--recipe={recipe}", f"--data={data}", f"--out={self.root / name}"]
        return self._begin(name, [*words, *(f"--set={change}" for change in changes)], fresh=True)

    def resume(self, name: str, data: Path | None = None) -> Job:
        """Go on with a run that was interrupted.

        Args:
            name: path of the run in the folder of runs.
            data: the data set, if it is not where it was.

        Raises:
            RunError: no such run, one that is finished or being trained, or no process can be started.
        """
        run = Run(self._inside(name))
        if run.status == "finished":
            raise RunError(f"{name} is finished, so there is nothing left to train")
        words = ["resume", str(run.path), *([f"--data={data}"] if data else [])]
        return self._begin(name, words, fresh=False)

    def _begin(self, name: str, words: list[str], fresh: bool) -> Job:
        with self._alone():
            known = self.of(name)
            if known is not None and known.alive:
                raise RunError(f"{name} is being trained already")
            path = self._inside(name)
            if fresh:
                check_name(self.root, name)  # again: another page may have been quicker
            elif Run(path).status == "running":
                raise RunError(f"{name} is being trained already, by a process that was not started here")
            record = Record(name, tuple(words), socket.gethostname(), 0, "", now())
            job = Job(self.folder, record)
            if fresh:
                for file in (job.events, job.log):
                    file.unlink(missing_ok=True)
            with job.events.open("a", encoding="utf-8") as events:
                events.write(json.dumps({"event": "asked"}) + "\n")
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"{'' if fresh else chr(10)}{record.started}  {job.command}\n")
            pid = launch([sys.executable, "-m", "sauron_train", *words, "--json"], job.events, job.log)
            job._write(replace(record, pid=pid, who=identity(pid)))
            self._known[name] = job
            return job

    def _job(self, record: Record) -> Job:
        """The one that is known already keeps what it has read."""
        job = self._known.get(record.run)
        if job is None or (job.record.pid, job.record.started) != (record.pid, record.started):
            return Job(self.folder, record)
        job.record = record
        return job

    def _records(self) -> Iterator[Record]:
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = _reader.validate_json(path.read_bytes())
                self._inside(record.run)
            except (OSError, ValidationError, RunError):
                continue  # not ours, or being looked at while it is replaced
            if path.name == f"{_file_name(record.run)}.json":
                yield record

    def _inside(self, name: str) -> Path:
        path = (self.root / name).resolve()
        if path == self.root.resolve() or not path.is_relative_to(self.root.resolve()):
            raise RunError(f"{name!r} lies outside {self.root}; only runs inside it can be trained")
        return self.root / name

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One page or kernel starts something at a time."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written: {error.strerror}") from None
        try:
            with suppress(OSError):  # some network file systems know no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def check_name(root: Path, name: str) -> None:
    """Refuse what cannot name a new run.

    Raises:
        RunError: no name, one that leaves the folder, or one that is taken.
    """
    if not name:
        raise RunError("give the run a name")
    if len(name) > LONGEST_NAME:
        raise RunError(f"a name may have at most {LONGEST_NAME} characters")
    if (root / safe_file_name(name)).exists():
        raise RunError(
            f"there is a {'run' if (root / name / INFO).is_file() else 'folder'} {name} already; choose another name"
        )


def _file_name(run: str) -> str:
    """A run's path as one file name, and no other run's."""
    return quote(run, safe="")


_reader = TypeAdapter(Record)

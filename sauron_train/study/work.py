"""One run of a study, from whatever state it is in to its end: which command comes next, and how it is started."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.study.plan import Planned

State = Literal["absent", "running", "elsewhere", "broken off", "finished", "damaged"]

LOGS = "logs"
# How a line of a log begins that says what was started.
_COMMAND = "$ sauron-train "


@dataclass(frozen=True)
class Work:
    """What brings a run to its end; it may be sent to another machine.

    Attributes:
        folder: the run folder.
        begin: words after `sauron-train` that begin it.
        data: folder of its data set.
        evaluate: whether it is scored on the original grid at the end.
        log: file to which the commands' output is added.
    """

    folder: Path
    begin: tuple[str, ...]
    data: str
    evaluate: bool
    log: Path

    @classmethod
    def of(cls, planned: Planned, evaluate: bool) -> Work:
        """Of a run of a plan."""
        log = planned.folder.parent / LOGS / f"{planned.name}.log"
        return cls(planned.folder, planned.begin, planned.data, evaluate, log)

    def next_words(self, force: bool = False) -> tuple[str, ...] | None:
        """The words of the command that comes next; None where there is nothing left to do.

        Args:
            force: nobody else can be training the run, whatever it says of itself.
        """
        found = state(self.folder)
        if found == "absent":
            return self.begin
        if found == "finished":
            scored = not self.evaluate or comparable(Run(self.folder))
            return None if scored else ("evaluate", str(self.folder), "--data", self.data)
        return ("resume", str(self.folder), "--data", self.data, *(["--force"] if force else []))

    def start(self, words: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that a Ctrl-C in the terminal reaches it once only: by us."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # A cluster tells all processes of a job that it will be ended; the one that starts this one answers for both.
        with self.log.open("ab") as log, deaf_to(signal.SIGUSR2):
            log.write(f"{_COMMAND}{' '.join(words)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, "-m", "sauron_train", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**environment, "COLUMNS": "160", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            )

    def last_words(self) -> str:
        """What the log says last, as the reason of a failure."""
        try:
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return "it left no log"
        # The log grows with every attempt, and an error of an earlier one was perhaps mended since.
        began = max((place for place, line in enumerate(lines) if line.startswith(_COMMAND)), default=-1)
        lines = lines[began + 1 :]
        told = next((line for line in reversed(lines) if line.startswith("error: ")), "")
        return told.removeprefix("error: ") or (lines[-1] if lines else "it left nothing in its log")


def comparable(run: Run) -> bool:
    """Whether a run was scored as all of a study are: its last epoch, without flips or a largest component."""
    try:
        found = run.evaluation() or {}
        return found.get("epoch") == run.last_epoch and not found.get("flips") and not found.get("largest_component")
    except SauronError:
        return False


def state(folder: Path) -> State:
    """How a run of a study stands."""
    if not (folder / "run.json").is_file():
        return "damaged" if folder.exists() else "absent"
    try:
        run = Run(folder)
        found = run.status
        if found == "running":
            return "running" if run.info.host == socket.gethostname() else "elsewhere"
    except SauronError:
        return "damaged"
    return "finished" if found == "finished" else "broken off"


@contextmanager
def deaf_to(number: signal.Signals) -> Iterator[None]:
    """What is started inside the block does not hear a signal; this process hears it after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def progress_of(folder: Path) -> tuple[int, int, float | None, float]:
    """Epochs done and planned, the last validation Dice, and seconds per epoch."""
    try:
        run = Run(folder)
        epochs, planned = run.epochs(), run.info.epochs_planned
    except SauronError:
        return 0, 0, None, 0.0
    if epochs.empty:
        return 0, planned, None, 0.0
    return int(epochs["epoch"].iloc[-1]), planned, float(epochs["val_dice"].iloc[-1]), float(epochs["seconds"].median())

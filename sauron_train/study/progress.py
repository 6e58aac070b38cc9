"""What a person sees while a study runs: a bar for each run on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sauron_train.study.plan import Planned
from sauron_train.study.work import progress_of

_LOOKS_APART_S = 2.0
_LINES_APART_S = 60.0


class Told:
    """Tells how a study goes.

    Args:
        console: where.
        runs: how many there are.
        done: how many of them are finished already.
        at_once: how many run at a time, to tell how long it will take.
    """

    def __init__(self, console: Console, runs: int, done: int, at_once: int) -> None:
        self._console, self._runs, self._done, self._at_once = console, runs, done, max(at_once, 1)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("study", total=runs, completed=done, note="")
        self._bars: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._looked = self._printed = time.monotonic()
        self._shown: list[str] = []
        self._seconds: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._progress.disable:
            self._progress.stop()

    def started(self, planned: Planned, running: int) -> None:
        """A run was started."""
        epochs, _, _, _ = progress_of(planned.folder)
        on = f", going on after epoch {epochs}" if epochs else ""
        self._say(f"[dim]{planned.name}: started{on}[/]")
        self._began.setdefault(planned.name, time.monotonic())
        if planned.name in self._bars:
            # Somebody else trained it; what is left to do is ours.
            return
        self._bars[planned.name] = self._progress.add_task(escape(planned.name), total=planned.config.epochs, note="")

    def ended(self, planned: Planned, problem: str) -> None:
        """A run came to its end, or to grief."""
        if (bar := self._bars.pop(planned.name, None)) is not None:
            self._progress.remove_task(bar)
        if problem:
            self._say(f"[bold red]{escape(planned.name)}:[/] {escape(problem)}")
            return
        self._done += 1
        self._progress.update(self._whole, completed=self._done)
        _, _, dice, _ = progress_of(planned.folder)
        took = time.monotonic() - self._began.get(planned.name, time.monotonic())
        reached = "" if dice is None else f"validation Dice [bold]{dice:.3f}[/], "
        self._say(f"{escape(planned.name)}: done, {reached}{span(took)} ({self._done} of {self._runs} runs)")

    def look(self, running: Sequence[Planned], waiting: Sequence[Planned]) -> None:
        """Show where the runs are, if some time has passed since the last time."""
        now = time.monotonic()
        if now - self._looked < _LOOKS_APART_S:
            return
        self._looked = now
        left, notes = 0.0, []
        for run in running:
            done, planned, dice, seconds = progress_of(run.folder)
            total = planned or run.config.epochs
            if seconds:
                self._seconds[run.config.epochs] = seconds
            left += seconds * (total - done)
            reached = "" if dice is None else f", Dice {dice:.3f}"
            remaining = f", {span(seconds * (total - done))} left" if seconds else ""
            remaining = remaining if done < total else ", coming to its end"
            note = f"epoch {done} of {total}{reached}{remaining}" if done else "beginning"
            notes.append(f"{run.name}: {note}")
            self._progress.update(self._bars[run.name], completed=done, total=total, note=note)
        left += sum(run.config.epochs * self._typical() for run in waiting)
        told = f"{self._done} of {self._runs} runs" + (f", about {span(left / self._at_once)} left" if left else "")
        self._progress.update(self._whole, note=told)
        if not self._console.is_terminal and notes != self._shown and now - self._printed >= _LINES_APART_S:
            self._shown, self._printed = notes, now
            self._say(f"{told}; {'; '.join(notes)}")

    def _typical(self) -> float:
        return sum(self._seconds.values()) / len(self._seconds) if self._seconds else 0.0

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def span(seconds: float) -> str:
    """A length of time as one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Carries out a plan: starts what can be started, waits for what others need, and remembers what went wrong."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from sauron_train.errors import SauronError
from sauron_train.study.plan import Planned
from sauron_train.study.work import Work, state

_POLL_S = 0.25


class Handle(ABC):
    """A run that is being brought to its end."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether nothing goes on any more; asked again and again, it moves on to the next command."""

    @property
    @abstractmethod
    def problem(self) -> str:
        """Why it ended early, in a sentence; empty where it did not."""

    @property
    def leaves_more(self) -> bool:
        """Whether it ended well, and something is left to do that another handle has to."""
        return False

    def ask_to_stop(self) -> None:  # noqa: B027 - what is not ours is not stopped
        """Ask it to end soon."""

    def wait_to_stop(self) -> None:  # noqa: B027
        """Wait until it has."""


class Runner(Protocol):
    """Where runs are brought to their end."""

    @property
    def jobs(self) -> int | None:
        """How many at a time; None = as many as there are."""

    def start(self, work: Work) -> Handle:
        """Bring a run to its end."""

    def leave(self, handles: Sequence[Handle]) -> str:
        """The study is interrupted: stop what runs or leave it running, and say which."""


class Watcher(Protocol):
    """Told how it goes."""

    def started(self, planned: Planned, running: int) -> None:
        """A run was started."""

    def ended(self, planned: Planned, problem: str) -> None:
        """A run came to its end, or to grief."""

    def look(self, running: Sequence[Planned], waiting: Sequence[Planned]) -> None:
        """Called several times a second."""


class InterruptedStudyError(Exception):
    """The study was stopped by its user; the message says what becomes of what ran."""


def carry_out(
    planned: Sequence[Planned], works: Mapping[str, Work], runner: Runner, watcher: Watcher
) -> dict[str, str]:
    """Bring all runs to their end.

    Args:
        planned: the runs, in the order in which they are to start.
        works: the same, by name.
        runner: where they run.
        watcher: told how it goes.

    Returns:
        Name to reason of what could not be brought to its end.

    Raises:
        InterruptedStudyError: by Ctrl-C.
    """
    problems: dict[str, str] = {}
    running: dict[str, tuple[Planned, Handle]] = {}
    waiting = [run for run in planned if works[run.name].next_words() is not None]
    try:
        while waiting or running:
            for run, handle in list(running.values()):
                if handle.ended():
                    del running[run.name]
                    if handle.leaves_more:
                        waiting.append(run)
                    else:
                        _note(run, handle.problem, problems, watcher)
            waiting = _start(waiting, works, runner, running, problems, watcher)
            watcher.look([run for run, _ in running.values()], waiting)
            if running:
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise InterruptedStudyError(runner.leave([handle for _, handle in running.values()])) from None
    except BaseException:
        # What was started is not to go on without anybody who looks after it.
        runner.leave([handle for _, handle in running.values()])
        raise
    return problems


def _start(
    waiting: Sequence[Planned],
    works: Mapping[str, Work],
    runner: Runner,
    running: dict[str, tuple[Planned, Handle]],
    problems: dict[str, str],
    watcher: Watcher,
) -> list[Planned]:
    """Start what can be; returns what goes on waiting."""
    left: list[Planned] = []
    open_names = {run.name for run in waiting} | set(running)
    for run in waiting:
        failed = next((need for need in run.needs if need in problems), None)
        if failed is not None:
            _note(run, f"it needs {failed}, which is not finished", problems, watcher)
        elif open_names.intersection(run.needs) or (runner.jobs is not None and len(running) >= runner.jobs):
            left.append(run)
        elif reason := _hindrance(works[run.name]):
            _note(run, reason, problems, watcher)
        else:
            try:
                running[run.name] = (run, runner.start(works[run.name]))
            except (OSError, SauronError) as error:
                _note(run, f"it could not be started: {error}", problems, watcher)
            else:
                watcher.started(run, len(running))
    return left


def _note(run: Planned, problem: str, problems: dict[str, str], watcher: Watcher) -> None:
    if problem:
        problems[run.name] = problem
    watcher.ended(run, problem)


def _hindrance(work: Work) -> str:
    if state(work.folder) == "damaged":
        return f"{work.folder} is no run folder that can be read; look at it, and move it away to begin the run anew"
    return ""

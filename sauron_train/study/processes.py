"""Runs of a study as processes on this machine, some at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sauron_train.study.schedule import Handle
from sauron_train.study.work import Work, state

_PATIENCE_S = 120.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Processes:
    """Starts runs as processes, each with its share of the cores and, where there are several, a GPU of its own.

    Args:
        jobs: how many run at a time.
        environment: what they are started in; variables that say how many threads there are win over the share.
    """

    def __init__(self, jobs: int, environment: Mapping[str, str] = os.environ) -> None:
        self.jobs = jobs
        self._environment = dict(environment)
        self._gpus = visible_gpus(environment)
        self._free = list(range(jobs))

    def start(self, work: Work) -> Handle:
        """Bring a run to its end."""
        if state(work.folder) == "running":
            return _Foreign(work)
        slot = self._free.pop(0)
        try:
            return _Process(work, self._surroundings(slot), lambda: self._free.append(slot))
        except OSError:
            self._free.append(slot)
            raise

    def leave(self, handles: Sequence[Handle]) -> str:
        """Stop what runs, so that it can be gone on with."""
        for handle in handles:
            handle.ask_to_stop()
        for handle in handles:
            handle.wait_to_stop()
        others = sum(isinstance(handle, _Foreign) for handle in handles)
        what = "a run goes on that another process trains" if others == 1 else f"{others} runs go on that others train"
        return f"stopped; what was finished stays{f', and {what}' if others else ''}"

    def _surroundings(self, slot: int) -> dict[str, str]:
        threads = {name: str(max(_cores() // self.jobs, 1)) for name in _THREADS}
        shared = self.jobs > 1 and len(self._gpus) > 1
        own_gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if shared else {}
        return {**threads, **self._environment, **own_gpu}


def _cores() -> int:
    # Of those that this process may use, which a batch system or `taskset` may have made fewer than there are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process(Handle):
    """One command after the other until nothing is left to do."""

    def __init__(self, work: Work, environment: Mapping[str, str], done: Callable[[], None]) -> None:
        self._work, self._environment, self._done = work, environment, done
        self._words = work.next_words()
        self._process = self._next(self._words)
        self._problem = ""
        if self._process is None:
            # Somebody else has brought it to its end since the study looked.
            done()

    def ended(self) -> bool:
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        before, self._words = self._words, self._work.next_words()
        if code or (self._words is not None and self._words == before):
            self._problem = self._work.last_words()
            self._words = None
        self._process = self._next(self._words)
        if self._process is None:
            self._done()
        return self._process is None

    @property
    def problem(self) -> str:
        return self._problem

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait_to_stop(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _next(self, words: tuple[str, ...] | None) -> subprocess.Popen[bytes] | None:
        return None if words is None else self._work.start(words, self._environment)


class _Foreign(Handle):
    """A run that goes on from before: somebody else started it, or a study that was killed."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def ended(self) -> bool:
        return state(self._work.folder) != "running"

    @property
    def leaves_more(self) -> bool:
        """Who trains a run for himself does not score it."""
        return state(self._work.folder) == "finished" and self._work.next_words() is not None

    @property
    def problem(self) -> str:
        if state(self._work.folder) == "finished":
            return ""
        return "it was trained by another process, which was stopped; repeat the command to go on with it"


def visible_gpus(environment: Mapping[str, str], driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The NVIDIA GPUs that a process may use, by what CUDA calls them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    return [str(place) for place in range(len(list(driver.iterdir())))] if driver.is_dir() else []

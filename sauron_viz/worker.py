"""Runs `sauron-train` beside the view: it needs torch, which a dashboard never loads, and minutes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from sauron_train.errors import RunError
from sauron_viz.scratch import scratch_folder, throw_away
from sauron_viz.training.processes import plain
from sauron_viz.widgets.base import logger

_LAST_LINES = 12
_running: weakref.WeakSet[Job] = weakref.WeakSet()


class Job:
    """One `sauron-train` command with `--json` and an `--out` in a folder of its own.

    The folder is thrown away by `discard`, at once where nothing was made, and when this process ends at the latest.
    Callbacks come on the event loop that the job was made on, like those of widgets; without one from a thread.

    Args:
        words: the command, without `--out`.
        on_progress: told how many of how many steps are done, and which is next.
        on_end: told the run folder, or file, that was made, or None and a sentence that says why there is none; "" if
            it was cancelled.
        name: what is made is called.
    """

    def __init__(
        self,
        words: Sequence[str],
        on_progress: Callable[[int, int, str], None],
        on_end: Callable[[Path | None, str], None],
        name: str = "run",
    ) -> None:
        self.name = name
        self.scratch = scratch_folder()
        self.out = self.scratch / folder_name(name)
        self._cancelled = False
        self._on_progress, self._on_end = on_progress, on_end
        self._loop = _running_loop()
        self._program = [sys.executable, "-m", "sauron_train", *words, "--out", str(self.out), "--json"]
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            RunError: no process can be started.
        """
        try:
            self._process = subprocess.Popen(
                self._program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=plain(os.environ),
            )
        except OSError as error:
            throw_away(self.scratch)
            raise RunError(f"the work cannot be started: {error.strerror}") from None
        _running.add(self)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.poll() is None

    def cancel(self) -> None:
        """End it; what it has made is thrown away."""
        self._cancelled = True
        if self._process is not None and self.running:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended and was told of."""
        self._thread.join(seconds)

    def discard(self) -> None:
        """Throw away what it has made."""
        self.cancel()
        throw_away(self.scratch)

    def _follow(self) -> None:
        made, why = None, "the work ended without a word"
        try:
            made, why = self._hear()
        except Exception:
            # Nobody hears an exception of a thread.
            logger().exception("while following a job")
        if made is None:
            throw_away(self.scratch)
        self._tell(self._on_end, made, why)

    def _hear(self) -> tuple[Path | None, str]:
        process = self._process
        if process is None:
            raise RunError("the work was not started")
        errors: deque[str] = deque(maxlen=_LAST_LINES)
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        for line in process.stdout or ():
            try:
                done, total, what = json.loads(line)
            except (ValueError, TypeError):
                continue
            self._tell(self._on_progress, done, total, what)
        code = process.wait()
        reader.join(5)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        made = self.out if code == 0 and self.out.exists() and not self._cancelled else None
        return made, "" if made or self._cancelled else _sentence(list(errors), code)

    def _tell(self, callback: Callable[..., None], *values: object) -> None:
        def told() -> None:
            try:
                callback(*values)
            except Exception:
                logger().exception("in a callback of a job")

        if self._loop is None:
            told()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there any more
            self._loop.call_soon_threadsafe(told)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def folder_name(name: str) -> str:
    """A name as that of a run folder."""
    allowed = (c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name)
    return "_".join(part for part in "".join(allowed).split("_") if part).lstrip(".-") or "run"


def _sentence(lines: list[str], code: int) -> str:
    """What the command said was wrong, or that it ended without a word."""
    said = [line.strip().removeprefix("error:").strip() for line in lines if line.strip()]
    if code == 2 and said:
        # One sentence, which a narrow terminal may have wrapped.
        return " ".join(said)
    logger().error("sauron-train ended with %s: %s", code, " / ".join(said))
    return f"The work ended with code {code}" + (f": {said[-1]}" if said else ", without a word; was memory short?")


@atexit.register
def _discard_all() -> None:
    for job in list(_running):
        job.discard()

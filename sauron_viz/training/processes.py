"""Processes that outlive who started them: how one is started, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sauron_train.errors import RunError
from sauron_train.runlog.process import identity
from sauron_viz.limits import lift_limit

_PROC = Path("/proc")
_FOR_KERNELS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_FOR_TERMINALS = ("FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR", "TERM")


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what makes a terminal's colours, which a kernel asks of all that it starts, and what only kernels need.

    `sauron-viz serve` lets its kernels give memory back at once, which slows training down.
    """
    served = {name: str(2**18) for name in _FOR_KERNELS}
    kept = {
        name: value for name, value in environment.items() if name not in _FOR_TERMINALS and served.get(name) != value
    }
    return kept | {"NO_COLOR": "1"}


def launch(command: Sequence[str], out: Path, err: Path) -> int:
    """Start a process in a session of its own, so that it does not end with this one.

    Args:
        command: the program and its words.
        out: file that what it prints is appended to.
        err: the same for what it complains of.

    Returns:
        Its number.

    Raises:
        RunError: it cannot be started.
    """
    try:
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                # A log of this width keeps the lines of a table whole.
                env=plain(os.environ) | {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
            )
    except OSError as error:
        raise RunError(f"training cannot be started: {error.strerror}") from None
    _as_important_as_others(process.pid)
    lift_limit(process.pid)
    # Somebody must wait for it, or it stays as a zombie as long as this process lives.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def _as_important_as_others(pid: int) -> None:
    """A page's process is the first to go where memory runs short, and a training would be after it."""
    with contextlib.suppress(OSError):
        (_PROC / str(pid) / "oom_score_adj").write_text("0")


def end(pid: int, who: str, at_once: bool = False) -> bool:
    """Ask a process to end, if it is still the one that was meant; `at_once` kills it with all that it started.

    Returns:
        Whether it was there.

    Raises:
        RunError: it belongs to somebody else.
    """
    # Process 1 is a machine's or a container's first, and -1 would mean all.
    if pid < 2 or not who or identity(pid) != who:
        return False
    try:
        if at_once:
            # It leads a session, so a group of its own.
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise RunError(f"process {pid} belongs to another user, so it cannot be stopped from here") from None
    return True

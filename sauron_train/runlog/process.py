"""Which process a number means: numbers are used again, above all after a restart."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

_PROC = Path("/proc")


def identity(pid: int) -> str:
    """What tells the process that has a number now from others that had it or will; "" where none is alive.

    Numbers are used again; that one process began at the same moment as another of the same number is impossible.
    """
    if pid < 1:
        return ""
    return _from_proc(pid) if (_PROC / "self" / "stat").exists() else _from_ps(pid)


def is_running(pid: int, who: str = "") -> bool:
    """Whether the process that had a number is still there.

    Args:
        pid: its number.
        who: its `identity` when it began; "" where that is not known, so that any process of that number counts.
    """
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's, of which some machines tell nothing more.
        return identity(pid) in (who, "") or not who
    now = identity(pid)
    return now == who if who else bool(now)


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _from_proc(pid: int) -> str:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything.
    fields = stat.rpartition(")")[2].split()
    state, began = fields[0], fields[19]
    return "" if state in "ZX" else f"{_boot()} {began}"


def _from_ps(pid: int) -> str:
    # Whoever asks, in whatever language and time zone, has to be told the same.
    plain = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    state, _, began = shown.stdout.strip().partition(" ")
    return "" if not state or state.startswith("Z") else " ".join(began.split())

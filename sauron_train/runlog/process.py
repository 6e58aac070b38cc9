"""Which process a number means: numbers are used again, above all after a restart."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

_PROC = Path("/proc")


def identity(pid: int) -> str:
    """What tells the process that has a number now from others on this machine that had it or will.

    On Linux the start of the machine, the space of process numbers (containers have their own) and the moment it began.
    Returns "" where none is alive, or none can be seen.
    """
    return (_seen(pid) or "") if pid > 0 else ""


def is_running(pid: int, who: str = "") -> bool:
    """Whether the process that had a number is still there; one that cannot be asked about, as in a container, counts.

    Args:
        pid: its number.
        who: its `identity` when it began; "" where that is not known, so that any process of that number counts.
    """
    if _is_elsewhere(who):
        return True
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's, but there
    now = _seen(pid)
    return now is None or (now == who if who else now != "")


def _seen(pid: int) -> str | None:
    """Its identity; "" for one that has ended and waits to be asked how, None where nothing can be seen."""
    return _from_proc(pid) if (_PROC / "self" / "stat").exists() else _from_ps(pid)


def _is_elsewhere(who: str) -> bool:
    """Whether it counts processes otherwise than this one does, on the same machine."""
    boot, _, rest = who.partition(" ")
    space = rest.partition(" ")[0]
    return bool(space) and boot == _boot() and space != _space()


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@functools.cache
def _space() -> str:
    try:
        return os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""


def _from_proc(pid: int) -> str | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything.
    fields = stat.rpartition(")")[2].split()
    state, began = fields[0], fields[19]
    return "" if state in "ZX" else f"{_boot()} {_space()} {began}"


def _from_ps(pid: int) -> str | None:
    # Whoever asks, in whatever language and time zone, has to be told the same.
    plain = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    except OSError:
        return None
    state, _, began = shown.stdout.strip().partition(" ")
    return None if not state else "" if state.startswith("Z") else " ".join(began.split())

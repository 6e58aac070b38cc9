"""How much the processes of a dashboard take, so that neither a visitor nor a training goes short of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

MEMORY = "SAURON_PAGE_MEMORY"
"""Set by the server for its kernels: bytes, or nothing for no limit."""
_LEAST_GB = 0.5
_LEAST_PAGES = 10
_PAGE_GB = 0.15  # docs/serving.md, measured by benchmarks/serving.py
_STEP_BACK = 10
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def default_gb() -> float:
    """Half of the memory of this machine, or of the container that this process lives in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        whole = min(whole, int(_CGROUP.read_text()))
    return max(_LEAST_GB, whole / 2 / 1e9)


def default_pages() -> int:
    """As many pages as the memory holds when nobody looks at much."""
    return max(_LEAST_PAGES, int(2 * default_gb() / _PAGE_GB))


def step_back() -> None:
    """Let all other work on this machine go before, and before what this process starts: looking is to slow nothing.

    Nobody can take that back for a process that it starts, so it is nothing for who starts trainings.
    """
    os.nice(max(0, _STEP_BACK - os.nice(0)))


def limit_memory() -> None:
    """Take no more memory than the server said, from now on (Linux): what is too much is a `MemoryError` then.

    Only what a process writes to counts: files that are mapped to be read take nothing away from others.
    """
    wanted = os.environ.get(MEMORY, "")
    if not wanted.isdigit() or sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - not everywhere

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # The limit that can be lifted again: a training that the page starts is not the page.
    resource.setrlimit(resource.RLIMIT_DATA, (int(wanted), hard))


def lift_limit(pid: int) -> None:
    """Let a process that this one has started take what it needs."""
    if sys.platform != "linux" or MEMORY not in os.environ:
        return
    import resource  # noqa: PLC0415

    with contextlib.suppress(OSError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (hard, hard))


def give_back_memory() -> None:
    """Return to the system what this process has freed: glibc keeps it, after a crowd hundreds of megabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

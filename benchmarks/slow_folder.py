"""A folder as a slow network gives it: the same files, read-only, each answer late; what is read is counted.

Needs Linux or macOS with libfuse, the package mfusepy, and on Linux the right to mount (root, or fusermount):

    pip install mfusepy
    apt install libfuse2
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_longlong
from pathlib import Path
from typing import Any

MOUNTED_S = 20
REQUESTS, BYTES = range(2)


class Reads:
    """How often a mounted folder was asked since the last look, and how many bytes it gave."""

    def __init__(self, counts: Any) -> None:
        self._counts, self._before = counts, (0, 0)

    def since(self) -> tuple[int, int]:
        """Requests and bytes since this was asked last."""
        now = (self._counts[REQUESTS], self._counts[BYTES])
        found = (now[0] - self._before[0], now[1] - self._before[1])
        self._before = now
        return found


@contextmanager
def mounted(source: Path, place: Path, latency_s: float) -> Iterator[Reads]:
    """`source` at `place`, where each request takes so much longer."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array(c_longlong, 2)
    place.mkdir(parents=True)
    server = context.Process(target=serve, args=(source, place, latency_s, counts), daemon=True)
    server.start()
    try:
        end = time.monotonic() + MOUNTED_S
        while not os.path.ismount(place):
            if not server.is_alive() or time.monotonic() > end:
                raise OSError(f"{place} could not be mounted; this needs libfuse and the right to mount")
            time.sleep(0.05)
        yield Reads(counts)
    finally:
        unmount(place)
        server.join(5)
        server.terminate()


def unmount(place: Path) -> None:
    if os.path.ismount(place):
        tool = [shutil.which("fusermount3") or shutil.which("fusermount"), "-u", "-z"]
        command = tool if tool[0] and sys.platform == "linux" else ["umount"]
        subprocess.run([*command, str(place)], check=False)  # type: ignore[list-item]


def serve(source: Path, place: Path, latency_s: float, counts: Any) -> None:
    """Answer for `source`, until it is unmounted."""
    import mfusepy  # noqa: PLC0415 - only this process needs it

    class Mirror(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            late()
            found = os.lstat(at(path))
            times = {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "amc"}
            return {key: getattr(found, key) for key in ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            late()
            return [".", "..", *os.listdir(at(path))]

        def open(self, path: str, flags: int) -> int:
            late()
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise mfusepy.FuseOSError(errno.EROFS)
            return os.open(at(path), flags)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            late()
            found = os.pread(fh, size, offset)
            with counts.get_lock():
                counts[BYTES] += len(found)
            return found

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

    def at(path: str) -> str:
        return f"{source}{path}"

    def late() -> None:
        with counts.get_lock():
            counts[REQUESTS] += 1
        time.sleep(latency_s)

    mfusepy.FUSE(Mirror(), str(place), foreground=True, nothreads=False, ro=True)

"""Folders for what a view makes for itself; they are gone with it, and what a killed one left is gone with the next."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "sauron-scratch-"
_LOCK = ".lock"
_BEING_MADE_S = 60
_held: dict[Path, int] = {}


def scratch_folder() -> Path:
    """A new folder, readable by this user alone, that is thrown away when the process ends at the latest."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _held[folder] = _lock(folder)
    return folder


def throw_away(folder: Path) -> None:
    """Remove such a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    held = _held.pop(folder, None)
    if held is not None:
        os.close(held)


def _lock(folder: Path) -> int:
    """Hold a lock as long as the process lives, however it ends."""
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _sweep() -> None:
    """Remove what processes left that were killed: images of patients may be among it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if folder not in _held and _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        stat = folder.lstat()
        if stat.st_uid != os.getuid() or (
            time.time() - stat.st_ctime < _BEING_MADE_S and not (folder / _LOCK).exists()
        ):
            return False
        os.close(_lock(folder))
    except OSError:
        # Its process holds the lock, or has just removed it.
        return False
    return True


@atexit.register
def _throw_all_away() -> None:
    for folder in list(_held):
        throw_away(folder)

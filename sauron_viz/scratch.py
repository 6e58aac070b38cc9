"""Folders for what a view makes for itself; they are gone with it, and what a killed one left is gone with the next."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

_made: set[Path] = set()


def scratch_folder() -> Path:
    """A new folder, readable by this user alone, that is thrown away when the process ends at the latest."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_owner()}{os.getpid()}-"))
    _made.add(folder)
    return folder


def throw_away(folder: Path) -> None:
    """Remove such a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    _made.discard(folder)


def _owner() -> str:
    # Machines may share a temporary folder, and their process numbers say nothing of each other's.
    return f"sauron-{socket.gethostname()}-"


def _sweep() -> None:
    """Remove what processes left that were killed: images of patients may be among it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_owner()}*"):
        process = folder.name.removeprefix(_owner()).partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Another user's, whose folders are not ours to remove either.
        return True
    return True


@atexit.register
def _throw_all_away() -> None:
    for folder in list(_made):
        throw_away(folder)

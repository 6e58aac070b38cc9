"""One process at a time writes in a run folder: whoever trains, or changes what was logged, claims the folder first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sauron_train.errors import RunError

_held: dict[Path, int] = {}


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a run folder while the block runs; it ends with the process in any case.

    Inside the block of the same process it may be claimed again.

    Raises:
        RunError: another process is writing it, or the folder is not there.
    """
    place = folder.resolve()
    if place in _held:
        yield
        return
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"{folder} cannot be opened: {error.strerror}") from None
    try:
        _lock(handle, folder)
        _held[place] = handle
        yield
    finally:
        _held.pop(place, None)
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"another process is writing run {folder.name} now; wait until it is done, or stop it") from None
    except OSError:
        # Some network file systems know no locks of folders: what run.json says is all there is to go by then.
        return


def _let_go() -> None:
    """A forked worker that outlives its training for some seconds would hold the folder on."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)

"""A run folder comes into being as a whole: it is made beside its place, and moved there when it is one."""

from __future__ import annotations

import contextlib
import errno
import glob
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sauron_train.errors import RunError
from sauron_train.runlog import files

# What tempfile adds to a name.
_SUFFIX = 8
_ABANDONED_S = 24 * 3600


def refuse_existing(path: Path) -> None:
    """Refuse a folder that is there already: a run is never written over.

    Raises:
        RunError: the path exists.
    """
    if path.exists():
        raise RunError(f"{path} exists already; choose another --out, a run is never written over")


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when the block ends well, and is gone when it does not.

    Raises:
        RunError: the folder cannot be made, or somebody else has made it meanwhile.
    """
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        place = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
    except OSError as error:
        raise RunError(f"the run folder {out} cannot be made: {error.strerror}; choose another --out") from None
    try:
        yield place / "run"
        refuse_existing(out)
        (place / "run").rename(out)
        files.sync_folder(out.absolute().parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            refuse_existing(out)
        raise RunError(f"the run folder {out} cannot be made: {error.strerror}; choose another --out") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(out: Path) -> None:
    """Take away what processes that were killed while they made a folder of this name have left."""
    parent = out.absolute().parent
    for left in parent.glob(f".{glob.escape(out.name)}.{'?' * _SUFFIX}"):
        # It may be another user's.
        with contextlib.suppress(OSError):
            ours = left.is_dir() and not left.is_symlink() and {path.name for path in left.iterdir()} <= {"run"}
            # Another process may be making one just now.
            if ours and time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)

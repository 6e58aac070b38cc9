"""How data sets lie on a disk: the nnU-Net raw layout, and those in which ACDC, KiTS19 and the Rats come.

A layout is told from the folder itself, so that whoever reads a data set need not know which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sauron_train.data.layouts import acdc, kits19, nnunet, rats
from sauron_train.data.types import Dataset
from sauron_train.errors import DataError


@dataclass(frozen=True)
class Layout:
    """`fits` tells whether a folder looks like it, `names` what its files' names say; `folders` is for people."""

    title: str
    folders: str
    fits: Callable[[Path], bool]
    names: Callable[[Path], tuple[bytes, Dataset]]


LAYOUTS = tuple(
    Layout(title, module.FOLDERS, module.fits, module.names)
    for title, module in (("nnU-Net raw", nnunet), ("ACDC", acdc), ("KiTS19", kits19), ("Rats", rats))
)


def is_dataset(folder: Path) -> bool:
    """Whether a folder looks like a data set, whatever else may be wrong with it."""
    return any(layout.fits(folder) for layout in LAYOUTS)


def names_of(root: Path) -> tuple[bytes, Dataset]:
    """What describes a data set beside its images, and what the names of its files tell.

    Raises:
        DataError: no folder, one in no known layout, or something missing or contradictory by names.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the folder of a data set")
    for layout in LAYOUTS:
        if layout.fits(root):
            return layout.names(root)
    known = "; ".join(f"{layout.title}: {layout.folders}" for layout in LAYOUTS)
    raise DataError(f"{root} has no dataset.json, and is in no other layout that is known ({known})")

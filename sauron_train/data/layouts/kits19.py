"""KiTS19, the Kidney Tumor Segmentation Challenge of 2019, as it is handed out: the axis of the slices comes first.

Cases whose segmentation was kept back for the challenge are left out. Source: layout of the challenge (Heller et al.,
arXiv 1904.00445).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from sauron_train.data.layouts.folders import folders_of, image_named, needed, outermost, sorted_out
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError

FOLDERS = "case_00000/imaging.nii.gz and segmentation.nii.gz"
LABELS = {"background": 0, "kidney": 1, "tumour": 2}
_CASE = re.compile(r"case_\d+")
_AROUND = ("kits19", "data")


def fits(root: Path) -> bool:
    """Whether a folder looks like it."""
    return bool(_folders(root))


def names(root: Path) -> tuple[bytes, Dataset]:
    """Nothing beside the images, and what the names of the files tell.

    Raises:
        DataError: no case with a segmentation.
    """
    labelled = [(folder, label) for folder in _folders(root) if (label := image_named(folder, "segmentation"))]
    if not labelled:
        raise DataError(f"no case in {root} has a segmentation.nii.gz, so there is nothing to learn from")
    cases, broken = sorted_out((folder.name, partial(_case, folder, label)) for folder, label in labelled)
    return b"KiTS19", Dataset(
        root=root, name="KiTS19", channels=("CT",), labels=dict(LABELS), cases=cases, fingerprint="", broken=broken
    )


def _case(folder: Path, label: Path) -> Case:
    return Case(folder.name, (needed(folder, "imaging", folder.name),), label, patient=folder.name)


def _folders(root: Path) -> list[Path]:
    return [folder for folder in folders_of(outermost(root, _AROUND)) if _CASE.fullmatch(folder.name)]

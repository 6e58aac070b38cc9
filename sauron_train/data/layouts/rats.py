"""The Rats of the paper: T2-weighted MR of rat brains with lesions, an animal at several time points.

Animals without a `scan_lesion` are left out. Source: layout of the authors' data, as described in their public code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sauron_train.data.layouts.folders import folders_of, image_named, needed, sorted_out
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError

FOLDERS = "STUDY/TIMEPOINT/ANIMAL/scan.nii.gz and scan_lesion.nii.gz"
LABELS = {"background": 0, "lesion": 1}


def fits(root: Path) -> bool:
    """Whether a folder looks like it."""
    return any(image_named(folder, "scan") or image_named(folder, "scan_lesion") for folder in _animals(root))


def names(root: Path) -> tuple[bytes, Dataset]:
    """Nothing beside the images, and what the names of the files tell.

    Raises:
        DataError: no animal with labels.
    """
    cases, broken = sorted_out(sorted(_cases(root), key=lambda named: named[0]))
    if not cases and not broken:
        raise DataError(f"no animal in {root} has a scan_lesion.nii.gz, so there is nothing to learn from")
    return b"Rats", Dataset(
        root=root, name="Rats", channels=("T2",), labels=dict(LABELS), cases=cases, fingerprint="", broken=broken
    )


def _cases(root: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    for folder in _animals(root):
        label = image_named(folder, "scan_lesion")
        if label is not None:
            time, study = folder.parent, folder.parent.parent
            name = f"{study.name}_{folder.name}_{time.name}"
            yield name, partial(_case, folder, name, label, f"{study.name}_{folder.name}")


def _case(folder: Path, name: str, label: Path, patient: str) -> Case:
    return Case(name, (needed(folder, "scan", name),), label, patient=patient)


def _animals(root: Path) -> list[Path]:
    studies = folders_of(root)
    return [animal for study in studies for time in folders_of(study) for animal in folders_of(time)]

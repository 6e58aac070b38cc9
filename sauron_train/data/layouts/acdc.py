"""ACDC, the Automated Cardiac Diagnosis Challenge, as it is handed out.

Of each patient two frames are labelled, end of diastole and end of systole; Info.cfg says which. Source: layout of the
challenge (Bernard et al., IEEE TMI 37:2514, 2018).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sauron_train.data.layouts.folders import folders_of, images_of, needed, outermost, sorted_out
from sauron_train.data.nifti import ENDINGS
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError

FOLDERS = "patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz"
LABELS = {"background": 0, "right ventricle": 1, "myocardium": 2, "left ventricle": 3}
_PATIENT = re.compile(r"patient\d+")
_AROUND = ("database", "training")


def fits(root: Path) -> bool:
    """Whether a folder looks like it."""
    return bool(_patients(root))


def names(root: Path) -> tuple[bytes, Dataset]:
    """The patients' Info.cfg, digested, and what the names of the files tell.

    An Info.cfg that names no frames makes its patient unusable, a frame that is missing or without labels itself.
    """
    digest = hashlib.sha256()
    cases: list[Case] = []
    broken: dict[str, str] = {}
    for folder in _patients(root):
        try:
            text = _info(folder)
            found, lacking = _frames(folder, text)
        except DataError as error:
            broken[folder.name] = str(error)
            continue
        digest.update(text.encode())
        cases += found
        broken |= lacking
    dataset = Dataset(
        root=root,
        name="ACDC",
        channels=("cine MR",),
        labels=dict(LABELS),
        cases=tuple(cases),
        fingerprint="",
        broken=broken,
    )
    return digest.digest(), dataset


def _patients(root: Path) -> list[Path]:
    return [folder for folder in folders_of(outermost(root, _AROUND)) if _PATIENT.fullmatch(folder.name)]


def _info(folder: Path) -> str:
    path = folder / "Info.cfg"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it again") from None


def _frames(folder: Path, text: str) -> tuple[tuple[Case, ...], dict[str, str]]:
    named = [f"{folder.name}_frame{number:02d}" for number in _labelled_frames(folder, text)]
    return sorted_out((name, partial(_case, folder, name)) for name in named)


def _case(folder: Path, name: str) -> Case:
    label = needed(folder, f"{name}_gt", name)
    # The labels were drawn by a program that forgets where the image lies.
    return Case(name, (needed(folder, name, name),), label, patient=folder.name, by_voxels=True)


def _labelled_frames(folder: Path, text: str) -> list[int]:
    """Numbers of the two frames that Info.cfg names; without it, of all that have labels."""
    if text:
        values = _values(text)
        try:
            return sorted({int(values["ED"]), int(values["ES"])})
        except (KeyError, ValueError):
            raise DataError(
                f"{folder / 'Info.cfg'} must say which frames are labelled, as 'ED: 1' and 'ES: 12'; fetch it again"
            ) from None
    found = [
        re.fullmatch(rf"{folder.name}_frame(\d+)_gt", file.name.removesuffix(ending))
        for ending in ENDINGS
        for file in images_of(folder, ending)
    ]
    numbers = sorted(int(match[1]) for match in found if match)
    if not numbers:
        raise DataError(f"{folder} has neither an Info.cfg nor a labelled frame; fetch it again or remove it")
    return numbers


def _values(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}

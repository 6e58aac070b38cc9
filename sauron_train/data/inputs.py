"""Images without labels that somebody wants segmented."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sauron_train.data.layouts.folders import images_of
from sauron_train.data.nifti import ENDINGS
from sauron_train.data.types import Case
from sauron_train.errors import DataError


def images_in(paths: Sequence[Path], channels: int) -> list[Case]:
    """Examinations without labels to segment, sorted by name.

    Args:
        paths: folders that hold CASE_0000.nii.gz files, or such files themselves (one channel of a case is enough if
            the others lie beside it). A file that is named
            itself may also be called CASE.nii.gz, if the network takes one channel.
        channels: how many files make a case.

    Raises:
        DataError: nothing there, a case with fewer or more channels, or a file in a folder that is named otherwise.
    """
    found: dict[str, Case] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is not there; give folders with CASE_0000.nii.gz files, or such files")
        files = [file for ending in ENDINGS for file in images_of(path, ending)] if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} holds no .nii.gz or .nii file")
        for file in files:
            case = _unlabelled(file, channels, named=not path.is_dir())
            found.setdefault(case.name, case)
    return [found[name] for name in sorted(found)]


def _unlabelled(file: Path, channels: int, named: bool) -> Case:
    ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), None)
    if ending is None:
        raise DataError(f"{file} is no NIfTI file; images must end in {' or '.join(ENDINGS)}")
    stem = file.name.removesuffix(ending)
    match = re.fullmatch(r"(.+)_(\d{4})", stem)
    if match is None:
        if not named:
            # Label maps are named so: a folder of them is not what anybody wants to segment.
            raise DataError(f"{file} is not named CASE_0000{ending}, as images are; name the file itself to segment it")
        if channels != 1:
            raise DataError(f"{file} must be named CASE_0000{ending}: the network takes {channels} channels")
        return Case(stem, (file,), None)
    images = tuple(file.with_name(f"{match[1]}_{number:04d}{ending}") for number in range(channels))
    for image in images:
        if not image.is_file():
            raise DataError(f"case {match[1]} lacks {image.name}; the network takes {channels} channel(s)")
    if int(match[2]) >= channels or file.with_name(f"{match[1]}_{channels:04d}{ending}").is_file():
        raise DataError(f"case {match[1]} has more channels than the {channels} that the network takes; remove them")
    return Case(match[1], images, None)

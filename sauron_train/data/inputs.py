"""Images without labels that somebody wants segmented."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sauron_train.data.damage import no_file
from sauron_train.data.datasets import read_names
from sauron_train.data.layouts import is_dataset, nnunet
from sauron_train.data.layouts.folders import folders_of, images_of
from sauron_train.data.nifti import ENDINGS
from sauron_train.data.types import Case
from sauron_train.errors import DataError
from sauron_train.words import counted

_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Examinations:
    """What there is to segment, by names alone: cases in the order of their names, and what cannot be used and why."""

    cases: tuple[Case, ...]
    unusable: Mapping[str, str]


def images_in(paths: Sequence[Path], channels: int) -> Examinations:
    """Examinations without labels to segment.

    Args:
        paths: folders that hold CASE_0000.nii.gz files; folders of a data set in the layout of ACDC, KiTS19 or the
            Rats, of which all labelled cases are taken; or such files themselves (one channel of a case is enough if
            the others lie beside it). A file that is named itself may also be called CASE.nii.gz, if the network takes
            one channel.
        channels: how many files make a case.

    Returns:
        The cases; those with fewer or more channels, and files in a folder that are named otherwise, are told apart.

    Raises:
        DataError: a path that is not there, a folder without images or with label maps only, or two cases of one name.
    """
    found: dict[str, Case] = {}
    unusable: dict[str, str] = {}
    for path in paths:
        for item in _cases_of(path, channels):
            if isinstance(item, _Unusable):
                unusable.setdefault(item.name, item.why)
                continue
            known = found.setdefault(item.name, item)
            if [image.resolve() for image in known.images] != [image.resolve() for image in item.images]:
                raise DataError(
                    f"{known.images[0]} and {item.images[0]} are both called {item.name}, so one label map would "
                    "replace the other; segment them one after the other into different folders"
                )
    return Examinations(tuple(found[name] for name in sorted(found)), unusable)


@dataclass(frozen=True)
class _Unusable:
    name: str
    why: str


def _cases_of(path: Path, channels: int) -> Iterator[Case | _Unusable]:
    if not path.exists():
        if instead := no_file(path):
            raise DataError(f"{path} {instead}")
        raise DataError(f"{path} is not there; give folders with CASE_0000.nii.gz files, or such files")
    if not path.is_dir():
        yield _unlabelled(path, channels, named=True)
        return
    files = [file for ending in ENDINGS for file in images_of(path, ending)]
    if not files:
        yield from _cases_of_dataset(path)
        return
    if not any(_CHANNEL.fullmatch(_stem(file)) for file in files):
        # Label maps are named so: a folder of them is not what anybody wants to segment.
        raise DataError(
            f"{files[0]} is not named CASE_0000{_ending(files[0])}, as images are; name the file itself to segment it"
        )
    for file in files:
        yield _unlabelled(file, channels, named=False)


def _cases_of_dataset(folder: Path) -> Iterator[Case | _Unusable]:
    if nnunet.fits(folder):
        raise DataError(f"{folder} is a data set; give its folder of images, {folder / 'imagesTs'} or imagesTr")
    if is_dataset(folder):
        dataset = read_names(folder)
        yield from (replace(case, label=None) for case in dataset.cases)
        yield from (_Unusable(name, why) for name, why in dataset.broken.items())
        return
    inner = folders_of(folder)
    more = f"; it is not looked into the folders within it, so name them, as in {folder}/*" if inner else ""
    raise DataError(f"{folder} holds no .nii.gz or .nii file{more}")


def _unlabelled(file: Path, channels: int, named: bool) -> Case | _Unusable:
    ending, stem = _ending(file), _stem(file)
    if not ending:
        raise DataError(f"{file} is no NIfTI file; images must end in {' or '.join(ENDINGS)}")
    match = _CHANNEL.fullmatch(stem)
    if match is None:
        if not named:
            why = f"{file} is not named CASE_0000{ending}, as images are; name the file itself to segment it"
            return _Unusable(file.name, why)
        if channels != 1:
            return _Unusable(stem, f"{file} must be named CASE_0000{ending}: the network takes {channels} channels")
        return Case(stem, (file,), None)
    images = tuple(file.with_name(f"{match[1]}_{number:04d}{ending}") for number in range(channels))
    for image in images:
        if not image.is_file():
            takes = f"the network takes {counted(channels, 'channel')}"
            instead = no_file(image)
            why = f"{image} {instead}" if instead else f"case {match[1]} lacks {image.name}; {takes}"
            return _Unusable(match[1], why)
    if int(match[2]) >= channels or file.with_name(f"{match[1]}_{channels:04d}{ending}").is_file():
        why = f"case {match[1]} has more channels than the {channels} that the network takes; remove them"
        return _Unusable(match[1], why)
    return Case(match[1], images, None)


def _ending(file: Path) -> str:
    return next((ending for ending in ENDINGS if file.name.endswith(ending)), "")


def _stem(file: Path) -> str:
    return file.name.removesuffix(_ending(file))

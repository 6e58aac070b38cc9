"""The nnU-Net raw layout: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`.

Everything that can be told from names and headers is checked before a voxel is read, so that a data set fails in its
first second and not in its first night.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sauron_train.config import Config
from sauron_train.data.nifti import ENDINGS, Header, read_header, times
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError

_SPACING_TOLERANCE = 0.01


def read_dataset(root: Path) -> Dataset:
    """Read and check a data set in the nnU-Net raw layout (version 2, or version 1 with `modality`).

    Raises:
        DataError: anything that is missing, unreadable, contradictory or not supported; the file or case is named.
    """
    root = Path(root)
    text, dataset = _read_names(root)
    digest = hashlib.sha256(text)
    for case in dataset.cases:
        for path, header in _check_case(case):
            digest.update(f"{path.relative_to(root).as_posix()}\0{header.size}\0".encode() + header.block)
    return replace(dataset, fingerprint=digest.hexdigest())


def read_names(root: Path) -> Dataset:
    """What the names of a data set's files tell, without opening them: it has no fingerprint yet.

    Raises:
        DataError: what is missing or contradictory by names.
    """
    return _read_names(Path(root))[1]


def check_channels(dataset: Dataset, config: Config) -> None:
    """Refuse a data set with another number of channels than the recipe is made for.

    Raises:
        DataError: it has.
    """
    wanted = config.data.channels
    if wanted is not None and wanted != len(dataset.channels):
        raise DataError(
            f"{dataset.name} has {len(dataset.channels)} channels but the recipe is made for {wanted}; "
            "choose another data set or change data.channels"
        )


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
        files = [file for ending in ENDINGS for file in _images(path, ending)] if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} holds no .nii.gz or .nii file")
        for file in files:
            case = _unlabelled(file, channels, named=not path.is_dir())
            found.setdefault(case.name, case)
    return [found[name] for name in sorted(found)]


def _read_names(root: Path) -> tuple[bytes, Dataset]:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the folder that holds dataset.json")
    text, description = _read_json(root)
    ending = _ending(root, description)
    channels = _channels(root, description)
    labels = _labels(root, description)
    name = description.get("name")
    return text, Dataset(
        root=root,
        name=name if isinstance(name, str) and name else root.resolve().name,
        channels=channels,
        labels=labels,
        cases=_cases(root, ending, channels),
        fingerprint="",
    )


def _images(folder: Path, ending: str) -> list[Path]:
    # Finder and tar leave "._name" files behind that end like images.
    return sorted(file for file in folder.iterdir() if file.name.endswith(ending) and not file.name.startswith("."))


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


def _read_json(root: Path) -> tuple[bytes, Mapping[str, Any]]:
    path = root / "dataset.json"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{root} has no dataset.json; it is not in the nnU-Net raw layout") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} must be a table of keys and values")
    return text, values


def _ending(root: Path, description: Mapping[str, Any]) -> str:
    ending = description.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        raise DataError(f"{root / 'dataset.json'} has file_ending {ending!r}; convert the images to .nii.gz or .nii")
    return str(ending)


def _channels(root: Path, description: Mapping[str, Any]) -> tuple[str, ...]:
    path = root / "dataset.json"
    key = "channel_names" if "channel_names" in description else "modality"
    if key not in description:
        raise DataError(f'{path} lacks \'channel_names\'; add a table such as {{"0": "MRI"}}')
    table = description[key]
    if not isinstance(table, dict) or not table or set(table) != {str(i) for i in range(len(table))}:
        raise DataError(f'{path}: {key!r} must map "0", "1", ... to the names of the channels, without gaps')
    return tuple(str(table[str(i)]) for i in range(len(table)))


def _labels(root: Path, description: Mapping[str, Any]) -> dict[str, int]:
    path = root / "dataset.json"
    if "labels" not in description:
        raise DataError(f'{path} lacks \'labels\'; add a table such as {{"background": 0, "tumour": 1}}')
    table = description["labels"]
    if not isinstance(table, dict) or not table:
        raise DataError(f"{path}: 'labels' must be a table of names and values")
    labels = _name_to_value(path, table)
    if "ignore" in labels:
        raise DataError(f"{path}: the label 'ignore' is not supported; give those voxels a label of their own")
    if sorted(labels.values()) != list(range(len(labels))):
        raise DataError(
            f"{path}: label values must be 0, 1, ... without gaps; they are {sorted(labels.values())}, renumber them"
        )
    if len(labels) < 2:
        raise DataError(f"{path} names the background only; add the structures to be found to 'labels'")
    if len(labels) > 256:
        raise DataError(f"{path} names {len(labels)} labels; at most 256 are supported")
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _name_to_value(path: Path, table: Mapping[str, Any]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for key, value in table.items():
        if isinstance(value, list):
            raise DataError(
                f"{path}: label {key!r} is a region {value}; regions are not supported, give every label one value"
            )
        # Version 1 of the layout writes {"0": "background"}, version 2 {"background": 0}.
        name, number = (value, int(key)) if isinstance(value, str) and key.isdecimal() else (key, value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise DataError(f"{path}: label {key!r} must have a whole number, not {value!r}")
        if name in labels:
            raise DataError(f"{path}: two labels are called {name!r}; give each its own name")
        labels[name] = number
    return labels


def _cases(root: Path, ending: str, channels: tuple[str, ...]) -> tuple[Case, ...]:
    images = _files(root / "imagesTr", ending)
    labels = {file.name.removesuffix(ending): file for file in _files(root / "labelsTr", ending)}
    found: dict[str, dict[int, Path]] = {}
    for file in images:
        match = re.fullmatch(r"(.+)_(\d{4})", file.name.removesuffix(ending))
        if match is None:
            raise DataError(f"{file} must be named CASE_0000{ending}, with the channel as four digits")
        found.setdefault(match[1], {})[int(match[2])] = file
    if not found:
        raise DataError(f"{root / 'imagesTr'} holds no image that ends in {ending}; check file_ending in dataset.json")
    for name in sorted(labels.keys() - found.keys()):
        raise DataError(f"{labels[name]} has no image; add {name}_0000{ending} to imagesTr or remove the label")
    return tuple(_case(name, found[name], labels, channels) for name in sorted(found))


def _case(name: str, files: Mapping[int, Path], labels: Mapping[str, Path], channels: tuple[str, ...]) -> Case:
    for number, channel in enumerate(channels):
        if number not in files:
            raise DataError(f"case {name} lacks channel {number} ({channel}); add {name}_{number:04d} to imagesTr")
    for number in files:
        if number >= len(channels):
            raise DataError(
                f"{files[number]} is channel {number}, but dataset.json names only {len(channels)}; add or remove it"
            )
    if name not in labels:
        raise DataError(f"case {name} has no label; add it to labelsTr or remove its images")
    return Case(name, tuple(files[number] for number in range(len(channels))), labels[name])


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder.parent} has no folder {folder.name}; it is not in the nnU-Net raw layout")
    return _images(folder, ending)


def _check_case(case: Case) -> Iterable[tuple[Path, Header]]:
    paths = [*case.images, *([case.label] if case.label else [])]
    headers = [read_header(path) for path in paths]
    first = headers[0]
    for path, header in zip(paths[1:], headers[1:], strict=True):
        if header.shape != first.shape:
            raise DataError(
                f"case {case.name}: {path.name} is {times(header.shape)} voxels but {paths[0].name} is "
                f"{times(first.shape)}; put them on one grid"
            )
        if any(abs(a - b) > _SPACING_TOLERANCE * b for a, b in zip(header.spacing, first.spacing, strict=True)):
            raise DataError(
                f"case {case.name}: {path.name} has voxels of {_mm(header)} but {paths[0].name} of {_mm(first)}; "
                "correct the header that is wrong"
            )
    return zip(paths, headers, strict=True)


def _mm(header: Header) -> str:
    return " x ".join(f"{side:g}" for side in header.spacing) + " mm"

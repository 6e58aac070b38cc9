"""The nnU-Net raw layout: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sauron_train.data.layouts.folders import images_of, sorted_out
from sauron_train.data.nifti import ENDINGS
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError
from sauron_train.words import counted

FOLDERS = "dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz"


def fits(root: Path) -> bool:
    """Whether a folder looks like it."""
    return any((root / name).exists() for name in ("dataset.json", "imagesTr", "labelsTr"))


def names(root: Path) -> tuple[bytes, Dataset]:
    """`dataset.json` as it is, and what it and the names of the files tell.

    Raises:
        DataError: what is missing or contradictory for all cases, such as a folder or `labels`.
    """
    text, description = _read_json(root)
    ending = _ending(root, description)
    channels = _channels(root, description)
    labels = _labels(root, description)
    name = description.get("name")
    cases, broken = _cases(root, ending, channels)
    return text, Dataset(
        root=root,
        name=name if isinstance(name, str) and name else root.resolve().name,
        channels=channels,
        labels=labels,
        cases=cases,
        fingerprint="",
        remarks=_count(description, len(cases) + len(broken)),
        broken=broken,
    )


def label_names(root: Path) -> dict[str, int]:
    """Class names and values that a folder's `dataset.json` lists.

    Raises:
        DataError: it is not there, or damaged.
    """
    return _labels(root, _read_json(root)[1])


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
    except (ValueError, RecursionError) as error:
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


def _count(description: Mapping[str, Any], found: int) -> tuple[str, ...]:
    """A sentence where fewer cases are here than are counted."""
    told = description.get("numTraining")
    if not isinstance(told, int) or told <= found:
        return ()
    return (
        f"dataset.json says that there are {counted(told, 'training case')} (numTraining), but {found} "
        f"{'is' if found == 1 else 'are'} here; see whether the download is complete",
    )


def _cases(root: Path, ending: str, channels: tuple[str, ...]) -> tuple[tuple[Case, ...], dict[str, str]]:
    images = _files(root / "imagesTr", ending)
    labels = {file.name.removesuffix(ending): file for file in _files(root / "labelsTr", ending)}
    found: dict[str, dict[int, Path]] = {}
    misnamed: dict[str, str] = {}
    for file in images:
        stem = file.name.removesuffix(ending)
        match = re.fullmatch(r"(.+)_(\d{4})", stem)
        if match is None:
            misnamed[stem] = f"{file} must be named CASE_0000{ending}, with the channel as four digits"
            continue
        found.setdefault(match[1], {})[int(match[2])] = file
    if not images:
        raise DataError(f"{root / 'imagesTr'} holds no image that ends in {ending}; check file_ending in dataset.json")
    names = sorted((found.keys() | labels.keys()) - misnamed.keys())
    cases, broken = sorted_out(
        (name, partial(_case, name, found.get(name, {}), labels, channels, ending)) for name in names
    )
    return cases, misnamed | broken


def _case(
    name: str, files: Mapping[int, Path], labels: Mapping[str, Path], channels: tuple[str, ...], ending: str
) -> Case:
    if not files:
        raise DataError(f"{labels[name]} has no image; add {name}_0000{ending} to imagesTr or remove the label")
    for number, channel in enumerate(channels):
        if number not in files:
            raise DataError(
                f"case {name} lacks channel {number} ({channel}); add {name}_{number:04d}{ending} to imagesTr"
            )
    for number in files:
        if number >= len(channels):
            raise DataError(
                f"{files[number]} is channel {number}, but dataset.json names only {len(channels)}; add or remove it"
            )
    if name not in labels:
        wanted = files[0].parent.parent / "labelsTr" / f"{name}{ending}"
        raise DataError(f"case {name} has no label: {wanted} is not there; add it, or remove the images of the case")
    return Case(name, tuple(files[number] for number in range(len(channels))), labels[name])


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder.parent} has no folder {folder.name}; it is not in the nnU-Net raw layout")
    return images_of(folder, ending)

"""The words of the data package: a case on disk, a volume in memory, a patch for the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Case:
    """One examination on disk: one file per channel and, where it is known, the file of its labels.

    `patient` is whose it is where the layout tells, else "": examinations of one patient are kept together.
    `by_voxels` says that a label belongs to the image voxel by voxel, wherever its header says that it lies.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str = ""
    by_voxels: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set that has been checked.

    `channels` are names in the order of the files, `labels` maps a name to its value, background 0 included, and
    `fingerprint` is a SHA-256 that changes with `dataset.json` and with the name, size or header of any file; `remarks`
    are sentences on what is odd about it without being wrong for certain. `broken` says of cases that cannot be used,
    which are not among `cases`, why, by name.
    """

    root: Path
    name: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[Case, ...]
    fingerprint: str
    remarks: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Which cases are trained on and which are kept for validation."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]


@dataclass(frozen=True, eq=False)
class Volume:
    """One preprocessed case in memory.

    `image` (C, X, Y, Z) float32; `label` (X, Y, Z) uint8, or None where there is none; `spacing` voxel size in mm per
    axis; `affine` (4, 4), voxel index to mm. The axes are those of the file, or canonical where the recipe says so.
    """

    name: str
    image: torch.Tensor
    label: torch.Tensor | None
    spacing: tuple[float, float, float]
    affine: npt.NDArray[Any]


class Patch(NamedTuple):
    """What the network learns from: `image` (C, *patch) float32, `label` (*patch) int64, `case` the case's name."""

    image: torch.Tensor
    label: torch.Tensor
    case: str


class Batch(NamedTuple):
    """Patches together: `image` (B, C, *patch) float32, `label` (B, *patch) int64, `cases` B names."""

    image: torch.Tensor
    label: torch.Tensor
    cases: tuple[str, ...]

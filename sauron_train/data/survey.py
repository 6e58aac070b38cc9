"""What a data set is like: grids from all headers, intensities and structures from some of its cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from sauron_train.data.load import check_labels
from sauron_train.data.nifti import read_grid, read_header, read_voxels
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError
from sauron_train.runlog.schema import Array

SAME = 1.1
"""Spacings that differ by less than this factor are taken for the same: design choice."""
_MOST_VOXELS = 20_000
_AIR = -900.0


@dataclass(frozen=True)
class Intensities:
    """Of labelled voxels, all structures together, per data set and first channel."""

    low: float
    """Percentile 0.5."""
    high: float
    """Percentile 99.5."""
    mean: float
    deviation: float


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        dataset: the data set.
        shapes: (cases, 3) voxels; along the axes of the files, or of RAS where `canonical`.
        spacings: (cases, 3) mm, along the same axes.
        canonical: whether the images have to be turned to RAS: their axes lead different ways, or their slices lie
            across another axis than the third, around which images are rotated in training, and would not after.
        orientations: of each case the directions its axes lead to, such as RAS.
        looked: how many cases were read whole.
        share: of voxels that are labelled, structure by structure, mean over the cases that were read.
        without: cases among these in which nothing is labelled.
        intensities: None where nothing is labelled.
        hounsfield: whether all channels hold CT numbers, told from their names, or that of one channel from air.
    """

    dataset: Dataset
    shapes: Array
    spacings: Array
    canonical: bool
    orientations: tuple[str, ...]
    looked: int
    share: dict[str, float]
    without: tuple[str, ...]
    intensities: Intensities | None
    hounsfield: bool


def survey(dataset: Dataset, look_at: int, seed: int, on_progress: Callable[[int, int, str], None]) -> Survey:
    """Look at a data set.

    Args:
        dataset: with labels.
        look_at: how many cases are read whole; all headers are.
        seed: chooses them.
        on_progress: told how many of how many cases are read, and which is next.

    Raises:
        DataError: a case without a label among them, or a file that cannot be read.
    """
    grids = [read_header(case.images[0]) for case in dataset.cases]
    order = np.random.default_rng(seed).permutation(len(dataset.cases))
    chosen = [dataset.cases[i] for i in sorted(order[:look_at])]
    shares: list[dict[str, float]] = []
    inside: list[Array] = []
    lowest = 0.0
    for done, case in enumerate(chosen):
        on_progress(done, len(chosen), case.name)
        image, label = _read(case, dataset)
        shares.append({name: float((label == value).mean()) for name, value in dataset.labels.items() if value})
        inside.append(_some(image[label > 0], seed + done))
        lowest = min(lowest, float(image.min()))
    on_progress(len(chosen), len(chosen), "")
    named = all(name.strip().upper() == "CT" for name in dataset.channels)
    affines = [read_grid(case.images[0])[1] for case in dataset.cases]
    orientations = tuple("".join(nib.aff2axcodes(affine)) for affine in affines)
    shapes, spacings = np.array([grid.shape for grid in grids]), np.array([grid.spacing for grid in grids])
    as_ras = [
        np.array([_canonical(*pair) for pair in zip(sides, affines, strict=True)]) for sides in (shapes, spacings)
    ]
    canonical = len(set(orientations)) > 1 or (_slices(spacings) in (0, 1) and _slices(as_ras[1]) == 2)
    if canonical:
        # They are trained on when they are turned, so that is how they are compared.
        shapes, spacings = as_ras
    return Survey(
        dataset=dataset,
        shapes=shapes,
        spacings=spacings,
        canonical=canonical,
        orientations=orientations,
        looked=len(chosen),
        share={name: float(np.mean([share[name] for share in shares])) for name in shares[0]},
        without=tuple(case.name for case, share in zip(chosen, shares, strict=True) if not any(share.values())),
        intensities=_intensities(inside),
        hounsfield=named or (len(dataset.channels) == 1 and lowest <= _AIR),
    )


def _slices(spacings: Array) -> int | None:
    """The axis across which slices lie, by its larger spacing; None where all are nearly the same."""
    typical = np.median(spacings, axis=0)
    return int(np.argmax(typical)) if typical.max() / typical.min() > SAME else None


def _canonical(sides: Array, affine: Array) -> Array:
    """Sides along the axes of a file as those to the right, to the front and up."""
    turned = np.empty_like(sides)
    turned[nib.io_orientation(affine)[:, 0].astype(int)] = sides
    return turned


def _read(case: Case, dataset: Dataset) -> tuple[Array, Array]:
    if case.label is None:
        raise DataError(f"case {case.name} has no label; a recipe is planned for cases that can be trained on")
    label, _ = read_voxels(case.label)
    return read_voxels(case.images[0])[0], check_labels(label, dataset.labels, case.label).numpy()


def _some(voxels: Array, seed: int) -> Array:
    if len(voxels) <= _MOST_VOXELS:
        return voxels
    return voxels[np.random.default_rng(seed).integers(len(voxels), size=_MOST_VOXELS)]


def _intensities(inside: Sequence[Array]) -> Intensities | None:
    voxels = np.concatenate(inside)
    if not len(voxels):
        return None
    low, high = np.percentile(voxels, [0.5, 99.5])
    return Intensities(float(low), float(high), float(voxels.mean()), float(voxels.std()))

"""What a network says about a preprocessed volume, back on the grid of the file that it came from, and into files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchio as tio

from sauron_train.data.geometry import is_turn, turn_onto, turned
from sauron_train.data.nifti import read_grid, times, write_like
from sauron_train.data.types import Volume
from sauron_train.errors import DataError

_TOLERANCE_MM = 1e-3


def to_original_grid(probabilities: torch.Tensor, volume: Volume, reference: Path) -> Iterator[torch.Tensor]:
    """Class probabilities of a preprocessed volume on the grid of the file it came from, one class at a time.

    Axes that were turned are turned back to the last bit. Where the volume was resampled, probabilities are
    interpolated linearly, so that outlines stay smooth; what lies outside the volume is 0 in every class.

    Args:
        probabilities: (K, X, Y, Z) on the grid of `volume`.
        volume: the volume that was segmented.
        reference: the image file whose grid is wanted.

    Yields:
        K times (X', Y', Z') float32 on the CPU: one at a time, because all at once may not fit into memory.

    Raises:
        DataError: probabilities that are not on the grid of `volume`.
    """
    if probabilities.shape[1:] != volume.image.shape[1:]:
        raise DataError(
            f"the probabilities of {volume.name} are {times(tuple(probabilities.shape[1:]))} voxels but the volume is "
            f"{times(tuple(volume.image.shape[1:]))}; predict on the whole volume"
        )
    shape, affine = read_grid(reference)
    turn = turn_onto(volume.affine, affine)
    for one in probabilities.detach():
        back, there = one.float().cpu()[None], volume.affine
        if is_turn(turn):
            back, there = turned(back, there, turn)
        if tuple(back.shape[1:]) != shape or not np.allclose(affine, there, atol=_TOLERANCE_MM):
            back = tio.Resample((shape, affine))(tio.ScalarImage(tensor=back, affine=there)).data
        yield back[0]


def most_probable(classes: Iterable[torch.Tensor]) -> torch.Tensor:
    """Label map (X, Y, Z) uint8 of probabilities that come one class at a time; where two are equal, the first."""
    labels: torch.Tensor | None = None
    best = torch.empty(0)
    for number, one in enumerate(classes):
        if labels is None:
            labels, best = torch.zeros(one.shape, dtype=torch.uint8), one.clone()
            continue
        better = one > best
        labels[better] = number
        best[better] = one[better]
    if labels is None:
        raise DataError("a segmentation needs at least one class")
    return labels


def all_classes(classes: Iterable[torch.Tensor]) -> torch.Tensor:
    """Probabilities (K, X, Y, Z) that add up to 1 everywhere: what a volume did not cover is background."""
    together = torch.stack(list(classes))
    together[0] += 1 - together.sum(dim=0)
    return together


def save_labels(labels: torch.Tensor, reference: Path, out: Path) -> None:
    """Write a label map (X, Y, Z) that lies on the grid of `reference`, under that file's header, as uint8.

    The file appears whole or not at all.

    Raises:
        DataError: labels of another shape than the reference, or an `out` that cannot be written.
    """
    _refuse_other_shape("labels", tuple(labels.shape), reference)
    write_like(labels.detach().cpu().to(torch.uint8).numpy(), reference, Path(out))


def save_probabilities(probabilities: torch.Tensor, reference: Path, out: Path) -> None:
    """Write class probabilities (K, X, Y, Z) on the grid of `reference` as one 4D file, classes last, float32.

    The file appears whole or not at all.

    Raises:
        DataError: another shape than the reference, or an `out` that cannot be written.
    """
    _refuse_other_shape("probabilities", tuple(probabilities.shape[1:]), reference)
    write_like(probabilities.detach().cpu().float().movedim(0, -1).numpy(), reference, Path(out))


def _refuse_other_shape(what: str, found: tuple[int, ...], reference: Path) -> None:
    shape, _ = read_grid(reference)
    if found != shape:
        raise DataError(f"the {what} are {times(found)} voxels but {reference} is {times(shape)}")

"""Which way the axes of an image lead, how large its voxels are, and whether a network was trained on such.

Axes are named as nibabel does, by the side that they lead to: RAS is right, anterior (front), superior (up). A turn is
one of the 48 ways to swap and flip three axes; it moves voxels and makes no new values, so it can be undone to the last
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from sauron_train.data.types import Volume
    from sauron_train.runlog import RunInfo

Affine = npt.NDArray[np.float64]
Turn = npt.NDArray[np.float64]
"""(3, 2): for each axis which one it becomes, and -1 where it is flipped; nibabel's form."""

# Voxels that differ by more than this factor from those of the training images are told of: design choice.
_UNUSUAL = 1.5
# A turn may make voxels look this much less like those of training before it is taken for a mistake: design choice.
_TOLERATED = 1.25


@dataclass(frozen=True)
class Geometry:
    """Of the images that a network was trained on, as it saw them; "" and () where it is not known, or not one.

    Attributes:
        axes: where the axes of all of them lead, such as "RAS".
        spacing: median voxel size in mm per axis.
    """

    axes: str = ""
    spacing: tuple[float, ...] = ()

    @classmethod
    def of_volumes(cls, volumes: Sequence[Volume]) -> Geometry:
        """What the volumes have in common."""
        axes = {axes_of(volume.affine) for volume in volumes}
        spacing = np.median([volume.spacing for volume in volumes], axis=0)
        return cls(axes.pop() if len(axes) == 1 else "", tuple(round(float(side), 6) for side in spacing))

    @classmethod
    def of_run(cls, info: RunInfo) -> Geometry:
        """What a run has recorded; runs of earlier versions have not."""
        return cls(info.orientation, info.spacing)

    def turn(self, affine: Affine) -> tuple[Turn | None, str]:
        """How an image must be turned to lie as the training images did, and what is to be said about it.

        Stacks that lie obliquely may have axes of other names although they are stored alike: where thick slices would
        come to lie along another axis than in training, nothing is turned.
        """
        axes = axes_of(affine)
        if not self.axes or axes == self.axes:
            return None, ""
        turn = turn_to_axes(affine, self.axes)
        before = voxel_size(affine)
        after = voxel_size(affine @ nib.orientations.inv_ornt_aff(turn, (1, 1, 1)))
        if self.spacing and self._factor(after) > self._factor(before) * _TOLERATED:
            return None, (
                f"its axes lead to {axes} and not to {self.axes} as in training, but it was not turned, because its "
                f"voxels of {millimetres(before)} are like those of training as they lie"
            )
        return turn, f"its axes lead to {axes}; it was turned to {self.axes}, as in training, and its result back"

    def unusual(self, spacing: Sequence[float]) -> str:
        """What is to be said about the voxel size of a preprocessed image; "" where it is like that of training."""
        if not self.spacing or self._factor(spacing) <= _UNUSUAL:
            return ""
        return (
            f"its voxels are {millimetres(spacing)} but {millimetres(self.spacing)} in training; the network has not "
            "seen such sizes, so look at the result with care, or train with preprocess.spacing"
        )

    def _factor(self, spacing: Sequence[float]) -> float:
        return float(np.exp(np.abs(np.log(np.asarray(spacing) / np.asarray(self.spacing))).max()))


def axes_of(affine: npt.NDArray[Any]) -> str:
    """Where the axes lead, as nearly as they do: "RAS"."""
    return "".join(nib.aff2axcodes(affine))


def turn_to_axes(affine: Affine, axes: str) -> Turn:
    """The turn after which an image's axes lead where `axes` says."""
    wanted = nib.orientations.axcodes2ornt(tuple(axes))
    return np.asarray(nib.orientations.ornt_transform(nib.io_orientation(affine), wanted))


def turn_onto(affine: Affine, other: Affine) -> Turn:
    """The turn after which the axes of an image run along those of another, as nearly as can be."""
    # Told from one grid to the other and not from their names, which are a toss-up near 45 degrees.
    return np.asarray(nib.io_orientation(np.linalg.inv(other) @ affine))


def is_turn(turn: Turn) -> bool:
    """Whether anything moves by it."""
    return not np.array_equal(turn, [[0, 1], [1, 1], [2, 1]])


def turned(voxels: torch.Tensor, affine: Affine, turn: Turn) -> tuple[torch.Tensor, Affine]:
    """Voxels (C, X, Y, Z) after a turn, with the affine that keeps each where it was in the patient."""
    flipped = [axis + 1 for axis in range(3) if turn[axis, 1] == -1]
    order = [int(axis) + 1 for axis in np.argsort(turn[:, 0])]
    moved = affine @ nib.orientations.inv_ornt_aff(turn, tuple(voxels.shape[1:]))
    return voxels.flip(flipped).permute(0, *order).contiguous(), np.asarray(moved)


def voxel_size(affine: Affine) -> tuple[float, float, float]:
    """Sides of a voxel in mm."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def millimetres(spacing: Sequence[float]) -> str:
    """A voxel size for people: 1 x 1 x 2.5 mm."""
    return " x ".join(f"{side:.3g}" for side in spacing) + " mm"

"""Turns of axes, and what is told of images that lie otherwise than those of the training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from data_making import volume

from sauron_train.data.geometry import Geometry, axes_of, is_turn, turn_onto, turn_to_axes, turned

CODES = ["".join(side) for axes in itertools.permutations(("LR", "PA", "IS")) for side in itertools.product(*axes)]


def affine(axes: str = "RAS", spacing: tuple[float, float, float] = (1.0, 2.0, 3.0), tilt: float = 0.0) -> np.ndarray:
    rotation = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0, 4], [np.sin(tilt), np.cos(tilt), 0, -9], [0, 0, 1, 7], [0, 0, 0, 1]]
    )
    sides = np.zeros((4, 4))
    sides[3, 3] = 1
    for axis, code in enumerate(axes):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        sides[world, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    return rotation @ sides


@pytest.mark.parametrize("tilt", [0.0, np.pi / 4], ids=["straight", "45 degrees"])
def test_all_48_turns_keep_every_voxel_in_its_place_and_can_be_undone(tilt: float) -> None:
    assert len(set(CODES)) == 48
    voxels = torch.arange(2.0 * 5 * 4 * 3).reshape(2, 5, 4, 3)
    original = affine(tilt=tilt)
    index = np.array([4, 1, 2, 1])
    for code in CODES:
        there, placed = turned(voxels, original, turn_to_axes(original, code))
        if not tilt:
            assert axes_of(placed) == code
        found = np.rint(np.linalg.inv(placed) @ original @ index).astype(int)
        assert torch.equal(there[:, found[0], found[1], found[2]], voxels[:, 4, 1, 2])
        back, again = turned(there, placed, turn_onto(placed, original))
        assert torch.equal(back, voxels)
        np.testing.assert_allclose(again, original, atol=1e-9)
    assert not is_turn(turn_onto(original, original))


def test_what_volumes_have_in_common() -> None:
    volumes = [volume(f"v{i}") for i in range(3)]
    assert Geometry.of_volumes(volumes) == Geometry("RAS", (1.0, 1.0, 1.0))
    other = type(volumes[0])("w", volumes[0].image, None, (1.0, 1.0, 4.0), affine("LPS"))
    assert Geometry.of_volumes([*volumes, other]) == Geometry("", (1.0, 1.0, 1.0))


def test_thick_slices_stay_on_their_axis() -> None:
    stacks = Geometry("LPS", (1.4, 1.4, 8.0))
    sagittal = affine("SLP", (1.4, 1.4, 8.0))
    turn, told = stacks.turn(sagittal)
    assert turn is None
    assert "was not turned" in told
    assert "1.4 x 1.4 x 8 mm" in told
    first = affine("SLP", (8.0, 1.4, 1.4))
    turn, told = stacks.turn(first)
    assert turn is not None
    assert "its axes lead to SLP; it was turned to LPS" in told
    assert axes_of(turned(torch.zeros(1, 2, 2, 2), first, turn)[1]) == "LPS"
    assert stacks.turn(affine("LPS", (1.4, 1.4, 8.0))) == (None, "")
    assert Geometry().turn(sagittal) == (None, "")


def test_voxels_of_an_unusual_size_are_told_of() -> None:
    trained = Geometry("RAS", (1.0, 1.0, 3.0))
    assert trained.unusual((1.2, 0.9, 4.0)) == ""
    assert "3 x 1 x 3 mm but 1 x 1 x 3 mm in training" in trained.unusual((3.0, 1.0, 3.0))
    assert "0.5 x 0.5 x 3 mm" in trained.unusual((0.5, 0.5, 3.0))
    assert Geometry("RAS").unusual((9.0, 9.0, 9.0)) == ""

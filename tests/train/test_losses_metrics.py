"""Loss and scores against the reference numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sauron_train.losses import deep_supervision_loss, downsample_labels, segmentation_loss, soft_dice_loss
from sauron_train.metrics import mean_over_classes, mean_scores, score_case
from sauron_train.runlog.scores import score_rows
from sauron_train.scores import ABSENT, FALSE_ALARM, MISSED, note, summary

LABELS = {"background": 0, "lesion": 1}


def test_loss_at_each_resolution(golden: Any) -> None:
    numbers = golden("losses")
    target = torch.tensor(numbers["y"]).argmax(dim=1)
    logits = [torch.tensor(numbers[f"pred{i}"]).log() for i in range(3)]
    for i, one in enumerate(logits):
        labels = downsample_labels(target, 2**i)
        one_hot = F.one_hot(labels, 2).movedim(-1, 1)
        assert soft_dice_loss(one.exp(), one_hot).item() == pytest.approx(float(numbers["dice_intended"][i]), abs=1e-9)
        both = float(numbers["dice_intended"][i] + numbers["ce_intended"][i])
        assert segmentation_loss(one, labels).item() == pytest.approx(both, abs=1e-5)
    assert deep_supervision_loss(logits, target).item() == pytest.approx(float(numbers["ds_intended"]), abs=1e-5)
    assert deep_supervision_loss(logits[::-1], target).item() == pytest.approx(float(numbers["ds_intended"]), abs=1e-5)


def test_lower_resolutions_keep_their_axes() -> None:
    target = torch.arange(2 * 4 * 8 * 12).reshape(2, 4, 8, 12)
    small = downsample_labels(target, 4)
    assert small.shape == (2, 1, 2, 3)
    assert small[1, 0, 1, 2] == target[1, 0, 4, 8]


def test_dice_and_hausdorff_distance(golden: Any) -> None:
    numbers = golden("metrics_2d_iso")
    reference = torch.tensor(numbers["y_true"]).argmax(dim=0)
    prediction = torch.tensor(numbers["y_pred"]).argmax(dim=0)
    scores = score_case("a", prediction, reference, LABELS, numbers["spacing"].tolist())
    assert scores.dice["lesion"] == pytest.approx(float(numbers["dice"][1]), abs=1e-6)
    assert scores.hd95["lesion"] == pytest.approx(float(numbers["HD95"][1]), abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (6, 8, 4)])
def test_absent_classes(shape: tuple[int, ...]) -> None:
    empty, full = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape, dtype=torch.uint8)
    full[1:4, 2:5] = 1
    spacing = [1.0] * len(shape)
    missed = score_case("a", empty, full, LABELS, spacing)
    assert missed.dice["lesion"] == 0
    assert math.isnan(missed.hd95["lesion"])
    absent = score_case("a", full, empty, LABELS, spacing)
    assert math.isnan(absent.dice["lesion"])
    perfect = score_case("a", full, full, LABELS, spacing)
    assert perfect.dice["lesion"] == 1
    assert perfect.hd95["lesion"] == 0
    assert score_case("a", full, full, LABELS).hd95 == {}
    means = mean_scores([missed.dice, absent.dice, perfect.dice])
    assert means == {"lesion": 0.5}
    assert math.isnan(mean_over_classes({"lesion": math.nan}))
    assert mean_over_classes({"a": 0.5, "b": math.nan, "c": 1.0}) == 0.75


def test_spacing_counts() -> None:
    a, b = np.zeros((2, 8, 8), dtype=np.uint8)
    a[2, 2] = b[5, 2] = 1
    scores = score_case("a", torch.tensor(a), torch.tensor(b), LABELS, [2.0, 1.0])
    assert scores.hd95["lesion"] == pytest.approx(6.0)


def box(low: tuple[int, ...], high: tuple[int, ...], shape: tuple[int, ...] = (24, 22, 12)) -> torch.Tensor:
    labels = torch.zeros(shape, dtype=torch.uint8)
    labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return labels


def surface_dice(a: torch.Tensor, b: torch.Tensor, spacing: tuple[float, ...], tolerance: float) -> float:
    return score_case("a", a, b, LABELS, spacing, tolerance).surface_dice["lesion"]


@pytest.mark.parametrize(("axis", "spacing"), [(0, (1.0, 1.0, 3.0)), (2, (1.0, 1.0, 3.0)), (1, (0.7, 2.5, 0.7))])
def test_surface_dice_forgives_just_the_tolerance(axis: int, spacing: tuple[float, ...]) -> None:
    reference = box((6, 6, 3), (16, 16, 8))
    moved = reference.roll(1, dims=axis)
    assert surface_dice(moved, reference, spacing, 1.01 * spacing[axis]) == pytest.approx(1)
    assert surface_dice(moved, reference, spacing, 0.99 * spacing[axis]) < 0.95
    assert surface_dice(reference, reference, spacing, 0.0) == pytest.approx(1)


def test_surface_dice_counts_area() -> None:
    # A flat box, 80 x 80 x 20 mm, moved by its thickness: of the two faces of each one lies on one of the other, the
    # sides only meet there, in voxels that reach half their thickness of 10 mm.
    reference = box((2, 1, 3), (22, 21, 5))
    found = surface_dice(reference.roll(2, dims=2), reference, (4.0, 4.0, 10.0), 1.0)
    face, sides = 80 * 80, 4 * 80 * 20
    assert face / (2 * face + sides) < found < (face + sides / 4) / (2 * face + sides)


def test_a_single_slice_is_scored_as_a_plane() -> None:
    flat = (slice(None), slice(None), 0)
    reference, moved = box((6, 6, 0), (16, 16, 1), (24, 22, 1)), box((9, 6, 0), (19, 16, 1), (24, 22, 1))
    solid = score_case("a", moved, reference, LABELS, (1.0, 2.0, 8.0), 1.0)
    plane = score_case("a", moved[flat], reference[flat], LABELS, (1.0, 2.0), 1.0)
    assert solid.hd95 == plane.hd95
    assert solid.surface_dice == plane.surface_dice
    assert solid.hd95["lesion"] == 3
    assert solid.reference_ml["lesion"] == pytest.approx(100 * 16 / 1000)


def test_what_is_absent_is_noted_and_counted() -> None:
    empty, some = torch.zeros(24, 22, 12, dtype=torch.uint8), box((6, 6, 3), (16, 16, 8))
    spacing = (1.0, 1.0, 1.0)
    named = {"missed": (empty, some), "alarm": (some, empty), "nothing": (empty, empty), "good": (some, some)}
    scores = [score_case(name, *pair, LABELS, spacing, 1.0) for name, pair in named.items()]
    assert [note(one, "lesion") for one in scores] == [MISSED, FALSE_ALARM, ABSENT, ""]
    missed, alarm, nothing, good = (one.surface_dice["lesion"] for one in scores)
    assert (missed, good) == (0, 1)
    assert math.isnan(alarm)
    assert math.isnan(nothing)
    told = summary(scores, 1.0)
    assert told["dice"] == {"lesion": 0.5}
    assert told["surface_dice"] == {"lesion": 0.5}
    assert told["hd95_mm"] == {"lesion": 0}
    assert (told["not_scored"], told["missed"], told["false_alarms"]) == ({"lesion": 2}, {"lesion": 1}, {"lesion": 1})
    assert told["statistics"]["lesion"]["dice"] == {
        "mean": 0.5,
        "sd": pytest.approx(0.707107),
        "median": 0.5,
        "cases": 2,
    }
    assert told["statistics"]["lesion"]["hd95_mm"]["sd"] is None
    rows = {row["case"]: row for row in score_rows(told)}
    assert rows["missed"]["dice"] == 0
    assert rows["missed"]["hd95_mm"] is None
    assert rows["alarm"]["dice"] is None
    assert rows["alarm"]["predicted_ml"] == 0.5
    assert [row["note"] for row in rows.values()] == [MISSED, FALSE_ALARM, ABSENT, ""]

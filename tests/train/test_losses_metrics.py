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

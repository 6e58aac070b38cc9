"""Dice and 95th-percentile Hausdorff distance per class, by MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sauron_train.monai_parts import dice as dice_of
from sauron_train.monai_parts import surfaces


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case by class name; NaN where a class is absent from the reference, or never predicted (HD95)."""

    case: str
    dice: Mapping[str, float]
    hd95: Mapping[str, float]


def score_case(
    case: str,
    prediction: Tensor,
    reference: Tensor,
    labels: Mapping[str, int],
    spacing: Sequence[float] | None = None,
) -> CaseScores:
    """Compare two label maps of one case.

    Args:
        case: its name.
        prediction: (*spatial) class numbers.
        reference: (*spatial) class numbers.
        labels: class name to number, 0 is background and gets no score.
        spacing: voxel size in mm; None leaves HD95 out, which costs far more than Dice.
    """
    foreground = {name: value for name, value in labels.items() if value != 0}
    predicted, expected = (_one_hot(x, max(labels.values()) + 1) for x in (prediction, reference))
    values = dice_of()(predicted, expected, include_background=True, ignore_empty=True)[0].tolist()
    dice = {name: float(values[number]) for name, number in foreground.items()}
    hd95 = {
        name: _hd95(predicted[0, number].bool(), expected[0, number].bool(), spacing)
        for name, number in foreground.items()
        if spacing is not None
    }
    return CaseScores(case, dice, hd95)


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean per class over the cases in which it was scored; NaN where it never was."""
    names = list(scores[0]) if scores else []
    return {name: _mean([score[name] for score in scores]) for name in names}


def mean_over_classes(scores: Mapping[str, float]) -> float:
    """Mean over the classes that were scored; NaN if none was."""
    return _mean(list(scores.values()))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels.long(), classes).movedim(-1, 0).unsqueeze(0)


def _hd95(prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> float:
    if not bool(prediction.any()) or not bool(reference.any()):
        return float("nan")
    get_mask_edges, get_surface_distance = surfaces()
    # The distances of both surfaces together, as in the authors' code; MONAI's own HD95 takes each direction's
    # percentile and then the larger, which is stricter.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's own call of an argument it deprecates
        edges = get_mask_edges(prediction, reference, crop=True, always_return_as_numpy=True)[:2]
        millimetres = list(map(float, spacing))
        there, back = (
            get_surface_distance(a, b, distance_metric="euclidean", spacing=millimetres)
            for a, b in (edges, edges[::-1])
        )
    return float(np.percentile(np.concatenate([np.asarray(there), np.asarray(back)]), 95))


def to_labels(logits: Tensor) -> Tensor:
    """(B, K, *spatial) logits to (B, *spatial) uint8 class numbers."""
    return logits.argmax(dim=1).to(torch.uint8)

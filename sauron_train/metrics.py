"""Dice, 95th-percentile Hausdorff distance and surface Dice per class; distances by MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sauron_train.monai_parts import surface_dice, surfaces

NOTHING: float = float("nan")


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case by class name.

    NaN where a class is absent from the reference, and HD95 also where it is never predicted. `surface_dice` and the
    volumes in ml are empty where they were not asked for.
    """

    case: str
    dice: Mapping[str, float]
    hd95: Mapping[str, float]
    surface_dice: Mapping[str, float] = field(default_factory=dict)
    reference_ml: Mapping[str, float] = field(default_factory=dict)
    predicted_ml: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scores:
    dice: float
    hd95: float
    surface_dice: float
    reference: int
    predicted: int


def score_case(
    case: str,
    prediction: Tensor,
    reference: Tensor,
    labels: Mapping[str, int],
    spacing: Sequence[float] | None = None,
    tolerance: float | None = None,
) -> CaseScores:
    """Compare two label maps of one case.

    Args:
        case: its name.
        prediction: (*spatial) class numbers.
        reference: (*spatial) class numbers.
        labels: class name to number, 0 is background and gets no score.
        spacing: voxel size in mm; None leaves out all but Dice, which costs far less.
        tolerance: distance in mm that counts as no error; None leaves surface Dice and volumes out.
    """
    by_class = {
        name: _score(prediction == number, reference == number, spacing, tolerance)
        for name, number in labels.items()
        if number != 0
    }
    dice = {name: scores.dice for name, scores in by_class.items()}
    if spacing is None:
        return CaseScores(case, dice, {})
    hd95 = {name: scores.hd95 for name, scores in by_class.items()}
    if tolerance is None:
        return CaseScores(case, dice, hd95)
    millilitres = float(np.prod(spacing)) / 1000
    return CaseScores(
        case,
        dice,
        hd95,
        surface_dice={name: scores.surface_dice for name, scores in by_class.items()},
        reference_ml={name: scores.reference * millilitres for name, scores in by_class.items()},
        predicted_ml={name: scores.predicted * millilitres for name, scores in by_class.items()},
    )


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean per class over the cases in which it was scored; NaN where it never was."""
    names = list(scores[0]) if scores else []
    return {name: _mean([score[name] for score in scores]) for name in names}


def mean_over_classes(scores: Mapping[str, float]) -> float:
    """Mean over the classes that were scored; NaN if none was."""
    return _mean(list(scores.values()))


def to_labels(logits: Tensor) -> Tensor:
    """(B, K, *spatial) logits to (B, *spatial) uint8 class numbers."""
    return logits.argmax(dim=1).to(torch.uint8)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else NOTHING


def _score(predicted: Tensor, expected: Tensor, spacing: Sequence[float] | None, tolerance: float | None) -> _Scores:
    there, wanted = int(predicted.sum()), int(expected.sum())
    if not wanted:
        return _Scores(NOTHING, NOTHING, NOTHING, wanted, there)
    dice = 2 * int((predicted & expected).sum()) / (there + wanted)
    if not there:
        return _Scores(dice, NOTHING, 0.0, wanted, there)
    hd95 = surface = NOTHING
    if spacing is not None:
        masks, sides = _without_flat_axes((predicted, expected), spacing)
        hd95 = _hd95(*masks, sides)
        if tolerance is not None:
            surface = _surface_dice(*masks, sides, tolerance)
    return _Scores(dice, hd95, surface, wanted, there)


def _without_flat_axes(
    masks: tuple[Tensor, Tensor], spacing: Sequence[float]
) -> tuple[tuple[Tensor, Tensor], list[float]]:
    """A single slice is a plane: as a volume all of it would be surface."""
    axes = [axis for axis, side in enumerate(masks[0].shape) if side == 1][: max(masks[0].ndim - 2, 0)]
    predicted, expected = (mask.squeeze(axes) if axes else mask for mask in masks)
    return (predicted, expected), [float(side) for axis, side in enumerate(spacing) if axis not in axes]


def _hd95(prediction: Tensor, reference: Tensor, spacing: list[float]) -> float:
    get_mask_edges, get_surface_distance = surfaces()
    # The distances of both surfaces together, as in the authors' code; MONAI's own HD95 takes each direction's
    # percentile and then the larger, which is stricter.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's own call of an argument it deprecates
        edges = get_mask_edges(prediction, reference, crop=True, always_return_as_numpy=True)[:2]
        there, back = (
            get_surface_distance(a, b, distance_metric="euclidean", spacing=spacing) for a, b in (edges, edges[::-1])
        )
    return float(np.percentile(np.concatenate([np.asarray(there), np.asarray(back)]), 95))


def _surface_dice(prediction: Tensor, reference: Tensor, spacing: list[float], tolerance: float) -> float:
    """Share of both surfaces that lies within `tolerance` mm of the other (Nikolov et al., arXiv:1809.04430).

    Surfaces run between voxels and count by their area: edge voxels would count the same on the large face of an
    anisotropic voxel as on a small one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        share = surface_dice()(
            prediction[None, None].cpu(),
            reference[None, None].cpu(),
            [tolerance],
            include_background=True,
            spacing=spacing,
            use_subvoxels=True,
        )
    return cast(float, share.item())

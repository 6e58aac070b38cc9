"""What is made of the scores of many cases: means, spread, and which were not scored and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sauron_train.metrics import CaseScores, mean_over_classes, mean_scores

TOLERANCE_MM = 1.0

MISSED = "missed"
FALSE_ALARM = "absent from the reference but predicted"
ABSENT = "absent from both"

_METRICS = {"dice": "dice", "hd95_mm": "hd95", "surface_dice": "surface_dice"}


def note(scores: CaseScores, name: str) -> str:
    """Why a class of a case has no score, or 0: "" where it is in the reference and was predicted."""
    reference, predicted = scores.reference_ml[name] > 0, scores.predicted_ml[name] > 0
    if reference:
        return "" if predicted else MISSED
    return FALSE_ALARM if predicted else ABSENT


def summary(scores: Sequence[CaseScores], tolerance: float) -> dict[str, Any]:
    """Scores of cases and what they come to, as plain values; None where nothing was scored.

    A class that is absent from a case's reference has no score for it: it is counted in `not_scored`, and in
    `false_alarms` where it was predicted all the same. A class that was `missed` has Dice and surface Dice 0 and no
    HD95, so it does not count in the mean of that.

    Args:
        scores: of one case each, with surface Dice and volumes.
        tolerance: in mm, of the surface Dice.

    Returns:
        Means per class and over all classes, `statistics` (mean, standard deviation, median, number of scored cases)
        per class and metric, counts per class of what was not scored, missed and a false alarm, and the `cases`.
    """
    by_class = {key: [getattr(s, attribute) for s in scores] for key, attribute in _METRICS.items()}
    means = {key: mean_scores(values) for key, values in by_class.items()}
    names = list(scores[0].dice)
    notes = {name: [note(s, name) for s in scores] for name in names}
    return {
        **{f"mean_{key}": _plain(mean_over_classes(values)) for key, values in means.items()},
        **{key: {name: _plain(value) for name, value in values.items()} for key, values in means.items()},
        "tolerance_mm": tolerance,
        "statistics": {
            name: {key: _statistics([value[name] for value in values]) for key, values in by_class.items()}
            for name in names
        },
        "not_scored": {name: sum(n in (FALSE_ALARM, ABSENT) for n in notes[name]) for name in names},
        "missed": {name: notes[name].count(MISSED) for name in names},
        "false_alarms": {name: notes[name].count(FALSE_ALARM) for name in names},
        "cases": [_case(s) for s in scores],
    }


def _case(scores: CaseScores) -> dict[str, Any]:
    columns: Mapping[str, Mapping[str, float]] = {
        **{key: getattr(scores, attribute) for key, attribute in _METRICS.items()},
        "reference_ml": scores.reference_ml,
        "predicted_ml": scores.predicted_ml,
    }
    plain = {key: {name: _plain(value) for name, value in values.items()} for key, values in columns.items()}
    notes = {name: note(scores, name) for name in scores.dice}
    return {"case": scores.case, **plain, "notes": {name: text for name, text in notes.items() if text}}


def _statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    scored = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": _plain(float(scored.mean())) if scored.size else None,
        "sd": _plain(float(scored.std(ddof=1))) if scored.size > 1 else None,
        "median": _plain(float(np.median(scored))) if scored.size else None,
        "cases": int(scored.size),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)

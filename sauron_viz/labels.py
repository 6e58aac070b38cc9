"""What groups of runs are called beside each other: by the settings in which they differ, and by few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# So many settings are all named; of more, those that it takes to know a group from each of the others.
_ALL_NAMED = 2

Settings = Mapping[str, Any]


def tell_apart(labels: Sequence[str], settings: Sequence[Settings]) -> list[str]:
    """Labels, where several are the same with settings behind them; the same still where no setting differs.

    Args:
        labels: one of each group.
        settings: what each was trained with, by names of the configuration ("prune.threshold_max").
    """
    told = []
    for place, (label, mine) in enumerate(zip(labels, settings, strict=True)):
        others = [settings[i] for i, other in enumerate(labels) if other == label and i != place]
        told.append(", ".join([label, *(f"{_name(key)} {short(mine[key])}" for key in _telling(mine, others))]))
    return told


def short(value: Any) -> str:
    """The value of a setting in a few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "×".join(short(item) for item in value)
    return "none" if value is None else str(value)


def _name(key: str) -> str:
    section, _, name = key.rpartition(".")
    # "name adam" would say nothing.
    return section if name == "name" else name


def _telling(mine: Settings, others: Sequence[Settings]) -> list[str]:
    """The settings that tell a group from all others, in the order of the configuration."""
    differing = [key for key in mine if any(_differs(key, mine, other) for other in others)]
    if len(differing) <= _ALL_NAMED:
        return differing
    chosen, left = [], list(others)
    while left:
        # Whatever tells it from most of the rest comes next: a few settings are enough for any number of groups.
        best = max(differing, key=lambda key: sum(_differs(key, mine, other) for other in left))
        still = [other for other in left if not _differs(best, mine, other)]
        if len(still) == len(left):
            break
        chosen.append(best)
        left = still
    return [key for key in differing if key in chosen]


def _differs(key: str, mine: Settings, other: Settings) -> bool:
    return key not in other or mine[key] != other[key]

"""Runs that differ in nothing but seed or fold, taken together: their curves and ends, against the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sauron_viz.labels import short, tell_apart
from sauron_viz.runs import RunView
from sauron_viz.summaries import Summary

BASELINE = "baseline"
# What a run may be called, and where it was trained, decides nothing.
_NO_MATTER = ("name", "description", "preset", "seed", "hardware", "probe", "maps", "data.workers")
# Where these differ, scores are of other voxels, or costs of another network.
_MATTERS_MOST = ("data.", "preprocess.", "network.")
# The folds of a cross-validation are one group, as seeds are.
_FOLD = "data.fold"


@dataclass(frozen=True)
class Spread:
    """Mean, smallest and largest of some runs."""

    mean: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """None where no run has a value."""
        known = [value for value in values if value is not None]
        return cls(float(np.mean(known)), min(known), max(known), len(known)) if known else None


@dataclass(frozen=True)
class Group:
    """Runs of the same data set and settings; `label` tells them from other groups that are shown with them."""

    label: str
    dataset: str
    mode: str
    settings: Mapping[str, Any]
    views: tuple[RunView, ...]
    summaries: tuple[Summary, ...]

    @property
    def is_baseline(self) -> bool:
        """Whether it was trained without δ_opt and without cuts."""
        return self.mode == BASELINE

    @property
    def title(self) -> str:
        """Its label, and over how many seeds, folds or runs its mean is where they are several."""
        count = len(self.views)
        if count == 1:
            return self.label
        ways = {way: len(values) for way, values in self.ways.items() if len(values) > 1}
        whole = ways and math.prod(ways.values()) == count
        what = " × ".join(f"{number} {way}s" for way, number in ways.items()) if whole else f"{count} runs"
        return f"{self.label}, {what}"

    @property
    def ways(self) -> dict[str, set[int | None]]:
        """The seeds and the folds of its runs; they can differ in nothing else."""
        return {
            "seed": {view.info.seed for view in self.views},
            "fold": {view.config.data.fold for view in self.views},
        }

    def spread(self, of: Callable[[Summary], float | None]) -> Spread | None:
        """Of how its runs ended."""
        return Spread.of([of(summary) for summary in self.summaries])

    def curve(self, column: str, window: int = 1) -> pd.DataFrame:
        """A column of epochs.csv over the epochs that all runs have reached.

        Args:
            column: one of epochs.csv, or "hd95", the mean over labels.
            window: epochs over which each run is averaged, around every epoch; at the ends over those that are there.

        Returns:
            epoch, mean, low and high over the runs.
        """
        parts = [_smooth(_column(view.epochs, column), window) for view in self.views if len(view.epochs)]
        table = pd.concat(parts, axis=1, join="inner").dropna() if parts else pd.DataFrame()
        if table.empty:
            return pd.DataFrame({"epoch": [], "mean": [], "low": [], "high": []})
        values = table.to_numpy(float)
        columns = {"mean": values.mean(axis=1), "low": values.min(axis=1), "high": values.max(axis=1)}
        return pd.DataFrame({"epoch": table.index.astype(int), **columns})


def group_runs(views: Sequence[RunView], summaries: Sequence[Summary]) -> list[Group]:
    """Put runs together that differ in nothing but their seed or fold; the baseline of each data set first.

    Args:
        views: trained runs.
        summaries: the lines of the same runs.
    """
    settings = [_settings(view) for view in views]
    found: dict[tuple[Any, ...], list[int]] = {}
    for place, view in enumerate(views):
        key = (view.info.dataset, view.info.fingerprint, repr(settings[place]))
        found.setdefault(key, []).append(place)
    members = list(found.values())
    labels = _labels([(views[places[0]], settings[places[0]]) for places in members])
    groups = [
        Group(
            label,
            views[places[0]].info.dataset,
            views[places[0]].config.mode,
            settings[places[0]],
            tuple(views[i] for i in places),
            tuple(summaries[i] for i in places),
        )
        for label, places in zip(labels, members, strict=True)
    ]
    order = {dataset: i for i, dataset in enumerate(dict.fromkeys(group.dataset for group in groups))}
    return sorted(groups, key=lambda group: (order[group.dataset], not group.is_baseline))


def averaged_over(groups: Sequence[Group]) -> list[str]:
    """What runs differ in over which the mean of any group is taken: "seed", "fold"; "" where in neither."""
    found = set()
    for group in groups:
        if len(group.views) > 1:
            found |= {way for way, values in group.ways.items() if len(values) > 1} or {""}
    return [way for way in ("seed", "fold", "") if way in found]


def baseline_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The baseline that a group is to be measured against: of those of its data set the one that is most like it."""
    baselines = [other for other in groups if other.is_baseline and other.dataset == group.dataset]
    return min(
        baselines,
        key=lambda base: (not are_comparable(group, base), len(other_settings(group, base))),
        default=None,
    )


def are_comparable(group: Group, other: Group) -> bool:
    """Whether two groups have the same data, preprocessing and unpruned network, so that differences mean something."""
    return not any(
        group.settings.get(key) != other.settings.get(key)
        for key in group.settings.keys() | other.settings.keys()
        if key.startswith(_MATTERS_MOST)
    )


def other_settings(group: Group, other: Group) -> list[str]:
    """What differs between two groups beside δ_opt and pruning, by the names of the configuration."""
    asked = [key for key in group.settings if not key.startswith(("loss.", "prune.", "maps.", "probe."))]
    return [f"{key} {short(group.settings[key])}" for key in asked if group.settings[key] != other.settings.get(key)]


def _settings(view: RunView) -> dict[str, Any]:
    values = view.config.model_dump(by_alias=True, mode="json")
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in _NO_MATTER:
            continue
        inner = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{name}.{key}": inner_value for key, inner_value in inner} or {name: value}
    # The FLOPs that a rival was to reach follow from the run that it is matched with, so each seed has others.
    return {key: value for key, value in flat.items() if key not in (_FOLD, "rival.flops", *_NO_MATTER)}


def _labels(groups: Sequence[tuple[RunView, dict[str, Any]]]) -> list[str]:
    views = [view for view, _ in groups]
    several = len({view.info.dataset for view in views}) > 1
    plain = [f"{view.info.dataset}: {view.config.mode}" if several else view.config.mode for view in views]
    labels = tell_apart(plain, [settings for _, settings in groups])
    # The same settings on data that has changed in between.
    titles = [view.title for view in views]
    names = [view.title if titles.count(view.title) == 1 else view.name for view in views]
    return [label if labels.count(label) == 1 else f"{label}, {names[i]}" for i, label in enumerate(labels)]


def _column(epochs: pd.DataFrame, column: str) -> pd.Series[float]:
    table = epochs.set_index("epoch")
    if column == "hd95":
        return table[[name for name in table.columns if name.startswith("hd95_")]].mean(axis=1)
    return table[column].astype(float) if column in table else pd.Series(dtype=float)


def _smooth(values: pd.Series[float], window: int) -> pd.Series[float]:
    return values.rolling(window, center=True, min_periods=1).mean() if window > 1 else values

"""Who is trained on and who validates: whole patients, chosen by the seed alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from sauron_train.config_data import DataConfig
from sauron_train.data.types import Case, Dataset, Split
from sauron_train.errors import ConfigError, DataError


def split_cases(dataset: Dataset, config: DataConfig, seed: int) -> Split:
    """Split the cases so that no patient is on both sides and each side has at least one.

    `config.validation` is the share of the patients (not of the cases) that is kept for validation. With `config.folds`
    the seed deals the patients into folds of equal size, give or take one, and `config.fold` validates: over the folds
    every patient does so exactly once. The split depends on the names and the seed only, not on the order of the files.

    Raises:
        ConfigError: `data.group_by` is no regular expression with exactly one group.
        DataError: a case whose name does not match, fewer than two patients, or fewer patients than folds.
    """
    groups = _groups(dataset.cases, config.group_by)
    if len(groups) < 2:
        raise DataError(
            f"{dataset.name} holds {_only(groups, config)}; a split into training and validation needs at least two"
        )
    names = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = {names[i] for i in order[_validating(config, len(names), dataset.name)]}
    return Split(
        train=_members(groups, (name for name in names if name not in kept)),
        validation=_members(groups, (name for name in names if name in kept)),
    )


def _validating(config: DataConfig, patients: int, dataset: str) -> slice:
    """Which places in the drawn order of the patients validate."""
    if config.folds is None:
        return slice(min(max(round(config.validation * patients), 1), patients - 1))
    if config.folds > patients:
        raise DataError(f"{dataset} holds {patients} patients, which cannot be dealt into {config.folds} folds")
    return slice(config.fold, None, config.folds)


def _groups(cases: Iterable[Case], group_by: str | None) -> dict[str, list[Case]]:
    pattern = _pattern(group_by)
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.name):
        groups.setdefault(_group(case, pattern), []).append(case)
    return groups


def _pattern(group_by: str | None) -> re.Pattern[str] | None:
    if group_by is None:
        return None
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"data.group_by {group_by!r} is not a regular expression: {error}") from None
    if pattern.groups != 1:
        raise ConfigError(
            f"data.group_by {group_by!r} has {pattern.groups} groups; put one pair of parentheses around the patient"
        )
    return pattern


def _group(case: Case, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return case.patient or case.name
    match = pattern.search(case.name)
    if match is None or match[1] is None:
        raise DataError(
            f"case {case.name} does not match data.group_by {pattern.pattern!r}; correct the expression, or set it to "
            "null if every case is a patient of its own"
        )
    return match[1]


def _only(groups: dict[str, list[Case]], config: DataConfig) -> str:
    if not groups:
        return "no case"
    return "one case" if config.group_by is None else f"one patient, {next(iter(groups))!r}"


def _members(groups: dict[str, list[Case]], names: Iterable[str]) -> tuple[Case, ...]:
    return tuple(sorted((case for name in names for case in groups[name]), key=lambda case: case.name))

"""Why a layer's threshold rose or stayed in an epoch, in one sentence."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sauron_train.config import PruneConfig

CONDITIONS = {
    "enough_epochs": "enough epochs",
    "training_loss_settled": "training loss settled",
    "no_new_best_validation": "no new best validation",
    "few_filters_removed": "few filters removed",
}


def reason(row: Mapping[str, Any], config: PruneConfig, before: Mapping[str, Any] | None = None) -> str:
    """What was decided for a layer in an epoch, and why.

    Args:
        row: a line of layers.csv as a table.
        config: how the run prunes.
        before: the line of the epoch before, where there is one.
    """
    tau = row.get("threshold")
    if not config.enabled:
        return "Pruning is switched off in this run."
    if tau is None or pd.isna(tau):
        if row["epoch"] < config.first_epoch:
            return f"Pruning begins in epoch {config.first_epoch}."
        if config.last_epoch is not None and row["epoch"] > config.last_epoch:
            return f"Pruning ended with epoch {config.last_epoch}."
        return "Nothing was decided for this layer in this epoch."
    return f"{_threshold(row, config, before)} {_cut(row, config)}"


def _threshold(row: Mapping[str, Any], config: PruneConfig, before: Mapping[str, Any] | None) -> str:
    tau, patience = float(row["threshold"]), int(row["patience"])
    if _true(row.get("raised")):
        was = "" if before is None or pd.isna(before.get("threshold")) else f" from {before['threshold']:.3f}"
        why = "its turn had come" if config.converge_on == "always" else "all conditions held"
        return f"τ rose{was} to {tau:.3f}: {why}."
    if tau >= config.threshold_max - 1e-9:
        return f"τ stays at {tau:.3f}: that is τ_max."
    if before is not None and not pd.isna(before.get("patience")) and int(before["patience"]) > 0:
        left = (
            f"waits {patience} more epoch{'' if patience == 1 else 's'}" if patience else "may rise in the next epoch"
        )
        return f"τ stays at {tau:.3f}: it had risen lately, and {left}."
    failed = [name for column, name in CONDITIONS.items() if _false(row.get(column))]
    if failed:
        return f"τ stays at {tau:.3f}: not yet {_listed(failed)}."
    return f"τ is {tau:.3f}."


def _cut(row: Mapping[str, Any], config: PruneConfig) -> str:
    removed, smallest, multiple = int(row["removed"]), row.get("delta_prune_min"), config.width_multiple
    if removed:
        filters = f"{removed} filter{'s' if removed > 1 else ''}"
        if multiple == 1:
            return f"{filters} lay below it and went."
        return f"{filters} below it went, as many as widths in multiples of {multiple} allow."
    if smallest is None or pd.isna(smallest):
        return "No filter went."
    measured = f"No filter went: the smallest δ_prune was {smallest:.3f}"
    if multiple == 1 or smallest >= float(row["threshold"]):
        return f"{measured}."
    if any(fnmatch.fnmatchcase(str(row["layer"]), pattern) for pattern in config.exclude):
        return f"{measured}, but the layer is excluded from cuts."
    return f"{measured}, but too few lie below τ for the next step in multiples of {multiple}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _true(value: object) -> bool:
    return value is True or str(value).lower() == "true"


def _false(value: object) -> bool:
    return value is False or str(value).lower() == "false"

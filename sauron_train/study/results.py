"""A study's runs as one table: a row per run, and per arm their mean, spread, and difference to the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.study.plan import Planned
from sauron_train.study.work import comparable, state

_LAST = 3
# Letters of a data set's fingerprint, enough to tell data sets apart.
_SHORT = 12


@dataclass(frozen=True)
class Measure:
    """A column of the table of arms: which of the runs' columns it is the mean of, and how it is written.

    Those that are `brief` fit beside each other on a terminal.
    """

    column: str
    heading: str
    digits: int
    percent: bool = False
    signed: bool = False
    brief: bool = True

    def cell(self, values: pd.Series[float]) -> str:
        """Mean and standard deviation of the runs of an arm that have a value, and how many these are if not all."""
        known = values.dropna() * (100 if self.percent else 1)
        if known.empty:
            return "–"
        sign = "+" if self.signed else ""
        text = f"{known.mean():{sign}.{self.digits}f}".replace("-", "−")
        text += f" ± {known.std(ddof=1):.{self.digits}f}" if len(known) > 1 else ""
        text = f"{text} %" if self.percent else text
        return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


MEASURES = (
    Measure("dice", "Dice", 3),
    Measure("dice_difference", "Δ Dice", 3, signed=True),
    Measure("hd95_mm", "HD95 (mm)", 2),
    Measure("dice_original", "Dice, original grid", 3, brief=False),
    Measure("dice_original_difference", "Δ Dice, original grid", 3, signed=True, brief=False),
    Measure("hd95_original_mm", "HD95 (mm), original grid", 2, brief=False),
    Measure("filters", "filters", 0, percent=True, brief=False),
    Measure("parameters", "parameters", 0, percent=True, brief=False),
    Measure("flops", "FLOPs", 0, percent=True),
    Measure("minutes", "min", 1, brief=False),
)
_COMPARED = ("dice", "dice_original")
_WHO = ("run", "arm", "seed", "fold", "status", "dataset", "data", "mode", "epochs")


def run_rows(planned: Sequence[Planned], baseline: str | None) -> pd.DataFrame:
    """One row per run that is wanted or was begun, in the order of the plan.

    Returns:
        run, arm, the keys of the grid, seed, fold, status, dataset, data (its fingerprint), mode, epochs; dice and
        hd95_mm of the last epoch on the validation cases (means over labels; no HD95 where a label was found in no
        case), dice_last3 (mean of the last three epochs) and dice_LABEL; dice_original, hd95_original_mm and
        missed_original (how often a structure that is there was not found) of a plain `sauron-train evaluate`;
        filters, parameters and flops as shares of what the network had before; minutes of training and validation;
        and `*_difference` to the baseline of the same seed, fold and data. Runs that are not finished have no more
        than what they are.
    """
    planned = [run for run in planned if run.wanted or state(run.folder) != "absent"]
    grid = list(dict.fromkeys(key for run in planned for key in run.grid))
    rows = [_row(run, grid) for run in planned]
    heads = [*_WHO[:2], *grid, *_WHO[2:]]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys([*heads, *(key for row in rows for key in row)])))
    for column in (name for name in _COMPARED if name in table and baseline is not None):
        found = list(zip(planned, table["data"], table[column], strict=True))
        table[f"{column}_difference"] = [
            math.nan if run.setting == baseline else value - _of_baseline(run, data, found, baseline)
            for run, data, value in found
        ]
    return table


def arm_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, also one whose runs all failed: how many are finished; mean, sd and range of every measure."""
    rows = []
    for arm, group in _by_arm(runs):
        row: dict[str, Any] = {"arm": arm, "runs": len(group)}
        for measure in _present(runs):
            values = group[measure.column].dropna()
            spread = {"mean": values.mean(), "sd": values.std(ddof=1), "low": values.min(), "high": values.max()}
            row |= {f"{measure.column}_{name}": value for name, value in spread.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def shown_arms(runs: pd.DataFrame, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """The table of arms as a person reads it: headings, and cells of mean ± standard deviation over runs."""
    measures = [measure for measure in _present(runs) if measure.brief or not brief]
    rows = [
        [str(arm), str(len(group)), *(measure.cell(group[measure.column]) for measure in measures)]
        for arm, group in _by_arm(runs)
    ]
    return ["arm", "runs", *(measure.heading for measure in measures)], rows


def _of_baseline(run: Planned, data: Any, found: Sequence[tuple[Planned, Any, float]], baseline: str | None) -> float:
    # Of the same data only: a study may have been gone on with on another data set.
    known = (v for other, d, v in found if other.setting == baseline and d == data and run.is_beside(other))
    return next(known, math.nan)


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["status"] == "finished"]


def _by_arm(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    done = _finished(runs)
    return [(arm, done[done["arm"] == arm]) for arm in dict.fromkeys(runs["arm"])]


def _present(runs: pd.DataFrame) -> list[Measure]:
    done = _finished(runs)
    return [m for m in MEASURES if m.column in done and done[m.column].notna().any()]


def _row(planned: Planned, grid: Sequence[str]) -> dict[str, Any]:
    # An arm that sets a key itself has a value of it too.
    values = {**planned.keys, **planned.grid}
    who: dict[str, Any] = {"run": planned.name, "arm": planned.arm, **{key: values.get(key) for key in grid}}
    who |= {"seed": planned.seed, "fold": -1}
    if planned.fold is not None:
        who["fold"] = planned.fold
    if state(planned.folder) == "absent":
        return who | {"status": "not begun"}
    try:
        run = Run(planned.folder)
        info, epochs = run.info, run.epochs()
        what: dict[str, Any] = {"status": run.status, "dataset": info.dataset, "data": info.fingerprint[:_SHORT]}
        what |= {"mode": info.mode, "epochs": len(epochs)}
        if run.status != "finished" or epochs.empty:
            return who | what
        return who | what | _ending(run, epochs) | _evaluated(run)
    except SauronError:
        return who | {"status": "damaged"}


def _ending(run: Run, epochs: pd.DataFrame) -> dict[str, float]:
    info, last = run.info, epochs.iloc[-1]
    distances = [float(last[name]) for name in epochs.columns if name.startswith("hd95_")]
    return {
        "dice": float(last["val_dice"]),
        "dice_last3": float(epochs["val_dice"].iloc[-_LAST:].mean()),
        **{name: float(last[name]) for name in epochs.columns if name.startswith("dice_")},
        # NaN where a structure was found in no case: the mean of the others would flatter a network that misses it.
        "hd95_mm": sum(distances) / len(distances) if distances else math.nan,
        "filters": float(last["filters"]) / sum(layer.filters for layer in info.layers),
        "parameters": float(last["parameters"]) / info.parameters,
        "flops": float(last["flops"]) / info.flops,
        "minutes": float(epochs["seconds"].sum()) / 60,
    }


def _evaluated(run: Run) -> dict[str, float]:
    found = run.evaluation() if comparable(run) else None
    if found is None:
        return {}
    named = {"dice_original": found.get("mean_dice"), "hd95_original_mm": found.get("mean_hd95_mm")}
    missed = {"missed_original": float(sum(found["missed"].values()))} if "missed" in found else {}
    return {key: float(value) for key, value in named.items() if value is not None} | missed

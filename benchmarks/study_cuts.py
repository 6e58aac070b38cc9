"""What compensated cuts and several references do to whole runs: the table of docs/method.md.

python benchmarks/study_cuts.py ../shared/data runs/cuts --jobs 2

Trains `prune.compensate` none and merge with `prune.references` one and all, and the unpruned baseline, on both real
data sets with three seeds each, by recipes scaled down until thirty runs fit into two hours on two cores. A run that
is finished is not trained again, so the study can be stopped and gone on with. Not part of the tests.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from training import finished, train

from sauron_train.runlog import Run

SMALLER = {
    "hippocampus3d": (
        "Dataset004_Hippocampus",
        (
            "data.patch=[24, 32, 24]",
            "preprocess.spacing=[1.5, 1.5, 1.5]",
            "data.validation=0.1",
            "network.levels=3",
            "prune.threshold_max=0.4",
        ),
    ),
    "sunnybrook2d": (
        "Dataset101_SunnybrookLV",
        ("data.patch=[64, 64]", "preprocess.spacing=[4, 4, null]", "network.levels=4", "prune.threshold_max=0.35"),
    ),
}
COMBINATIONS: Mapping[str, tuple[str, ...]] = {
    **{
        f"{compensate}, {references}": (f"prune.compensate={compensate}", f"prune.references={references}")
        for compensate, references in itertools.product(("none", "merge"), ("one", "all"))
    },
    "unpruned": ("prune.enabled=false", "loss.lambda=0"),
}
SEEDS = (0, 1, 2)
COLUMNS = {
    "jump": "validation loss after a cut / before",
    "train_loss": "training loss at the end",
    "dice": "Dice",
    "flops": "FLOPs left",
    "parameters": "parameters left",
}


@dataclass(frozen=True)
class Trial:
    """One run of the study."""

    recipe: str
    combination: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        return out / f"{self.recipe}-{self.combination.replace(', ', '-')}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds both data sets")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, with one thread each")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="changes of all runs")
    arguments = parser.parse_args()
    trials = [Trial(*parts) for parts in itertools.product(SMALLER, COMBINATIONS, SEEDS)]
    # All combinations of the first seed before the next, so that a study that is stopped early still compares.
    trials.sort(key=lambda trial: (trial.combination == "unpruned", trial.seed))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for trial, _ in zip(
            trials,
            pool.map(lambda t: train_one(t, arguments.data, arguments.out, arguments.changes), trials),
            strict=True,
        ):
            print(f"have {trial}", file=sys.stderr, flush=True)
    print(table([trial for trial in trials if finished(trial.folder(arguments.out))], arguments.out))


def train_one(trial: Trial, data: Path, out: Path, changes: Iterable[str]) -> None:
    dataset, smaller = SMALLER[trial.recipe]
    settings = [*smaller, *COMBINATIONS[trial.combination], f"seed={trial.seed}", "maps.every=100", *changes]
    train(trial.recipe, data / dataset, trial.folder(out), settings)


def table(trials: Iterable[Trial], out: Path) -> str:
    """Mean ± standard deviation over the seeds that are there, as Markdown."""
    rows = pd.DataFrame([figures(trial, out) for trial in trials])
    lines = [f"| data | compensate, references | seeds | {' | '.join(COLUMNS.values())} |"]
    lines.append("|---|---|---|" + "---|" * len(COLUMNS))
    for (recipe, combination), group in rows.groupby(["recipe", "combination"], sort=False):
        cells = [spread(group[name]) for name in COLUMNS]
        lines.append(f"| {recipe} | {combination} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figures(trial: Trial, out: Path) -> dict[str, str | float]:
    run = Run(trial.folder(out))
    epochs = run.epochs()
    last, cuts = epochs.iloc[-1], epochs[epochs["filters_removed"] > 0]
    return {
        "recipe": trial.recipe,
        "combination": trial.combination,
        "jump": float((cuts["val_loss"] / cuts["val_loss_before_cut"]).mean()),
        "train_loss": float(epochs["train_segmentation_loss"].iloc[-3:].mean()),
        "dice": float(epochs["val_dice"].iloc[-3:].mean()),
        "flops": last["flops"] / run.info.flops,
        "parameters": last["parameters"] / run.info.parameters,
    }


def spread(values: pd.Series) -> str:
    if values.isna().all():
        return "–"
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()

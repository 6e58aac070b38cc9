"""What widths in multiples are worth: free cuts against `prune.width_multiple` 8 and 16, in Dice, FLOPs and time.

python benchmarks/widths.py sunnybrook2d ../shared/data/Dataset101_SunnybrookLV runs/widths --seeds 0 1 2

Trains a recipe with each multiple and seed, then times every cut network beside the unpruned one: eager, one thread,
all in turn. `time / FLOPs` is 1 where a network that has a third of the FLOPs left takes a third of the time; with 16
it should be at most 1.35. A run that is finished is not trained again, so it can be stopped and gone on with. Not part
of the tests: it takes as long as training takes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from timing import median_seconds
from torch import nn
from training import finished, train

from sauron_train.checkpoint import load_model
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.runlog import Run

AIM = {16: 1.35}
COLUMNS = {
    "dice": "Dice",
    "filters": "filters left",
    "parameters": "parameters left",
    "flops": "FLOPs left",
    "time": "time left",
    "ratio": "time / FLOPs",
}


@dataclass(frozen=True)
class Trial:
    """One run."""

    multiple: int
    seed: int

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        return out / f"multiple-{self.multiple}-seed-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--multiples", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="changes", action="append", default=[], help="changes of all runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with one thread each")
    parser.add_argument("--batch", type=int, default=2, help="patches at once when times are taken")
    parser.add_argument("--rounds", type=int, default=31, help="how often times are taken")
    arguments = parser.parse_args()
    # All multiples of the first seed before the next, so that a study that is stopped early still compares.
    trials = [Trial(multiple, seed) for seed, multiple in itertools.product(arguments.seeds, arguments.multiples)]

    def train_one(trial: Trial) -> None:
        settings = [f"prune.width_multiple={trial.multiple}", f"seed={trial.seed}", *arguments.changes]
        train(arguments.recipe, arguments.data, trial.folder(arguments.out), settings)
        print(f"have {trial}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(train_one, trials))
    runs = {trial: Run(trial.folder(arguments.out)) for trial in trials if finished(trial.folder(arguments.out))}
    times = time_left(list(runs.values()), arguments.batch, arguments.rounds)
    rows = [figures(trial, run, time) for (trial, run), time in zip(runs.items(), times, strict=True)]
    print(table(pd.DataFrame(rows)))


def time_left(runs: Sequence[Run], batch: int, rounds: int) -> list[float]:
    """Share of the unpruned network's time that the last network of each run takes; patches as in training."""
    info, config = runs[0].info, runs[0].config
    whole = UNetSpec.unpruned(config.network, len(info.channels), len(info.labels))
    networks: dict[int, nn.Module] = {i: load_model(run.checkpoint(None)[1])[0] for i, run in enumerate(runs)}
    images = torch.randn(batch, len(info.channels), *config.data.patch)
    seconds = median_seconds({-1: UNet(whole), **networks}, images, rounds)
    return [seconds[i] / seconds[-1] for i in networks]


def figures(trial: Trial, run: Run, time: float) -> dict[str, float]:
    last, info = run.epochs().iloc[-1], run.info
    flops = last["flops"] / info.flops
    return {
        "multiple": trial.multiple,
        "dice": last["val_dice"],
        "filters": last["filters"] / sum(layer.filters for layer in info.layers),
        "parameters": last["parameters"] / info.parameters,
        "flops": flops,
        "time": time,
        "ratio": time / flops,
    }


def table(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds that are there, as Markdown; whether the aim was met below it."""
    lines = [f"| width_multiple | seeds | {' | '.join(COLUMNS.values())} |", "|---|---|" + "---|" * len(COLUMNS)]
    told = []
    for multiple, group in rows.groupby("multiple"):
        cells = [spread(group[name]) for name in COLUMNS]
        lines.append(f"| {multiple} | {len(group)} | {' | '.join(cells)} |")
        if multiple in AIM:
            mean, most = group["ratio"].mean(), AIM[int(multiple)]
            met = "met" if mean <= most else "missed"
            told.append(f"time / FLOPs with {multiple}: {mean:.2f}, at most {most} is the aim: {met}.")
    return "\n".join([*lines, "", *told])


def spread(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()

"""Which layers become more clusterable, with δ_opt and without it: the tables of docs/results.md.

python benchmarks/study_table4.py ../shared/data/Dataset101_SunnybrookLV runs/table4 --jobs 2

Trains the paper's Rats network on cardiac MR without pruning, with λ = 0.5 and with λ = 0, by two seeds each: over
half an hour for each two on two cores. A run that is finished is not trained again, so the study can be stopped and
gone on with. Not part of the tests.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from training import finished, train

from sauron_train.analysis.tables import table4
from sauron_train.analysis.trends import LARGE, MEASURES, agreement, paper_table4, summarise
from sauron_train.runlog import Run
from sauron_viz.tables import percent

RECIPE = "sunnybrook2d_rats"
LAMBDAS = ("0.5", "0")
SEEDS = (0, 1)
RADII = (0.02, 0.05, 0.1, 0.2)
HEADINGS = {"dip": "dip", "delta_opt": "δ_opt", "neighbours": "neighbours"}
Trial = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data set")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, with one thread each; 0 = only the tables")
    arguments = parser.parse_args()
    # Both λ of the first seed before the next, so that a study that is stopped early still compares.
    trials = [(weight, seed) for seed, weight in itertools.product(SEEDS, LAMBDAS)]
    if arguments.jobs:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for trial, _ in zip(trials, pool.map(lambda t: train_one(*t, arguments), trials), strict=True):
                print(f"have λ = {trial[0]}, seed {trial[1]}", file=sys.stderr, flush=True)
    runs = {t: Run(folder(arguments.out, *t)) for t in trials if finished(folder(arguments.out, *t))}
    print(beside_paper(runs), readings(runs), by_radius(runs), sep="\n\n")


def folder(out: Path, weight: str, seed: int) -> Path:
    return out / f"lambda{weight}-seed{seed}"


def train_one(weight: str, seed: int, arguments: argparse.Namespace) -> None:
    settings = (f"loss.lambda={weight}", f"seed={seed}")
    train(RECIPE, arguments.data, folder(arguments.out, weight, seed), settings)


def beside_paper(runs: dict[Trial, Run]) -> str:
    """The paper's Table 4 and those of the runs with δ_opt, layer by layer, as Markdown."""
    paper = paper_table4().set_index("layer")
    ours = {seed: table4(run).set_index("layer") for (weight, seed), run in runs.items() if weight == LAMBDAS[0]}
    columns = [f"{name}, {who}" for name in HEADINGS.values() for who in ("paper", *(f"seed {s}" for s in ours))]
    lines = [heading(["layer", "filters", *columns])]
    for layer, row in paper.iterrows():
        tables = [paper, *ours.values()]
        cells = [percent(float(table.loc[layer, measure])) for measure in MEASURES for table in tables]
        lines.append(line([str(layer), str(int(row["filters"])), *cells]))
    return "\n".join(lines)


def readings(runs: dict[Trial, Run]) -> str:
    """The paper's reading of its table, of the paper and of every run, as Markdown."""
    paper = paper_table4()
    names = {"dip": "dip rose", "delta_opt": "δ_opt fell", "neighbours": "neighbours rose"}
    lines = [
        heading(
            [
                "",
                "Dice, mean of the last 3 epochs",
                *(f"{name}, large · small" for name in names.values()),
                "same sign as the paper, large · small",
            ]
        )
    ]
    lines.append(line(["paper", "", *read(paper), ""]))
    for (weight, seed), run in runs.items():
        table, dice = table4(run), run.epochs()["val_dice"].iloc[-3:].mean()
        same, large = agreement(table, paper)[list(MEASURES)], paper["filters"] >= LARGE
        split = " · ".join(f"{int(part.sum().sum())} of {part.size}" for part in (same[large], same[~large]))
        lines.append(line([f"λ = {weight}, seed {seed}", f"{dice:.3f}", *read(table), split]))
    return "\n".join(lines)


def by_radius(runs: dict[Trial, Run]) -> str:
    """In how many layers neighbours rise, and in how many as in the paper, for several radii; with δ_opt only."""
    paper = paper_table4()
    lines = [heading(["radius", "seed", "neighbours rose, large · small", "same sign as the paper"])]
    for radius in RADII:
        for (weight, seed), run in runs.items():
            if weight != LAMBDAS[0]:
                continue
            table = table4(run, radius=radius)
            rose = next(s for s in summarise(table) if s.measure == "neighbours")
            same = agreement(table, paper)["neighbours"]
            cells = f"{rose.large} of {rose.large_of} · {rose.small} of {rose.small_of}"
            lines.append(line([f"{radius:g}", str(seed), cells, f"{sum(map(bool, same))} of {len(same)}"]))
    return "\n".join(lines)


def read(table: pd.DataFrame) -> list[str]:
    return [f"{s.large} of {s.large_of} · {s.small} of {s.small_of}" for s in summarise(table)]


def heading(columns: Iterable[str]) -> str:
    names = list(columns)
    return line(names) + "\n|" + "---|" * len(names)


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

"""Which layers become more clusterable, with δ_opt and without it: the tables of docs/results.md, of a finished study.

    sauron-train study studies/clusterability.yaml --recipe sunnybrook2d_rats --data DATA --out runs/table4 --jobs 2
    python benchmarks/study_table4.py runs/table4

The network must have the layers of the paper's. Not part of the tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from sauron_train.analysis.tables import table4
from sauron_train.analysis.trends import LARGE, MEASURES, agreement, paper_table4, summarise
from sauron_train.runlog import Run, find_runs
from sauron_viz.tables import percent

RADII = (0.02, 0.05, 0.1, 0.2)
HEADINGS = {"dip": "dip", "delta_opt": "δ_opt", "neighbours": "neighbours"}
# λ, seed.
Trial = tuple[float, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="its folder")
    found = [run for run in find_runs(parser.parse_args().study) if run.status == "finished"]
    # With δ_opt before without it, seed by seed.
    by_seed = sorted(found, key=lambda run: (run.config.seed, -run.config.loss.lambda_))
    runs = {(run.config.loss.lambda_, run.config.seed): run for run in by_seed}
    print(readings(runs), by_radius(runs), beside_paper(runs), sep="\n\n")


def beside_paper(runs: dict[Trial, Run]) -> str:
    """The paper's Table 4 and those of the runs with δ_opt, layer by layer, as Markdown."""
    paper = paper_table4().set_index("layer")
    ours = {seed: table4(run).set_index("layer") for (weight, seed), run in runs.items() if weight}
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
        lines.append(line([f"λ = {weight:g}, seed {seed}", f"{dice:.3f}", *read(table), split]))
    return "\n".join(lines)


def by_radius(runs: dict[Trial, Run]) -> str:
    """In how many layers neighbours rise, and in how many as in the paper, for several radii; with δ_opt only."""
    paper = paper_table4()
    lines = [heading(["radius", "seed", "neighbours rose, large · small", "same sign as the paper"])]
    for radius in RADII:
        for (weight, seed), run in runs.items():
            if not weight:
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

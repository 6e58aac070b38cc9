"""Train a recipe and its unpruned baseline one after the other, score both, and print the table of docs/results.md.

python benchmarks/against_baseline.py hippocampus3d Dataset004_Hippocampus runs/hippo

makes runs/hippo and runs/hippo-baseline; a run that is there already is only scored. Not part of the tests: it takes as
long as training takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sauron_train.runlog import Run

BASELINE = ("--set", "prune.enabled=false", "--set", "loss.lambda=0")
COLUMNS = (
    "run",
    "Dice (validation, working grid)",
    "Dice (original grid)",
    "HD95 (mm)",
    "filters",
    "parameters",
    "FLOPs",
    "min",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    baseline = arguments.out.with_name(arguments.out.name + "-baseline")
    for out, changes in ((arguments.out, ()), (baseline, BASELINE)):
        if not out.exists():
            sauron("run", "--recipe", arguments.recipe, "--data", arguments.data, "--out", out, *changes)
        sauron("evaluate", out)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for label, out in (("unpruned baseline", baseline), ("Sauron", arguments.out)):
        print("| " + " | ".join((label, *figures(Run(out)))) + " |")


def sauron(*words: str | Path) -> None:
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()", *map(str, words)]
    subprocess.run(program, check=True)


def figures(run: Run) -> tuple[str, ...]:
    info, epochs = run.info, run.epochs()
    last = epochs.iloc[-1]
    scored: dict[str, Any] = json.loads((run.path / "evaluation.json").read_text())
    whole = {
        "filters": sum(layer.filters for layer in info.layers),
        "parameters": info.parameters,
        "flops": info.flops,
    }
    shares = (f"{last[name] / count:.0%}" for name, count in whole.items())
    scores = (f"{last['val_dice']:.3f}", f"{scored['mean_dice']:.3f}", f"{scored['mean_hd95_mm']:.2f}")
    return (*scores, *shares, f"{epochs['seconds'].sum() / 60:.0f}")


if __name__ == "__main__":
    main()

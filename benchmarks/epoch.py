"""What an epoch costs beyond its steps: a whole epoch beside a plain one, its parts, and how long steps wait for data.

    python benchmarks/epoch.py --recipe sunnybrook2d --data Dataset101_SunnybrookLV --threads 1

A plain epoch is the same steps on the same batches without δ_opt, and one validation; nothing is measured, decided,
written. The two take turns. Nothing is cut, so that both stay of one size; a cut adds a second validation. Epochs whose
maps are stored, which are validated with HD95, are told apart from the others. `--run RUN` instead tells from the log
of a run how seconds per epoch followed its FLOPs.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.runlog import Run
from sauron_train.trainer import Trainer

PARTS = {
    "steps": ("train",),
    "validation": ("validate",),
    "δ_prune and the decision": ("prune",),
    "maps on the probe": ("_measure_probe",),
    "dip, δ_opt, neighbours": ("_clusterability",),
    "writing": ("_save_measures", "_save_weights", "_save_state", "_drop_old"),
}
NOTHING_IS_CUT = {"prune.threshold_start": 0.0, "prune.threshold_max": 0.0, "prune.first_epoch": 1}
PLAIN = {"prune.enabled": False, "loss.normalization": "off"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", action="append", default=[], help="key=value, as for sauron-train run")
    parser.add_argument("--epochs", type=int, default=9, help="of each kind; the first is warming up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, help="a finished run to read instead")
    arguments = parser.parse_args()
    if arguments.run:
        by_flops(Run(arguments.run))
        return
    if not (arguments.recipe and arguments.data):
        parser.error("give --recipe and --data, or --run")
    torch.set_num_threads(arguments.threads)
    folder = Path(tempfile.mkdtemp())
    try:
        compare(arguments, folder)
    finally:
        shutil.rmtree(folder)


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    config = with_overrides(recipes.load(arguments.recipe), arguments.set)
    kinds = {"whole": trainer(config, NOTHING_IS_CUT, arguments, folder / "whole")}
    kinds["plain"] = trainer(config, PLAIN, arguments, folder / "plain")
    spent: dict[str, dict[int, float]] = defaultdict(dict)
    parts, plain_parts = (watched(kinds[kind]) for kind in ("whole", "plain"))
    waiting = waited_for(kinds["whole"])
    for epoch in range(1, arguments.epochs + 1):
        turns = {
            "plain": lambda at=epoch: plain_epoch(kinds["plain"], at),
            "whole": lambda at=epoch: kinds["whole"].run_epoch(at),
        }
        # The other way round every other time, so that a machine that gets slower or faster favours none.
        for kind in turns if epoch % 2 else reversed(list(turns)):
            spent[kind][epoch] = timed(turns[kind])
        if epoch == 1:
            for seconds in (*spent.values(), waiting, *parts.values(), *plain_parts.values()):
                seconds.clear()
    stored = kinds["whole"].maps_plan.epochs
    for which, epochs in (
        ("maps not stored", [e for e in spent["whole"] if e not in stored]),
        ("maps stored", [e for e in spent["whole"] if e in stored]),
    ):
        if epochs:
            tell(which, [spent["whole"][e] for e in epochs], [spent["plain"][e] for e in epochs])
    tell("steps alone", parts["steps"], plain_parts["steps"])
    count, total = len(spent["whole"]), sum(spent["whole"].values())
    print("of all whole epochs:")
    for part, seconds in parts.items():
        print(f"  {part}: {sum(seconds) / count:.2f} s an epoch, {sum(seconds) / total:.1%}")
    print(f"  of the steps waiting for data: {sum(waiting) / count:.2f} s, {sum(waiting) / total:.1%}")


def tell(which: str, whole: list[float], plain: list[float]) -> None:
    """Seconds, and the median of the ratios of epochs that followed each other."""
    ratios = sorted(own / usual for own, usual in zip(whole, plain, strict=True))
    seconds, of_plain = (f"{statistics.median(s):.1f} s ({min(s):.1f} to {max(s):.1f})" for s in (whole, plain))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{which}: {seconds}, plain {of_plain}: {statistics.median(ratios):.3f} ({spread})")


def trainer(config: dict[str, Any], changes: dict[str, Any], arguments: argparse.Namespace, out: Path) -> Trainer:
    lines = [f"{key}={str(value).lower()}" for key, value in {"epochs": arguments.epochs, **changes}.items()]
    made: Config = parse(with_overrides(config, lines))
    return Trainer(Experiment.prepare(made, arguments.data), out)


def plain_epoch(trainer: Trainer, epoch: int) -> None:
    trainer.train(epoch)
    trainer.validate()


def watched(trainer: Any) -> dict[str, list[float]]:
    """Have the parts of an epoch write down the seconds that they take."""
    spent: dict[str, list[float]] = {part: [] for part in PARTS}
    for part, methods in PARTS.items():
        for method in methods:
            setattr(trainer, method, watching(getattr(trainer, method), spent[part]))
    return spent


def watching(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            spent.append(time.perf_counter() - began)

    return call


def waited_for(trainer: Any) -> list[float]:
    """Have the loader write down how long each batch is waited for."""
    spent: list[float] = []
    original = trainer.fabric.setup_dataloaders

    def loader(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        batches = iter(original(*arguments, **keywords))
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                spent.append(time.perf_counter() - began)
            yield batch

    trainer.fabric.setup_dataloaders = loader
    return spent


def timed(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def by_flops(run: Run) -> None:
    """Seconds of an epoch against those of the first, beside the share of the FLOPs."""
    epochs = run.epochs()
    first = epochs.iloc[0]
    print("| epoch | FLOPs left | seconds of steps / first | seconds of the epoch / first |\n|" + "---|" * 4)
    for number in sorted({*range(0, len(epochs), max(1, len(epochs) // 8)), len(epochs) - 1}):
        near = epochs.iloc[max(0, number - 1) : number + 2].median(numeric_only=True)
        shares = [near[column] / first[column] for column in ("flops", "seconds_training", "seconds")]
        print(f"| {int(epochs.epoch.iloc[number])} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


if __name__ == "__main__":
    main()

"""How cost grows with filters, image size, epochs, layers and runs: seconds at several sizes, and the exponent.

    python benchmarks/growth.py

An exponent of 1 is cost in proportion, 2 its square. All sizes of a row are measured in turns, so that whatever else
the machine does falls on all of them; the exponent is that of a line through the logarithms of the medians. Not part of
the tests.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "train"))

from small_run import CONFIG, INFO, small_run

from sauron_train.analysis.clusterability import clusterability
from sauron_train.analysis.distances import distance_matrix
from sauron_train.machine import keep_freed_memory
from sauron_train.pruning.distances import delta_prune, mean_delta_opt
from sauron_train.runlog import LayerInfo, LayerRow, Run, RunWriter, files
from sauron_train.runlog.schema import epoch_columns, layer_columns
from sauron_train.runlog.writer import csv_lines
from sauron_viz.figures.measures import measure
from sauron_viz.figures.trends import measure_multiples
from sauron_viz.summaries import Summaries


@dataclass(frozen=True)
class Growth:
    """What is measured at which sizes; `made(size)` prepares it and returns what is timed."""

    what: str
    of: str
    sizes: Sequence[int]
    made: Callable[[int], Callable[[], object]]


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def regularised(shape: tuple[int, ...]) -> Callable[[], object]:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def step() -> None:
        maps.grad = None
        mean_delta_opt([maps]).backward()

    return step


def thresholds(filters: int) -> Callable[[], object]:
    """δ_prune to every filter in turn, as with `prune.references: all`."""
    maps = torch.randn(4, filters, 64, 64, generator=torch.Generator().manual_seed(0))
    return lambda: delta_prune(maps, range(filters))


def measured(filters: int) -> Callable[[], object]:
    maps = np.random.default_rng(0).random((filters, 64, 64), dtype=np.float32)
    return lambda: clusterability(distance_matrix(maps)[None])


def grown(folder: Path, epochs: int, layers: int) -> Path:
    """The log of a run of so many epochs and layers, without maps."""
    path = folder / f"run_{epochs}_{layers}"
    if path.exists():
        return path
    names = [f"enc_conv_{number}" for number in range(1, layers + 1)]
    info = INFO.__class__(**{**vars(INFO), "layers": tuple(LayerInfo(name, "conv", "encoder", 1, 8) for name in names)})
    RunWriter.create(path, CONFIG, info).finish("finished")
    rng = np.random.default_rng(0)
    rows = (
        LayerRow(epoch, name, 8, *rng.random(3).tolist(), dip_n=28, dip_method="table", neighbours=float(rng.random()))
        for epoch in range(1, epochs + 1)
        for name in names
    )
    (path / files.LAYERS).write_text(csv_lines(layer_columns(), (row.cells() for row in rows)))
    labels = len(epoch_columns(info.labels)) - 13
    lines = (f"{epoch},{'0.5,' * 8}8,0,90,900{',0.5' * labels}\n" for epoch in range(1, epochs + 1))
    files.append(path / files.EPOCHS, "".join(lines))
    return path


def reading(folder: Path, epochs: int, layers: int) -> Callable[[], object]:
    run = Run(grown(folder, epochs, layers))
    return lambda: (run.epochs(), run.layers())


def drawing(folder: Path, epochs: int, layers: int) -> Callable[[], object]:
    run = Run(grown(folder, epochs, layers))
    table, info = run.layers(), run.info
    dip, names = measure("dip"), [layer.name for layer in info.layers]
    return lambda: measure_multiples(table, info.layers, dip, names)


def committing(folder: Path, epochs: int) -> Callable[[], object]:
    """One epoch more, behind so many."""
    path = Path(shutil.copytree(grown(folder, epochs, 60), folder / f"grows_{epochs}"))
    writer = RunWriter.reopen(path)
    row = Run(path).epochs().iloc[-1]
    names = [layer.name for layer in writer.info.layers]

    def commit() -> None:
        from sauron_train.runlog import EpochRow  # noqa: PLC0415

        values = {field: row[field] for field in EpochRow.__dataclass_fields__ if field in row}
        writer.commit_epoch(EpochRow(**values), [LayerRow(epochs, name, 8) for name in names], [])

    return commit


def listing(folder: Path, count: int) -> Callable[[], object]:
    root = folder / f"many_{count}"
    first = small_run(root / "run_0", epochs=2).path
    for number in range(1, count):
        shutil.copytree(first, root / f"run_{number}", ignore=shutil.ignore_patterns("maps", "distances"))
    names = [f"run_{number}" for number in range(count)]
    return lambda: [Summaries(root).of(name) for name in names]


def growths(folder: Path) -> Iterator[Growth]:
    yield Growth(
        "δ_opt, forward and backward", "filters", (16, 32, 64, 128, 256), lambda c: regularised((4, c, 96, 96))
    )
    yield Growth(
        "δ_opt, forward and backward", "side, 2D", (64, 96, 128, 192, 256), lambda s: regularised((4, 32, s, s))
    )
    yield Growth("δ_opt, forward and backward", "side, 3D", (16, 24, 32, 48), lambda s: regularised((2, 24, s, s, s)))
    yield Growth("δ_prune, every filter π in turn", "filters", (16, 32, 64, 128, 256), thresholds)
    yield Growth("all distances, dip, neighbours of a layer", "filters", (32, 64, 128, 256, 480), measured)
    yield Growth("reading a log of 60 layers", "epochs", (125, 250, 500, 1000), lambda e: reading(folder, e, 60))
    yield Growth("reading a log of 500 epochs", "layers", (8, 15, 30, 60), lambda n: reading(folder, 500, n))
    yield Growth("drawing a measure of 60 layers", "epochs", (125, 250, 500, 1000), lambda e: drawing(folder, e, 60))
    yield Growth("drawing a measure over 500 epochs", "layers", (8, 15, 30, 60), lambda n: drawing(folder, 500, n))
    yield Growth(
        "committing an epoch of 60 layers", "epochs before", (125, 250, 500, 1000), lambda e: committing(folder, e)
    )
    yield Growth("listing runs for the first time", "runs", (125, 250, 500, 1000), lambda n: listing(folder, n))


def median_seconds(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    spent: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, seconds in zip(calls, spent, strict=True):
            began = time.perf_counter()
            call()
            if turn:  # the first is warming up
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in spent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print("| what | grows with | from | to | milliseconds | exponent |\n|" + "---|" * 6)
    folder = Path(tempfile.mkdtemp())
    try:
        for growth in growths(folder):
            seconds = median_seconds([growth.made(size) for size in growth.sizes], arguments.rounds)
            span = f"{1000 * seconds[0]:.3g} to {1000 * seconds[-1]:.3g}"
            cells = (growth.what, growth.of, growth.sizes[0], growth.sizes[-1], span)
            print(f"| {' | '.join(map(str, cells))} | {exponent(growth.sizes, seconds):.2f} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

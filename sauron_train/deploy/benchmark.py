"""Times the network of a run against the one it was before anything was cut, on the machine at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from sauron_train.checkpoint import load_model
from sauron_train.complexity import Complexity, complexity
from sauron_train.deploy.engines import EngineName, network_on
from sauron_train.deploy.head import main_head
from sauron_train.deploy.timing import Load, Spread, interleaved, peak_memory
from sauron_train.errors import DataError
from sauron_train.machine import device_name, versions
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.progress import OnProgress
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_atomically, write_json
from sauron_train.runlog.writer import csv_lines

WHOLE, CUT = "unpruned", "cut"


@dataclass(frozen=True)
class Question:
    """What is timed.

    Attributes:
        engines: each by itself.
        threads: each engine computes with each of these.
        device: where torch runs; other engines run on the CPU.
        size: sides of the images in voxels; () = the patch.
        batch: images in one forward pass.
        rounds: measurements of each network.
        memory: whether memory is measured, too, which takes a process for each row and network.
        epoch: of the checkpoint; None = the last.
    """

    engines: tuple[EngineName, ...]
    threads: tuple[int, ...]
    device: torch.device
    size: tuple[int, ...] = ()
    batch: int = 1
    rounds: int = 15
    memory: bool = True
    epoch: int | None = None


@dataclass(frozen=True)
class Row:
    """One engine with one number of threads. Seconds are of one forward pass of a batch, memory is in MiB."""

    engine: EngineName
    threads: int
    seconds_unpruned: float
    seconds_unpruned_q25: float
    seconds_unpruned_q75: float
    seconds_cut: float
    seconds_cut_q25: float
    seconds_cut_q75: float
    time_ratio: float
    flops_ratio: float
    gap: float
    parameters_unpruned: int
    parameters_cut: int
    memory_mb_unpruned: float | None
    memory_mb_cut: float | None

    def cells(self) -> dict[str, Any]:
        """Column name to value."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Benchmark:
    """What was timed, on what, and what came out."""

    run: str
    epoch: int
    device: str
    versions: Mapping[str, str]
    size: tuple[int, ...]
    batch: int
    rounds: int
    flops_unpruned: int
    flops_cut: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def benchmark(run: Run, question: Question, on_progress: OnProgress) -> Benchmark:
    """Time the unpruned network of a run's recipe and the one that is left, round by round in turn.

    Both have the head of full resolution alone. The weights of the unpruned network are random, which takes as long;
    images are the same for both, of a fixed seed.

    Args:
        run: whose network.
        question: what is timed.
        on_progress: told how many of how many are done, and what is next.

    Raises:
        ConfigError, RunError: a library or the checkpoint is missing, or an engine cannot run the network.
    """
    left, checkpoint = load_model(run.checkpoint(question.epoch)[1])
    spec = UNetSpec.unpruned(run.config.network, left.spec.in_channels, left.spec.classes)
    models = {WHOLE: UNet(spec, torch.Generator().manual_seed(0)).eval(), CUT: left}
    size = question.size or tuple(run.config.data.patch)
    costs = {name: complexity(main_head(model), spec.in_channels, size) for name, model in models.items()}
    pairs = [(engine, threads) for engine in question.engines for threads in question.threads]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(question.batch, spec.in_channels, *size, generator=generator).to(question.device)
    rows = []
    for done, (engine, threads) in enumerate(pairs):
        on_progress(done, len(pairs), f"{engine}, {threads} threads")
        with _threads(threads):
            spreads = _times(models, engine, threads, images, question)
        loads = [Load(models[n].spec, engine, threads, size, question.batch, question.device.type) for n in models]
        memory = [peak_memory(load) if question.memory else None for load in loads]
        rows.append(_row(engine, threads, spreads, costs, memory))
    on_progress(len(pairs), len(pairs), "")
    name = device_name(question.device)
    flops = costs[WHOLE].flops, costs[CUT].flops
    made = versions()
    return Benchmark(run.name, checkpoint.epoch, name, made, size, question.batch, question.rounds, *flops, tuple(rows))


def _times(
    models: Mapping[str, UNet], engine: EngineName, threads: int, images: torch.Tensor, question: Question
) -> dict[str, Spread]:
    calls = {}
    for name, model in models.items():
        network = network_on(engine, model.to(images.device), threads)
        calls[name] = lambda network=network: network(images)
    return interleaved(calls, question.rounds, question.device)


def _row(
    engine: EngineName,
    threads: int,
    spreads: Mapping[str, Spread],
    costs: Mapping[str, Complexity],
    memory: Sequence[float | None],
) -> Row:
    whole, left = spreads[WHOLE], spreads[CUT]
    time_ratio, flops_ratio = left.median / whole.median, costs[CUT].flops / costs[WHOLE].flops
    return Row(
        engine,
        threads,
        *(whole.median, whole.q25, whole.q75),
        *(left.median, left.q25, left.q75),
        time_ratio,
        flops_ratio,
        time_ratio / flops_ratio,
        costs[WHOLE].parameters,
        costs[CUT].parameters,
        *memory,
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Torch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write(found: Benchmark, out: Path) -> None:
    """Write a benchmark as JSON, or its rows as CSV, by the ending of the file.

    Raises:
        DataError: it cannot be written.
    """
    try:
        if out.suffix == ".json":
            write_json(out, found.to_json())
        else:
            write_atomically(out, csv_lines(COLUMNS, [row.cells() for row in found.rows]))
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}; choose another --out") from None

"""What δ_opt costs a training step: time and memory of a regularised step beside a plain one, in one run.

    python benchmarks/step.py --threads 1 --rounds 15
    python benchmarks/step.py --device cuda --precision bf16 --graph
    python benchmarks/step.py --run runs/first --run runs/second
    python benchmarks/step.py --case 2D --peak exact

The two kinds of step take turns on the same network and the same batch, so that whatever else the machine does falls on
both; what is printed is the ratio of their medians, with the quartiles of the ratios of neighbours. On a GPU times are
those of CUDA events, and `--graph` replays each step from a CUDA graph, which is what is left of it when launching its
kernels costs nothing. `--run` instead times a step of the network that a run ended with beside one of the network that
it began with, both with δ_opt. `--peak` makes three steps of one kind and says how much memory the process took at
most, to be compared with that of another process and kind.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sauron_train.checkpoint import load_model
from sauron_train.complexity import complexity
from sauron_train.config import NetworkConfig
from sauron_train.losses import deep_supervision_loss
from sauron_train.machine import device_name, keep_freed_memory, peak_memory_mb
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.sauron import Sauron
from sauron_train.runlog import Run


@dataclass(frozen=True)
class Case:
    """A network and a batch, as docs/performance.md names them."""

    name: str
    dim: int
    filters: int
    levels: int
    batch: tuple[int, ...]


@dataclass(frozen=True)
class How:
    """Where and in what way steps are computed."""

    device: torch.device
    bf16: bool
    channels_last: bool
    graph: bool


CASES = (
    Case("2D, 256 x 256, batch 4, 32 filters", 2, 32, 5, (4, 1, 256, 256)),
    Case("3D, 32 x 64 x 64, batch 2, 24 filters", 3, 24, 5, (2, 1, 32, 64, 64)),
)
KINDS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "exact": {"normalization": "maps"},
    "samples: 1": {"normalization": "maps", "samples": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", choices=("2D", "3D"), help="one of the two; default: both")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--run", type=Path, action="append", help="a run whose networks are timed instead; repeat")
    parser.add_argument("--peak", choices=tuple(KINDS), help="print the largest memory with steps of this kind instead")
    parser.add_argument("--channels-last", action="store_true", help="maps lie in memory voxel by voxel")
    parser.add_argument("--graph", action="store_true", help="replay steps from a CUDA graph")
    arguments = parser.parse_args()
    if arguments.graph and not arguments.device.startswith("cuda"):
        parser.error("--graph needs --device cuda")
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    how = How(device, arguments.precision == "bf16", arguments.channels_last, arguments.graph)
    ways = [arguments.precision, *(word for word in ("channels_last", "graph") if getattr(how, word))]
    print(f"{device_name(device)}, {arguments.threads} threads, {', '.join(ways)}, torch {torch.__version__}")
    cases = [case for case in CASES if case.name.startswith(arguments.case or "")]
    if arguments.peak:
        if len(cases) > 1:
            parser.error("--peak needs --case: memory of one is not given back before the other")
        step = step_of(unpruned(spec_of(cases[0])), cases[0].batch, KINDS[arguments.peak], how)
        for _ in range(3):
            step()
        print(f"{cases[0].name}, {arguments.peak}: {peak_memory_mb(device):.0f} MiB")
        return
    if arguments.run:
        print("| run | FLOPs left | seconds of a step | of the unpruned network | ratio | quartiles |\n|" + "---|" * 6)
        for folder in arguments.run:
            compare_run(Run(folder), how, arguments.rounds)
        return
    print("| step | kind | seconds | ratio to plain | quartiles | kept for backward | ratio |\n|" + "---|" * 7)
    for case in cases:
        compare(case, how, arguments.rounds)


def compare(case: Case, how: How, rounds: int) -> None:
    spec = spec_of(case)
    steps = {kind: step_of(unpruned(spec), case.batch, settings, how) for kind, settings in KINDS.items()}
    kept = {kind: kept_for_backward(step) for kind, step in steps.items()}
    if how.graph:
        steps = {kind: captured(step) for kind, step in steps.items()}
    times = in_turns(steps, how, rounds)
    for kind, seconds in times.items():
        ratios = [own / plain for own, plain in zip(seconds, times["plain"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(seconds)
        ratio = median / statistics.median(times["plain"])
        cells = (case.name, kind, f"{median:.4f}", f"{ratio:.3f}", f"{low:.3f} to {high:.3f}")
        memory = (f"{kept[kind] / 1e6:.0f} MB", f"{kept[kind] / kept['plain']:.3f}")
        print("| " + " | ".join((*cells, *memory)) + " |", flush=True)


def in_turns(steps: dict[str, Callable[[], None]], how: How, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round; the first round is warming up."""
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for turn in range(rounds + 1):
        for kind, step in steps.items():
            seconds = timed(step, how.device)
            if turn:
                times[kind].append(seconds)
    return times


def compare_run(run: Run, how: How, rounds: int) -> None:
    config = run.config
    last, _ = load_model(run.checkpoint(None)[1])
    first = unpruned(UNetSpec.unpruned(config.network, last.spec.in_channels, last.spec.classes))
    batch = (config.data.batch_size, last.spec.in_channels, *config.data.patch)
    settings = {"normalization": "maps"}
    times = in_turns({k: step_of(n, batch, settings, how) for k, n in (("first", first), ("last", last))}, how, rounds)
    flops = [complexity(network, last.spec.in_channels, config.data.patch).flops for network in (last, first)]
    low, _, high = statistics.quantiles([a / b for a, b in zip(times["last"], times["first"], strict=True)], n=4)
    now, before = (statistics.median(times[which]) for which in ("last", "first"))
    cells = (run.name, f"{flops[0] / flops[1]:.2f}", f"{now:.3f}", f"{before:.3f}", f"{now / before:.2f}")
    print("| " + " | ".join((*cells, f"{low:.2f} to {high:.2f}")) + " |", flush=True)


def spec_of(case: Case) -> UNetSpec:
    return UNetSpec.unpruned(NetworkConfig(dim=case.dim, levels=case.levels, init_filters=case.filters), 1, 2)


def unpruned(spec: UNetSpec) -> UNet:
    return UNet(spec, torch.Generator().manual_seed(0))


def step_of(network: UNet, batch: tuple[int, ...], settings: dict[str, Any] | None, how: How) -> Callable[[], None]:
    """One training step of a network."""
    device = how.device
    generator = torch.Generator().manual_seed(0)
    network, images = network.to(device), torch.randn(batch, generator=generator).to(device)
    if how.channels_last:
        memory_format = torch.channels_last if network.spec.dim == 2 else torch.channels_last_3d
        network, images = network.to(memory_format=memory_format), images.to(memory_format=memory_format)
    labels = (torch.rand(batch[0], *batch[2:], generator=generator) > 0.5).long().to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-5, fused=True, capturable=how.graph)
    off = {"normalization": "off"}
    sauron = Sauron(network, images[:1], {"loss": off if settings is None else settings})
    network.train()

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=how.bf16):
            outputs = network(images)
        return deep_supervision_loss([output.float() for output in outputs], labels) + sauron.penalty(with_loss=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The same step, launched as one CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def timed(step: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1000
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def kept_for_backward(step: Callable[[], None]) -> int:
    """Bytes of the distinct tensors that a step saves for its backward pass."""
    sizes: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        step()
    return sum(sizes.values())


if __name__ == "__main__":
    main()

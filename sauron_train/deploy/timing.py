"""Times computations against each other, and how much memory one takes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sauron_train.deploy.engines import EngineName
from sauron_train.errors import RunError
from sauron_train.models.unet import UNetSpec

_WARM_UP = 3
_SHORTEST = 0.02
"""Seconds that one measurement lasts at least, so that the clock and a moment's delay do not count."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Seconds of one call: the median of the rounds, and their quartiles."""

    median: float
    q25: float
    q75: float

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """Of the rounds of one computation."""
        q25, median, q75 = np.quantile(seconds, (0.25, 0.5, 0.75))
        return cls(float(median), float(q25), float(q75))


def interleaved(calls: Mapping[str, Call], rounds: int, device: torch.device) -> dict[str, Spread]:
    """Time computations in turn, so that whatever else the machine does meets all of them alike.

    Each is done some times before. In every other round the order is the other way round.

    Args:
        calls: computations by name.
        rounds: how often each is measured.
        device: where they run; a GPU is asked for its own times.
    """
    measure = _on_gpu if device.type == "cuda" else _on_cpu
    repeats = {}
    for name, call in calls.items():
        warm = min(measure(call, 1) for _ in range(_WARM_UP))
        repeats[name] = max(1, math.ceil(_SHORTEST / max(warm, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in calls if number % 2 == 0 else reversed(list(calls)):
            seconds[name].append(measure(calls[name], repeats[name]) / repeats[name])
    return {name: Spread.of(values) for name, values in seconds.items()}


def _on_cpu(call: Call, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - started


def _on_gpu(call: Call, times: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


@dataclass(frozen=True)
class Load:
    """What is computed: a network by its description, an engine, and images (batch, channels, *size)."""

    spec: UNetSpec
    engine: EngineName
    threads: int
    size: tuple[int, ...]
    batch: int
    device: str

    @classmethod
    def from_json(cls, text: str) -> Load:
        """The inverse of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"spec": UNetSpec.from_json(values["spec"]), "size": tuple(values["size"])})

    def to_json(self) -> str:
        """As one line of text."""
        return json.dumps(asdict(self))


def peak_memory(load: Load) -> float | None:
    """MiB that a network takes while it computes, measured in a process of its own.

    On a CPU: by how much the memory of the process is larger at its peak, in two forward passes, than it was with
    everything loaded and a network of two filters tried. On a GPU: the most that PyTorch had allocated.

    Returns:
        None where the system does not tell (on a CPU other systems than Linux).

    Raises:
        RunError: it did not end well, as when the memory is too small.
    """
    command = [sys.executable, "-m", "sauron_train.deploy.memory", load.to_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunError(f"the memory of the network could not be measured ({why}); leave it out with --no-memory")
    value = json.loads(done.stdout.strip().splitlines()[-1])
    return None if value is None else float(value)

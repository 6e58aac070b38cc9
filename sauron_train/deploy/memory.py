"""The process that `timing.peak_memory` starts: builds a network, computes twice, prints how much memory that took."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from sauron_train.config import NetworkConfig
from sauron_train.deploy.engines import Network, network_on
from sauron_train.deploy.timing import Load
from sauron_train.models.unet import UNet, UNetSpec

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(load: Load) -> float | None:
    """See `timing.peak_memory`."""
    torch.set_num_threads(load.threads)
    small = UNetSpec.unpruned(
        NetworkConfig(dim=load.spec.dim, levels=2, init_filters=2, norm=load.spec.norm), load.spec.in_channels, 2
    )
    _compute(_built(replace(load, spec=small, size=(8,) * load.spec.dim)), replace(load, size=(8,) * load.spec.dim))
    if load.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        _compute(_built(load), load)
        return torch.cuda.max_memory_allocated() / 2**20
    if not _STATUS.is_file():
        return None
    before = _status("VmRSS")
    network = _built(load)
    try:
        _CLEAR.write_text("5")  # from here on the peak counts; what conversion needed for a moment does not
    except OSError:
        return None
    _compute(network, load)
    return max(0.0, _status("VmHWM") - before)


def _built(load: Load) -> Network:
    model = UNet(load.spec, torch.Generator().manual_seed(0)).eval().to(load.device)
    return network_on(load.engine, model, load.threads)


@torch.no_grad()
def _compute(network: Network, load: Load) -> None:
    images = torch.zeros(load.batch, load.spec.in_channels, *load.size, device=load.device)
    for _ in range(2):
        network(images)


def _status(key: str) -> float:
    """MiB that the system tells under this name."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(measured(Load.from_json(sys.argv[1]))))  # noqa: T201

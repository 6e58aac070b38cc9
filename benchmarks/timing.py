"""How long networks take for one forward pass, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def median_seconds(networks: Mapping[int, nn.Module], images: Tensor, rounds: int) -> dict[int, float]:
    """Processor time of one forward pass on one thread, the median over rounds in which all networks have their turn.

    So whatever else the machine does falls on all of them alike, and time that others have the processor for is not
    counted.
    """
    torch.set_num_threads(1)
    seconds: dict[int, list[float]] = {name: [] for name in networks}
    for model in networks.values():
        model.eval()(images)
    for _ in range(rounds):
        for name, model in networks.items():
            begin = time.process_time()
            model(images)
            seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(of) for name, of in seconds.items()}

"""Trainings that are over in seconds, and waiting for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

TINY = [
    "data.patch=[32, 32]", "data.steps_per_epoch=3", "data.batch_size=2", "data.workers=0", "network.init_filters=4",
    "network.levels=3", "probe.images=1", "prune.enabled=false", "hardware.accelerator=cpu",
]  # fmt: skip
LONG_S = 120


def until(met: Callable[[], Any], what: str) -> Any:
    """Wait for something that other processes do; the limit is no judgement on speed."""
    over = time.monotonic() + LONG_S
    while not (found := met()):
        assert time.monotonic() < over, f"never came: {what}"
        time.sleep(0.05)
    return found

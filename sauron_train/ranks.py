"""Which of the processes that torchrun started this one is; without torchrun there is only one. Imports no torch."""

from __future__ import annotations

import os


def started_by_torchrun() -> bool:
    """Whether torchrun started this process, as torch itself tells it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    return _number("RANK", 0)


def processes() -> int:
    """How many processes train together, on all machines."""
    return _number("WORLD_SIZE", 1)


def machines() -> int:
    """On how many machines they run."""
    return _number("GROUP_WORLD_SIZE", 1)


def leads() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def _number(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone)) if started_by_torchrun() else alone

"""A recipe so small that it is trained in a second or two, and loses filters all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.errors import RunError
from sauron_train.keys import with_overrides
from sauron_train.runlog import Run

EPOCHS = 5
CHANGES = (
    f"epochs={EPOCHS}", "data.patch=[16, 16]", "data.steps_per_epoch=2", "data.batch_size=2", "data.workers=0",
    "network.init_filters=6", "network.levels=2", "probe.images=1", "maps.every=5", "hardware.accelerator=cpu",
    "prune.first_epoch=1", "prune.last_epoch=5", "prune.threshold_start=0.3", "prune.threshold_max=0.6",
    "prune.kappa=5", "prune.patience=1",
)  # fmt: skip


def small(*changes: str) -> Config:
    """The recipe, changed further."""
    return parse(with_overrides(recipes.load("phantom2d"), [*CHANGES, *changes]))


def words(*changes: str) -> list[str]:
    """The same as options of a command."""
    return [word for change in (*CHANGES, *changes) for word in ("--set", change)]


def trained_alike(run: Run, other: Run) -> bool:
    """Whether two runs have the same log, but for times, and the same network, to the last bit."""
    timed = ["seconds", "seconds_training", "memory_mb"]
    tables = [each.epochs().drop(columns=timed) for each in (run, other)]
    networks = [load_file(each.checkpoint()[1]) for each in (run, other)]
    return (
        tables[0].equals(tables[1])
        and networks[0].keys() == networks[1].keys()
        and all(torch.equal(tensor, networks[1][name]) for name, tensor in networks[0].items())
    )


def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


def epochs_of(folder: Path) -> int:
    """Epochs that are whole in a run that may not be there yet."""
    try:
        return Run(folder).last_epoch
    except RunError:
        return 0

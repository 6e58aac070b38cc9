"""Tiny runs that are interrupted and gone on with, and how two of them are compared to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.keys import with_overrides
from sauron_train.progress import Observer
from sauron_train.runlog import EpochRow, Run, files
from sauron_train.runlog.check import check
from sauron_train.runlog.ledger import CHECKSUMS

EPOCHS = 8
TINY = [
    f"epochs={EPOCHS}", "data.patch=[32, 32]", "data.steps_per_epoch=3", "data.batch_size=2", "data.workers=0",
    "network.init_filters=6", "network.levels=3", "probe.images=2", "maps.every=3", "hardware.accelerator=cpu",
    "prune.first_epoch=1", "prune.last_epoch=8", "prune.threshold_start=0.3", "prune.threshold_max=0.6",
    "prune.kappa=5", "prune.patience=1",
]  # fmt: skip


class Stopper(Observer):
    """Presses Ctrl-C at a moment of an epoch."""

    def __init__(self, epoch: int, moment: str) -> None:
        self.at, self.moment = epoch, moment

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        if (epoch, self.moment) == (self.at, "step") and done == 2:
            raise KeyboardInterrupt

    def stage(self, epoch: int, what: str) -> None:
        if (epoch, what) == (self.at, self.moment):
            raise KeyboardInterrupt

    def epoch(self, row: EpochRow) -> None:
        if (row.epoch, self.moment) == (self.at, "end"):
            raise KeyboardInterrupt


def tiny(*changes: str) -> Config:
    return parse(with_overrides(recipes.load("phantom2d"), [*TINY, *changes]))


def contents(run: Path) -> dict[str, Any]:
    """All that is in a run folder but where, when and how fast it was trained, which checksums hang on too."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name not in (files.INFO, CHECKSUMS)):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                found[name] = (file.metadata(), {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()})  # noqa: SIM118 - no mapping
        elif path.suffix == ".pt":
            found[name] = plain(torch.load(path, weights_only=True))
        elif name == files.EPOCHS:
            found[name] = (
                pd.read_csv(path, dtype=str).drop(columns=["seconds", "seconds_training", "memory_mb"]).to_csv()
            )
        else:
            found[name] = path.read_bytes()
    return found


def plain(value: Any) -> Any:
    """Nested values with tensors as bytes, so that they can be compared."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def assert_same(run: Run, expected: Run) -> None:
    assert run.status == expected.status == "finished"
    ours, theirs = contents(run.path), contents(expected.path)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert check(run).findings == []

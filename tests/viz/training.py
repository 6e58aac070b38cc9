"""A run that was really trained, as small as it can be."""

from __future__ import annotations

from pathlib import Path

from sauron_train import recipes
from sauron_train.config import parse
from sauron_train.data.phantom import make_phantom
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.trainer import Trainer

SMALL = [
    "data.patch=[32, 32]", "network.init_filters=6", "network.levels=3", "epochs=2", "data.steps_per_epoch=4",
    "data.batch_size=2", "data.workers=0", "prune.enabled=false", "probe.images=2", "hardware.accelerator=cpu",
]  # fmt: skip


def train(place: Path) -> Path:
    """The folder `runs` with the run `small`, beside the data set `phantom`."""
    data = make_phantom(place / "phantom", dim=2, cases=8, seed=1, size=(40, 40, 6))
    config = parse(with_overrides(recipes.load("phantom2d"), SMALL))
    Trainer(Experiment.prepare(config, data), place / "runs" / "small").run()
    return place / "runs"

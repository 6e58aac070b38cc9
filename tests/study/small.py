"""A recipe so small that it is trained in a second or two, and loses filters all the same."""

from __future__ import annotations

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.keys import with_overrides

EPOCHS = 5
CHANGES = (
    f"epochs={EPOCHS}", "data.patch=[32, 32]", "data.steps_per_epoch=2", "data.batch_size=2", "data.workers=0",
    "network.init_filters=6", "network.levels=3", "probe.images=1", "maps.every=5", "hardware.accelerator=cpu",
    "prune.first_epoch=1", "prune.last_epoch=5", "prune.threshold_start=0.3", "prune.threshold_max=0.6",
    "prune.kappa=5", "prune.patience=1",
)  # fmt: skip


def small(*changes: str) -> Config:
    """The recipe, changed further."""
    return parse(with_overrides(recipes.load("phantom2d"), [*CHANGES, *changes]))

"""By what configuration a rival of a run is trained: the run's own, but for the cut and the fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sauron_train.config import Config, parse
from sauron_train.errors import ConfigError
from sauron_train.keys import overlaid, with_overrides

# What the network is, and how it is cut.
_FIXED = ("name", "preset", "seed", "epochs", "preprocess", "network", "prune", "rival")


def rival_config(
    config: Config, method: Literal["fpgm", "l1"], flops: float, fine_tune: int, changes: Sequence[str] = ()
) -> Config:
    """The configuration of a rival.

    Its first epoch is the cut. Over the fine-tuning the learning rate goes through the run's own schedule once more,
    from its start, which does better than going on with a small one (Renda et al., ICLR 2020); δ_opt has no weight.
    `changes` may say otherwise.

    Args:
        config: of the run whose network is cut.
        method: the criterion.
        flops: share of the unpruned network's FLOPs that may be left.
        fine_tune: epochs of training after the cut.
        changes: `section.key=value`, of how it is trained on.

    Raises:
        ConfigError: changes that are not possible.
    """
    for change in changes:
        if change.split("=")[0].strip().split(".")[0] in _FIXED:
            raise ConfigError(
                f"--set {change} is not possible for a rival, whose network and cut are given; what can be changed is "
                "how it is trained on, as in optimizer.lr=0.001"
            )
    epochs = fine_tune + 1
    ours = {
        "epochs": epochs,
        "rival": {"method": method, "flops": flops},
        "loss": {"lambda": 0.0},
        "prune": {"enabled": True, "first_epoch": 1, "last_epoch": 1, "compensate": "none", "references": "all"},
        "maps": {"epochs": [epoch for epoch in config.maps.epochs if epoch <= epochs]},
    }
    return parse(with_overrides(overlaid(config.model_dump(by_alias=True, mode="json"), ours), changes))

"""Named sets of defaults. Keys that a recipe gives itself win over its preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The published method (paper, Section 3 and Appendix C.4), written out whole so that it stays what it is when our
    # own defaults change. One batch is nearest to the authors' code, which takes δ_prune from the last one.
    "paper": {
        "loss": {
            "lambda": 0.5,
            "normalization": "maps",
            "reference": "first",
            "window": 2,
            "samples": None,
            "until_last_cut": False,
        },
        "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 1e-5, "amsgrad": False, "power": 0.9},
        "prune": {
            "enabled": True,
            "threshold_start": 0.001,
            "threshold_max": 0.3,
            "kappa": 15,
            "patience": 5,
            "mu": 0.02,
            "compensate": "none",
            "references": "one",
            "width_multiple": 1,
            "exclude": [],
            "batches": 1,
            "first_epoch": 1,
            "last_epoch": None,
            "converge_on": "validation",
            "validation_veto": True,
        },
    },
}

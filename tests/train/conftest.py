"""A run that several files of tests segment with, trained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commanding import sauron

from sauron_train.data.phantom import make_phantom
from sauron_train.pruning import compiled

TINY = [
    *("epochs=1", "data.steps_per_epoch=60", "data.foreground=1.0", "data.batch_size=4", "data.patch=[32, 32]"),
    *("network.init_filters=8", "network.levels=3", "prune.enabled=false", "loss.lambda=0", "optimizer.lr=0.01"),
    *("augment.scale_p=0", "augment.rotation_p=0", "augment.gamma_p=0", "name=tiny", "data.workers=0"),
    *("probe.images=1", "hardware.accelerator=cpu"),
]


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Compiled before any training, so that none remarks that it waits for them."""
    compiled.prepare(torch.device("cpu"), lambda _what: None, lambda _sentence: None)


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small examinations in slices."""
    return make_phantom(tmp_path_factory.mktemp("heads") / "phantom", dim=2, cases=5, seed=1, size=(24, 22, 6))


@pytest.fixture(scope="session")
def cut_run(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that was trained on them, and lost some filters."""
    folder = tmp_path_factory.mktemp("cut_run")
    changes = [f"--set={change}" for change in TINY]
    done = sauron("run", "--recipe", "phantom2d", "--data", heads, "--out", folder / "whole", *changes)
    assert done.returncode == 0, done.stderr
    (folder / "filters.json").write_text(json.dumps({"enc_conv_2": [1, 4, 6], "dec_conv_3": [0], "enc_conv_5": [3]}))
    done = sauron("cut", folder / "whole", "--filters", folder / "filters.json", "--out", folder / "cut")
    assert done.returncode == 0, done.stderr
    return folder / "cut"

"""What a person sees while a network trains."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sauron_train.progress import Terminal
from sauron_train.runlog import EpochRow, LayerInfo, RunInfo

INFO = RunInfo(
    status="running", created="", ended=None, message="", host="h", pid=1, seed=0, device="cpu", versions={},
    dataset="A [/b] set", data_root="/d", fingerprint="", channels=("MRI",), labels={"background": 0, "a": 1},
    train_cases=("a",), validation_cases=("b",), probe_images=(), layers=(LayerInfo("x", "conv", "encoder", 1, 1000),),
    parameters=5, flops=2000, epochs_planned=2,
)  # fmt: skip
ROW = EpochRow(
    epoch=1, train_loss=1.0, train_segmentation_loss=0.9, train_delta_opt=0.25, val_loss=0.5, val_dice=0.875,
    val_loss_before_cut=0.5, val_dice_before_cut=0.9, lr=1e-3, filters=900, filters_removed=100, parameters=5,
    flops=1500, seconds=2.0, seconds_training=1.0, memory_mb=1.0,
)  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log file"])
def test_loss_dice_filters_and_flops_are_shown(terminal: bool) -> None:
    out = io.StringIO()
    with Terminal(Console(file=out, force_terminal=terminal, width=120, color_system=None)) as shown:
        shown.loading(1, 2)
        shown.loading(2, 2)
        shown.started(INFO)
        shown.step(1, 5, 10, 1.25)
        shown.stage(1, "validating")
        shown.epoch(ROW)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")
    assert "A [/b] set: 1 case to train on" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("1 ") and "0.875" in line)
    assert line.split() == ["1", "1.000", "0.250", "0.500", "0.875", "900", "-100", "75.0%", "2.0"]
    header = next(line for line in text.splitlines() if "val loss" in line)
    assert header.index("Dice") + 4 == line.index("0.875") + 5
    assert ("validating" in text) == terminal, "a log file gets no moving bar"

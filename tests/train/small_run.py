"""A run folder of three epochs with everything in it that training writes, made without training."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np

from sauron_train.config import parse
from sauron_train.runlog import (
    EpochRow,
    LayerDistances,
    LayerInfo,
    LayerMaps,
    LayerRow,
    Probe,
    Pruning,
    RemovedFilter,
    Run,
    RunInfo,
    RunWriter,
    files,
)

CONFIG = parse({"epochs": 3, "data": {"patch": [16, 16]}, "network": {"dim": 2, "levels": 2, "init_filters": 4}})
LAYERS = ("enc_conv_1", "dec_trans_1")
INFO = RunInfo(
    status="running",
    created="2024-01-01T00:00:00+00:00",
    ended=None,
    message="",
    host=socket.gethostname(),
    pid=os.getpid(),
    seed=0,
    device="cpu",
    versions={"torch": "2"},
    dataset="Heads",
    data_root="/data",
    fingerprint="f",
    channels=("MRI",),
    labels={"background": 0, "left, upper": 1, "right": 2},
    train_cases=("a",),
    validation_cases=("b",),
    probe_images=("b slice 3",),
    layers=(LayerInfo("enc_conv_1", "conv", "encoder", 1, 4), LayerInfo("dec_trans_1", "trans", "decoder", 1, 4)),
    parameters=100,
    flops=1000,
    epochs_planned=3,
)


def small_run(path: Path, epochs: int = 3, status: str = "finished") -> Run:
    """enc_conv_1 loses a filter in every epoch; maps are stored at all of them."""
    writer = RunWriter.create(path, CONFIG, INFO)
    rng = np.random.default_rng(0)
    images = rng.random((1, 1, 16, 16)).astype(np.float32)
    writer.write_probe(Probe(images, np.zeros((1, 16, 16), np.uint8), ("b slice 3",), (1.0, 1.0)))
    for epoch in range(1, epochs + 1):
        _epoch(writer, rng, epoch)
    if status != "running":
        writer.finish(status)  # type: ignore[arg-type]
    return Run(path)


def _epoch(writer: RunWriter, rng: np.random.Generator, epoch: int) -> None:
    counts = {"enc_conv_1": 4 - epoch, "dec_trans_1": 4}
    for layer, count in counts.items():
        maps = rng.random((1, count, 8, 8)).astype(np.float16)
        numbers = np.arange(count, dtype=np.int32)
        blank = np.full(count, np.nan, np.float32)
        writer.write_maps(LayerMaps(epoch, layer, maps, np.zeros((1, count, count)), numbers, blank, 2))
    writer.write_prediction(epoch, np.zeros((1, 16, 16)))
    writer.write_distances(epoch, {layer: _distances(count) for layer, count in counts.items()})
    filters = {layer: list(range(count)) for layer, count in counts.items()}
    for name in (files.checkpoint_file(epoch),):
        weights = {"enc.weight": rng.random((5, 5)).astype(np.float32)}
        writer.wrote(
            epoch, name, files.write_tensors(writer.path / name, weights, {"epoch": epoch, "filters": filters})
        )
    removed = (RemovedFilter(4 - epoch, 0.05, 1, 0.01),)
    cut = Pruning(epoch, "enc_conv_1", 0.1, 5, 0, 5 - epoch, 4 - epoch, removed)
    rows = [LayerRow(epoch, layer, count, 0.2, removed=layer == "enc_conv_1") for layer, count in counts.items()]
    writer.commit_epoch(_row(epoch, sum(counts.values())), [replace(r, removed=int(r.removed)) for r in rows], [cut])


def _distances(count: int) -> LayerDistances:
    blank = np.full(count, 0.1, np.float32)
    numbers = np.arange(count, dtype=np.int32)
    return LayerDistances(numbers, numbers[::-1].copy(), blank, blank, np.zeros(200, np.float32))


def _row(epoch: int, filters: int) -> EpochRow:
    values = dict.fromkeys(
        (
            "train_loss",
            "train_segmentation_loss",
            "train_delta_opt",
            "val_loss",
            "val_dice",
            "val_loss_before_cut",
            "val_dice_before_cut",
            "lr",
            "seconds",
            "seconds_training",
            "memory_mb",
        ),
        0.5,
    )
    counts = {"filters": filters, "filters_removed": 1, "parameters": 90, "flops": 900}
    return EpochRow(epoch=epoch, **values, **counts, dice={"left, upper": 0.5, "right": float("nan")})  # type: ignore[arg-type]


def entries(run: Run) -> list[dict[str, object]]:
    """The checksums, as any program would read them."""
    return [json.loads(line) for line in (run.path / "checksums.jsonl").read_text().splitlines()]

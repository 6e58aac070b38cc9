"""Makes a run of an image of one's own: the maps that a run's network has of it, to be looked at like probe images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sauron_train.checkpoint import load_model
from sauron_train.complexity import complexity
from sauron_train.data.geometry import Geometry
from sauron_train.data.load import load_image
from sauron_train.data.views import probe_of_image
from sauron_train.derive import Network, write_run
from sauron_train.models.unet import UNet
from sauron_train.progress import OnProgress
from sauron_train.pruning.channels import trace
from sauron_train.runlog import EpochRow, Run
from sauron_train.runlog.aside import aside, refuse_existing
from sauron_train.runlog.schema import Derived
from sauron_train.runlog.writer import now


def maps_run(run: Run, images: Sequence[Path], epoch: int | None, out: Path, on_progress: OnProgress) -> Run:
    """Run the network of a checkpoint over an image, and make a run of what it has of it.

    Args:
        run: where the network comes from; the image is preprocessed as its own were.
        images: one NIfTI file per channel.
        epoch: of the checkpoint; None = the last.
        out: run folder to make; it must not exist.
        on_progress: told how many of how many steps are done, and which is next.

    Raises:
        RunError, DataError: something is missing or cannot be read; nothing is left behind then.
    """
    refuse_existing(out)
    started = time.perf_counter()
    on_progress(0, 3, "reading the image")
    at, path = run.checkpoint(epoch)
    model, described = load_model(path)
    config = run.config
    channels = described.architecture.in_channels
    probe = probe_of_image(load_image(images, config, channels, Geometry.of_run(run.info)), config)
    on_progress(1, 3, "running the network")
    graph = trace(model, torch.from_numpy(probe.images[:1]), UNet.layer_name).renumbered(described.filters)
    cost = complexity(model, described.architecture.in_channels, config.data.patch)
    scores = described.scores
    row = EpochRow(
        epoch=at,
        train_loss=math.nan,
        train_segmentation_loss=math.nan,
        train_delta_opt=math.nan,
        val_loss=scores["val_loss"],
        val_dice=scores["val_dice"],
        val_loss_before_cut=scores["val_loss"],
        val_dice_before_cut=scores["val_dice"],
        lr=math.nan,
        filters=sum(graph.widths().values()),
        filters_removed=0,
        parameters=cost.parameters,
        flops=cost.flops,
        seconds=time.perf_counter() - started,
        seconds_training=0.0,
        memory_mb=math.nan,
    )
    info = replace(
        run.info,
        status="running",
        created=now(),
        ended=None,
        message="",
        epochs_planned=at,
        probe_images=probe.names,
        derived_from=Derived(run.name, at, f"maps of {', '.join(Path(image).name for image in images)}"),
        analysed=None,
    )
    with aside(out) as folder:
        on_progress(2, 3, "writing its maps")
        write_run(folder, config, info, probe, Network(model, graph, described), row)
    on_progress(3, 3, "done")
    return Run(out)

"""Segments images with the network of a run, and scores a run on its validation cases."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sauron_train.checkpoint import CheckpointInfo, load_model
from sauron_train.config import Config
from sauron_train.data.datasets import read_dataset
from sauron_train.data.inputs import images_in
from sauron_train.data.load import load_image, load_volumes, original_labels, save_labels, to_original_grid
from sauron_train.data.types import Case, Dataset, Volume
from sauron_train.data.views import network_input, stack_back
from sauron_train.errors import DataError
from sauron_train.inference import segment
from sauron_train.metrics import CaseScores, mean_over_classes, mean_scores, score_case
from sauron_train.models.unet import UNet
from sauron_train.progress import OnProgress
from sauron_train.runlog import Run

OVERLAP = 0.5


@dataclass(frozen=True)
class Predictor:
    """A network from a run, ready to segment."""

    model: UNet
    info: CheckpointInfo
    config: Config
    device: torch.device

    @classmethod
    def from_run(cls, run: Run, epoch: int | None = None) -> Predictor:
        """Load a checkpoint of a run, the last one if no epoch is named.

        Raises:
            RunError: no checkpoint, or not of that epoch.
        """
        model, info = load_model(run.checkpoint(epoch)[1])
        wanted = run.config.hardware.accelerator
        device = torch.device("cuda" if torch.cuda.is_available() and wanted not in ("cpu", "mps") else "cpu")
        return cls(model.to(device), info, run.config, device)

    def segment(self, volume: Volume, reference: Path) -> Tensor:
        """Label map (X, Y, Z) uint8 of a preprocessed volume, on the grid of the file `reference`."""
        images, _ = network_input(volume, self.config)
        logits = segment(self.model, images.to(self.device), self.config.data.patch, OVERLAP)
        by_class = torch.stack([stack_back(one, self.config) for one in logits.unbind(dim=1)])
        return to_original_grid(by_class, volume, reference)


def predict(run: Run, inputs: Sequence[Path], out: Path, epoch: int | None, on_progress: OnProgress) -> list[Path]:
    """Segment examinations and write one label map each, on the grid of the input.

    Args:
        run: where the network comes from.
        inputs: folders of CASE_0000.nii.gz files, or such files.
        out: folder for CASE.nii.gz; made if needed, existing files are not written over.
        epoch: which checkpoint; None = the last.
        on_progress: told how many of how many are done, and which case is next.

    Returns:
        The files written.

    Raises:
        DataError, RunError: bad input; nothing has been written then.
    """
    predictor = Predictor.from_run(run, epoch)
    channels = predictor.info.architecture.in_channels
    cases = images_in(inputs, channels)
    targets = [out / f"{case.name}.nii.gz" for case in cases]
    for target in targets:
        if target.exists():
            raise DataError(f"{target} exists already; choose another --out, a segmentation is never written over")
    for done, case in enumerate(cases):
        # All are read once before any is segmented: a file that is damaged is told before an hour's work, not after.
        on_progress(done, 2 * len(cases), f"checking {case.name}")
        load_image(case.images, predictor.config, channels)
    for done, (case, target) in enumerate(zip(cases, targets, strict=True), start=len(cases)):
        on_progress(done, 2 * len(cases), case.name)
        volume = load_image(case.images, predictor.config, channels)
        save_labels(predictor.segment(volume, case.images[0]), case.images[0], target)
    on_progress(2 * len(cases), 2 * len(cases), "")
    return targets


def evaluate(run: Run, data: Path | None, epoch: int | None, on_progress: OnProgress) -> dict[str, Any]:
    """Dice and HD95 of a run's network on its validation cases, on the original grid of each image.

    Args:
        run: the run; its split says which cases it never trained on.
        data: the data set, if it is not where it was.
        epoch: which checkpoint; None = the last.
        on_progress: told how many of how many are done, and which case is next.

    Returns:
        Plain values: the checkpoint's epoch, scores per case, means per class and over all, seconds, cases with a
        class absent from the reference (they have no score for it) counted per class.

    Raises:
        DataError, RunError: the data set is not there, or another one than that of the run.
    """
    predictor = Predictor.from_run(run, epoch)
    dataset = dataset_of(run, data)
    cases = validation_cases(run, dataset)
    scores, seconds = [], []
    for done, case in enumerate(cases):
        on_progress(done, len(cases), case.name)
        started = time.perf_counter()
        (volume,) = load_volumes([case], dataset, predictor.config)
        predicted = predictor.segment(volume, case.images[0])
        reference, spacing = original_labels(case, dataset)
        seconds.append(time.perf_counter() - started)
        scores.append(score_case(case.name, predicted, reference, dataset.labels, spacing))
    on_progress(len(cases), len(cases), "")
    return _summary(predictor, scores, seconds)


def dataset_of(run: Run, data: Path | None) -> Dataset:
    """The data set that a run was trained on, from where it was or from `data`.

    Raises:
        DataError: it is not there, or it is another one: scores could then count cases the network was trained on.
    """
    info = run.info
    dataset = read_dataset(data or Path(info.data_root))
    if dataset.fingerprint != info.fingerprint:
        raise DataError(
            f"{dataset.root} is not the data set that run {run.name} was trained on, or has changed since; "
            "give the folder as it was then with --data"
        )
    return dataset


def validation_cases(run: Run, dataset: Dataset) -> list[Case]:
    """The cases of its data set that a run kept for validation."""
    by_name = {case.name: case for case in dataset.cases}
    return [by_name[name] for name in run.info.validation_cases]


def _summary(predictor: Predictor, scores: Sequence[CaseScores], seconds: Sequence[float]) -> dict[str, Any]:
    dice, hd95 = (mean_scores([getattr(s, what) for s in scores]) for what in ("dice", "hd95"))
    return {
        "epoch": predictor.info.epoch,
        "grid": "original",
        "mean_dice": _plain(mean_over_classes(dice)),
        "mean_hd95_mm": _plain(mean_over_classes(hd95)),
        "dice": {name: _plain(value) for name, value in dice.items()},
        "hd95_mm": {name: _plain(value) for name, value in hd95.items()},
        "not_scored": {name: sum(math.isnan(s.dice[name]) for s in scores) for name in dice},
        "missed": {name: sum(s.dice[name] == 0 for s in scores) for name in dice},
        "seconds_per_case": sum(seconds) / len(seconds),
        "cases": [_plain_case(s) for s in scores],
    }


def _plain_case(scores: CaseScores) -> dict[str, Any]:
    values = asdict(scores)
    return {
        "case": scores.case,
        "dice": {name: _plain(value) for name, value in values["dice"].items()},
        "hd95_mm": {name: _plain(value) for name, value in values["hd95"].items()},
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)

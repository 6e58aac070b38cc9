"""Scores a run on its validation cases."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sauron_train.data.datasets import check_channels, read_dataset
from sauron_train.data.load import original_labels
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError
from sauron_train.metrics import score_case
from sauron_train.predictor import Inference, Predictor
from sauron_train.progress import OnProgress
from sauron_train.runlog import Run
from sauron_train.scores import TOLERANCE_MM, summary


def evaluate(
    run: Run,
    data: Path | None,
    epoch: int | None,
    on_progress: OnProgress,
    how: Inference | None = None,
    tolerance: float = TOLERANCE_MM,
) -> dict[str, Any]:
    """Dice, HD95 and surface Dice of a run's network on its validation cases.

    What is scored is what `predict` would write: label maps on the original grid of each image.

    Args:
        run: the run; its split says which cases it never trained on.
        data: the data set, if it is not where it was.
        epoch: which checkpoint; None = the last.
        on_progress: told how many of how many are done, and which case is next.
        how: how images are segmented.
        tolerance: of the surface Dice, in mm.

    Returns:
        Plain values: the checkpoint's epoch, how images were segmented, seconds, and what `scores.summary` tells.

    Raises:
        DataError, RunError: the data set is not there, or another one than that of the run.
    """
    predictor = Predictor.from_run(run, epoch, how)
    dataset = dataset_of(run, data)
    check_channels(dataset, predictor.config)
    cases = validation_cases(run, dataset)
    predictor, _ = predictor.ready_for([case.images[0] for case in cases])
    scores, seconds = [], []
    for done, case in enumerate(cases):
        on_progress(done, len(cases), case.name)
        started = time.perf_counter()
        predicted = predictor.segment(predictor.load(case.images), case.images[0]).labels
        reference, spacing = original_labels(case, dataset)
        seconds.append(time.perf_counter() - started)
        scores.append(score_case(case.name, predicted, reference, dataset.labels, spacing, tolerance))
    on_progress(len(cases), len(cases), "")
    return {
        "epoch": predictor.info.epoch,
        "grid": "original",
        **predictor.how.recorded(),
        "engine": predictor.engine,
        "seconds_per_case": sum(seconds) / len(seconds),
        **summary(scores, tolerance),
    }


def dataset_of(run: Run, data: Path | None) -> Dataset:
    """The data set that a run was trained on, from where it was or from `data`.

    Raises:
        DataError: it is not there, or it is another one: scores could then count cases the network was trained on.
    """
    info = run.info
    dataset = read_dataset(data or Path(info.data_root), run.config.data.discard)
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

"""Pieces of training images as they are, and as training sees them after augmentation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sauron_train.config import Config
from sauron_train.data.datasets import read_dataset, without
from sauron_train.data.load import load_volumes
from sauron_train.data.patches import TrainingPatches
from sauron_train.data.split import split_cases
from sauron_train.data.types import Dataset, Patch
from sauron_train.runlog.schema import Array


@dataclass(frozen=True)
class Picture:
    """One slice of a patch, in 3D the one with the most foreground.

    `image` (H, W) is float32, of the first channel as the network gets it; `label` is (H, W).
    """

    image: Array
    label: Array


@dataclass(frozen=True)
class Row:
    """A piece of a case: as it is, and as often augmented as was asked for."""

    name: str
    plain: Picture
    augmented: tuple[Picture, ...]


@dataclass(frozen=True)
class Samples:
    """What was drawn, for which labels, and how many seconds one patch took, those that are as they are included."""

    rows: tuple[Row, ...]
    labels: dict[str, int]
    seconds: float


def draw_samples(
    config: Config,
    data: Path,
    cases: int,
    draws: int,
    cache: Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Samples:
    """Augment pieces of training cases, which the recipe's seed chooses.

    Args:
        config: the recipe.
        data: the data set.
        cases: how many cases, of those that are trained on.
        draws: how often each is augmented.
        cache: folder of preprocessed cases; see `load_volumes`.
        on_progress: told how many of how many cases are done, and which is next.

    Raises:
        DataError, ConfigError: see `Experiment.prepare`.
    """
    dataset = without(read_dataset(data, config.data.discard), config.data.discard)
    training = split_cases(dataset, config.data, config.seed).train
    order = np.random.default_rng(config.seed).permutation(len(training))
    chosen = [training[i] for i in sorted(order[:cases])]
    rows, seconds = [], 0.0
    for done, case in enumerate(chosen):
        if on_progress is not None:
            on_progress(done, len(chosen), case.name)
        patches = TrainingPatches(load_volumes([case], dataset, config, cache=cache), config, config.seed)
        started = time.perf_counter()
        rows.append(_row(patches, config, draws))
        seconds += time.perf_counter() - started
    return Samples(tuple(rows), _structures(dataset), seconds / (len(chosen) * (draws + 1)))


def _row(patches: TrainingPatches, config: Config, draws: int) -> Row:
    unit = patches.fullest(0)
    found = [patches.sample(unit, draw) for draw in (None, *range(draws))]
    name = found[0].case
    if config.network.dim == 2:
        name = f"{name} slice {unit}"
    pictures = tuple(_pictures(found, config))
    return Row(name, pictures[0], pictures[1:])


def _pictures(patches: list[Patch], config: Config) -> Iterator[Picture]:
    for patch in patches:
        image, label = patch.image[0].numpy(), patch.label.numpy()
        if config.network.dim == 3:
            # Looked for in each patch anew: a flip along the stack takes the anatomy to another place in it.
            place = _fullest_slice(patch, config.data.slice_axis)
            image, label = (np.take(voxels, place, axis=config.data.slice_axis) for voxels in (image, label))
        # The first axis of a file leads to the right, as a page is read.
        yield Picture(image.T[::-1], label.T[::-1].astype(np.uint8))


def _fullest_slice(patch: Patch, axis: int) -> int:
    others = tuple(a for a in range(3) if a != axis)
    labelled = (patch.label > 0).sum(dim=others)
    return int(labelled.argmax()) if bool(labelled.any()) else len(labelled) // 2


def _structures(dataset: Dataset) -> dict[str, int]:
    return {name: value for name, value in dataset.labels.items() if value}

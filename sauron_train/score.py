"""Scores label maps that are there already, from whatever made them, against reference labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sauron_train.data.datasets import read_names
from sauron_train.data.geometry import turn_onto, turned
from sauron_train.data.layouts import is_dataset, nnunet
from sauron_train.data.layouts.folders import image_named, images_of
from sauron_train.data.load import check_labels
from sauron_train.data.nifti import ENDINGS, read_header, read_voxels, times
from sauron_train.errors import DataError
from sauron_train.metrics import CaseScores, score_case
from sauron_train.progress import OnProgress
from sauron_train.scores import summary


@dataclass(frozen=True)
class Pair:
    """A label map, and the reference that it is compared with."""

    name: str
    predicted: Path
    reference: Path


@dataclass(frozen=True)
class Pairs:
    """What can be scored: `labels` maps class names to values; `not_predicted` are references without a label map.

    `broken` says of cases that have a label map why their reference cannot be used.
    """

    pairs: tuple[Pair, ...]
    labels: Mapping[str, int]
    not_predicted: tuple[str, ...]
    broken: Mapping[str, str] = field(default_factory=dict)


def pairs_of(predictions: Path, data: Path) -> Pairs:
    """Find the reference of each label map.

    Args:
        predictions: folder of CASE.nii.gz label maps; other files in it are passed over.
        data: a data set whose labels are the reference, or a folder of CASE.nii.gz reference label maps. The names of
            the classes are those of the data set, also where the folder lies within one (labelsTs); else their numbers.

    Raises:
        DataError: a folder that is not there, or no label map that has a reference.
    """
    for folder in (predictions, data):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}; give one of label maps, CASE.nii.gz each")
    labels: Mapping[str, int] = {}
    broken: Mapping[str, str] = {}
    if is_dataset(data):
        dataset = read_names(data)
        labels, broken = dataset.labels, dataset.broken
        references = {case.name: case.label for case in dataset.cases if case.label is not None}
    else:
        references = {_name(file): file for ending in ENDINGS for file in images_of(data, ending)}
        if (data.parent / "dataset.json").is_file():
            labels = nnunet.label_names(data.parent)
    predicted = {name: image_named(predictions, name) for name in sorted(references)}
    pairs = tuple(Pair(name, file, references[name]) for name, file in predicted.items() if file is not None)
    if not pairs:
        wanted = f", such as {min(references)}.nii.gz" if references else ""
        raise DataError(
            f"{predictions} holds no label map of a case of {data}; they must be called by its cases{wanted}"
        )
    lost = {name: why for name, why in broken.items() if image_named(predictions, name) is not None}
    missing = [name for name, file in predicted.items() if file is None] + [name for name in broken if name not in lost]
    return Pairs(pairs, labels or _numbered(pairs), tuple(missing), lost)


def score(
    found: Pairs, tolerance: float, on_progress: OnProgress, left_out: Callable[[str, str], None]
) -> dict[str, Any]:
    """Dice, HD95 and surface Dice of label maps.

    Args:
        found: what is scored.
        tolerance: of the surface Dice, in mm.
        on_progress: told how many of how many are done, and which case is next.
        left_out: told of a case that cannot be scored, and why; the others are.

    Returns:
        What `scores.summary` tells, and `left_out`: sentences by case.

    Raises:
        DataError: no case can be scored.
    """
    scores: list[CaseScores] = []
    unusable: dict[str, str] = dict(found.broken)
    for name, why in unusable.items():
        left_out(name, why)
    for done, pair in enumerate(found.pairs):
        on_progress(done, len(found.pairs), pair.name)
        try:
            scores.append(_score(pair, found.labels, tolerance))
        except DataError as error:
            unusable[pair.name] = str(error)
            if len(found.pairs) > 1:
                left_out(pair.name, str(error))
    on_progress(len(found.pairs), len(found.pairs), "")
    if not scores:
        first = next(iter(unusable.values()))
        raise DataError(first if len(unusable) == 1 else f"none of the {len(unusable)} cases can be scored; {first}")
    return {"grid": "original", **summary(scores, tolerance), "left_out": unusable}


def _score(pair: Pair, labels: Mapping[str, int], tolerance: float) -> CaseScores:
    spacing = read_header(pair.reference).spacing
    read_header(pair.predicted)  # what is wrong with it is told better from here
    (predicted, there), (reference, here) = read_voxels(pair.predicted), read_voxels(pair.reference)
    both = check_labels(predicted, dict(labels), pair.predicted), check_labels(reference, dict(labels), pair.reference)
    # The same grid with its axes in another order is the same grid.
    moved, placed = turned(both[0][None], there, turn_onto(there, here))
    if moved.shape[1:] != both[1].shape:
        raise DataError(
            f"{pair.predicted} is {times(predicted.shape)} voxels but {pair.reference} is {times(reference.shape)}; "
            "put the label map on the grid of its image"
        )
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*reference.shape, 1]
    if np.linalg.norm(corners @ (placed - here).T, axis=1).max() > min(spacing) / 2:
        raise DataError(
            f"{pair.predicted} lies elsewhere than {pair.reference}, by its header; put it on the grid of its image"
        )
    return score_case(pair.name, moved[0], both[1], labels, spacing, tolerance)


def _numbered(pairs: Iterable[Pair]) -> Mapping[str, int]:
    values = {0}
    for pair in pairs:
        for path in (pair.reference, pair.predicted):
            try:
                values |= {int(value) for value in np.unique(read_voxels(path)[0])}
            except DataError:  # told when its case is scored
                continue
    return {str(value): value for value in sorted(values) if 0 <= value <= 255}


def _name(path: Path) -> str:
    return next(path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending))

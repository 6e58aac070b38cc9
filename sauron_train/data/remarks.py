"""What is odd about a data set without being wrong for certain: it is trained on, and said."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sauron_train.config import Config
from sauron_train.data.geometry import Affine, Geometry, millimetres
from sauron_train.data.nifti import Header, times
from sauron_train.data.types import Case, Volume
from sauron_train.words import counted, listed

# By their headers, files of a case that are further apart than this are told of. Half a voxel is what two ways to count
# voxels differ by, from their corners or from their centres: design choice.
_APART_VOXELS = 0.75
# A patch of which less than this is ever filled costs more than it shows: design choice.
_LEAST_FILLED = 0.5


def apart(case: Case, headers: Sequence[Header]) -> float:
    """How many voxels a file of a case lies beside the first one by its header, at the corner where it is worst.

    0 where they agree within what is usual, where a header does not say how its file lies, and for layouts whose labels
    belong to the voxels whatever the headers say.
    """
    first = headers[0]
    if case.by_voxels or first.affine is None:
        return 0.0
    corners = np.stack(np.meshgrid(*([0, side - 1] for side in first.shape)), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(first.affine)
    worst = max((_shift(inverse @ h.affine, corners) for h in headers[1:] if h.affine is not None), default=0.0)
    return worst if worst > _APART_VOXELS else 0.0


def _shift(between: Affine, corners: np.ndarray) -> float:
    moved = corners @ between[:3, :3].T + between[:3, 3]
    return float(np.abs(moved - corners).max())


def of_headers(found: Iterable[tuple[Case, float]]) -> tuple[str, ...]:
    """A sentence about the cases whose files lie beside each other, with by how many voxels each does."""
    beside = [(case.name, voxels) for case, voxels in found if voxels]
    if not beside:
        return ()
    most = max(voxels for _, voxels in beside)
    return (
        f"{_cases([name for name, _ in beside])}: by their headers image and label lie up to {most:.3g} voxels beside "
        "each other; they were laid voxel on voxel, so look whether the label fits, or correct the wrong header",
    )


def of_volumes(train: Sequence[Volume], validation: Sequence[Volume]) -> tuple[str, ...]:
    """Sentences about preprocessed cases: one value everywhere, no structure, voxels of an unusual size."""
    typical = Geometry.of_volumes(train)
    volumes = (*train, *validation)
    flat = [v.name for v in volumes if any(bool(channel.min() == channel.max()) for channel in v.image)]
    bare = [v.name for v in volumes if v.label is not None and not bool(v.label.any())]
    odd = [v for v in volumes if typical.unusual(v.spacing)]
    said = []
    if flat:
        said.append(f"{_cases(flat)}: an image with one value everywhere; look at the file, or name it in data.discard")
    if bare:
        said.append(f"{_cases(bare)}: the label has no structure, only background")
    if odd:
        said.append(
            f"{_cases([v.name for v in odd])}: voxels of {millimetres(odd[0].spacing)} where "
            f"{millimetres(typical.spacing)} are usual in training; correct the header, or set preprocess.spacing so "
            "that all are alike"
        )
    return tuple(said)


def of_classes(train: Sequence[Volume], validation: Sequence[Volume], labels: Mapping[str, int]) -> tuple[str, ...]:
    """Sentences about classes of which no training case, or no validation case, has a voxel."""
    unlearnt, unscored = _absent(train, labels), _absent(validation, labels)
    nowhere = [name for name in unlearnt if name in unscored]
    said = []
    if nowhere:
        said.append(
            f"no case has a voxel of {listed(nowhere)}, so it can be neither learnt nor scored; look at the labels"
        )
    for what, names, so in (("training", unlearnt, "cannot be learnt"), ("validation", unscored, "gets no Dice")):
        if some := [name for name in names if name not in nowhere]:
            said.append(
                f"no {what} case has a voxel of {listed(some)}, so it {so}; another seed or data.fold may share the "
                "cases out better"
            )
    return tuple(said)


def _absent(volumes: Sequence[Volume], labels: Mapping[str, int]) -> list[str]:
    left = {name: value for name, value in labels.items() if value}
    for volume in volumes:
        if volume.label is not None:
            left = {name: value for name, value in left.items() if not bool((volume.label == value).any())}
    return list(left)


def of_patches(train: Sequence[Volume], config: Config) -> tuple[str, ...]:
    """Sentences about patches that are mostly padding, and batches that hold the same voxels twice."""
    units = [_unit(volume, config) for volume in train]
    return (*_padding([sides for sides, _ in units], config), *_repetition(units, config))


def of_discarded(discarded: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Sentences about names in `data.discard` that are those of no case; `known` are those that are."""
    strange = {name: _meant(name, known) for name in discarded if name not in known}
    said = [
        f"data.discard names {name!r}, which is no case of the data set; did you mean {meant!r}?"
        for name, meant in strange.items()
        if meant
    ]
    lacking = [repr(name) for name, meant in strange.items() if not meant]
    if lacking:
        no = "which is no case" if len(lacking) == 1 else "which are no cases"
        said.append(f"data.discard names {listed(lacking)}, {no} of the data set; nothing is left out for that")
    return tuple(said)


def _meant(name: str, known: Sequence[str]) -> str:
    """The known name that is most like one; "" where none is, or only those of other numbers, as of other patients."""
    alike = [other for other in known if _numbers(other) == _numbers(name)]
    return next(iter(difflib.get_close_matches(name, alike, n=1)), "")


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _unit(volume: Volume, config: Config) -> tuple[tuple[int, ...], int]:
    """The sides of what patches are cut out of, and how many of these a volume has: its slices, or itself."""
    shape = tuple(int(side) for side in volume.image.shape[1:])
    if config.network.dim == 3:
        return shape, 1
    axis = config.data.slice_axis
    return tuple(side for i, side in enumerate(shape) if i != axis), shape[axis]


def _padding(sides: Sequence[tuple[int, ...]], config: Config) -> tuple[str, ...]:
    patch = config.data.patch
    filled = {shape: math.prod(min(p, s) / p for p, s in zip(patch, shape, strict=True)) for shape in sides}
    largest = max(filled, key=lambda shape: filled[shape])
    if filled[largest] >= _LEAST_FILLED:
        return ()
    return (
        f"data.patch {list(patch)} is far larger than the training images: about {1 - filled[largest]:.0%} or more of "
        f"every patch is padding; the largest {'slice' if len(patch) == 2 else 'image'} is {times(largest)} voxels, so "
        "a patch of about that is enough",
    )


def _repetition(units: Sequence[tuple[tuple[int, ...], int]], config: Config) -> tuple[str, ...]:
    patch, batch = config.data.patch, config.data.batch_size
    if config.data.steps_per_epoch is None:
        all_of_them = sum(count for _, count in units) * config.data.patches_per_volume
        if batch <= all_of_them:
            return ()
        return (
            f"data.batch_size is {batch}, but an epoch has only {counted(all_of_them, 'patch', 'patches')}, so no "
            "batch is larger than that; make it smaller, or set data.steps_per_epoch",
        )
    apart = sum(count * math.prod(max(1, s // p) for p, s in zip(patch, sides, strict=True)) for sides, count in units)
    if batch <= apart:
        return ()
    return (
        f"data.batch_size is {batch}, but the training images give only {counted(apart, 'patch', 'patches')} that do "
        "not overlap, so every batch holds the same voxels several times; make it smaller",
    )


def _cases(names: Sequence[str]) -> str:
    return f"case {names[0]}" if len(names) == 1 else f"{len(names)} cases ({listed(names)})"

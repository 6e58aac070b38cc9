"""From files to volumes in memory; `grid` leads back.

Preprocessing is what happens to every image in the same way (paper, Appendix C.1): resampling, clipping, shifting and
scaling. Axes stay those of the file, unless the recipe has them turned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchio as tio

from sauron_train.config import Config
from sauron_train.config_data import PreprocessConfig
from sauron_train.data.datasets import check_case, check_channels
from sauron_train.data.geometry import Geometry, axes_of, is_turn, turn_onto, turned
from sauron_train.data.nifti import ENDINGS, read_header, read_voxels, times
from sauron_train.data.prepared import Store
from sauron_train.data.types import Case, Dataset, Volume
from sauron_train.errors import DataError
from sauron_train.words import counted

CACHE = "SAURON_CACHE"
_SPACING_TOLERANCE_MM = 1e-3


def load_volumes(
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    on_progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Volume]:
    """Load and preprocess cases, in the order given.

    Args:
        cases: which.
        dataset: the data set that they are of.
        config: its `preprocess` is done.
        on_progress: told how many of how many are done.
        cache: folder of preprocessed cases: those that are there are mapped into memory, the others are put there;
            None = that of `$SAURON_CACHE`, or none.
        tell: told in a sentence how many came from the cache, where there is one, and how many it does not take.

    Raises:
        DataError: a file that cannot be read, voxels that are NaN, label values that `dataset.json` does not list,
            or another number of channels than the recipe is made for.
    """
    check_channels(dataset, config)
    place = cache or default_cache()
    store = Store.of(place, dataset, config) if place else None
    volumes, kept, lost = [], 0, 0
    for done, case in enumerate(cases, start=1):
        volume = store.get(case) if store is not None else None
        kept += volume is not None
        if volume is None:
            volume, put = _put(case, dataset, config, store)
            lost += not put
        volumes.append(volume)
        if on_progress is not None:
            on_progress(done, len(cases))
    if tell is not None and store is not None:
        of_all = f"of {counted(len(cases), 'case')}"
        tell(f"{kept} {of_all} {'was' if kept == 1 else 'were'} taken preprocessed from {place}")
        if lost:
            why = store.hindrance() or "the disk may be full"
            tell(f"{lost} {of_all} cannot be kept in {place}, so the next training has to read them again: {why}")
    return volumes


def _put(case: Case, dataset: Dataset, config: Config, store: Store | None) -> tuple[Volume, bool]:
    """Read and preprocess a case, and keep it for the next time; False if it cannot be kept where it should be."""
    if store is None:
        return load_case(case, dataset.labels, config.preprocess), True
    key = store.key(case)
    volume = load_case(case, dataset.labels, config.preprocess)
    try:
        return store.put(case, volume, key), True
    except DataError:
        # A cache that is full, or that one may only read, is no reason not to train on what has been read.
        return volume, False


def default_cache() -> Path | None:
    """The folder of preprocessed cases that `$SAURON_CACHE` names."""
    named = os.environ.get(CACHE)
    return Path(named) if named else None


def load_image(
    images: Sequence[Path],
    config: Config,
    channels: int,
    trained: Geometry | None = None,
    tell: Callable[[str], None] | None = None,
) -> Volume:
    """Load and preprocess one examination without labels, one file per channel.

    Where the recipe leaves axes as they are on disk, and those of the training images all led one way, the image is
    turned that way: the network knows no other.

    Args:
        images: one file per channel, on one grid.
        config: of the run whose network will see it.
        channels: how many files there must be.
        trained: what the training images were like; None = not known.
        tell: told in a sentence when the image was turned, or has voxels of another size than those.

    Raises:
        DataError: see `read_image`.
    """
    image, affine = read_image(images, channels)
    known = trained or Geometry()
    remarks = []
    if config.preprocess.orientation == "file":
        turn, remark = known.turn(affine)
        remarks.append(remark)
        if turn is not None:
            image, affine = turned(image, affine, turn)
    volume = _preprocess(_case_name(Path(images[0])), image, None, affine, config.preprocess)
    remarks.append(known.unusual(volume.spacing))
    for remark in filter(None, remarks):
        if tell is not None:
            tell(remark)
    return volume


def read_image(images: Sequence[Path], channels: int) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    """Read the files of one examination as they are: voxels (C, X, Y, Z) float32 and the affine (4, 4) of the first.

    Raises:
        DataError: another number of files than `channels`, files on different grids, or one that cannot be used: cut
            short, damaged, not 3D, in colour, NaN voxels, an impossible voxel size.
    """
    if len(images) != channels:
        raise DataError(
            f"the number of image files must be that of the network's channels, {channels}, but it is {len(images)}; "
            "give one file per channel"
        )
    paths = tuple(Path(path) for path in images)
    check_case(Case(_case_name(paths[0]), paths, None))
    return _read_image(paths)


def original_labels(case: Case, dataset: Dataset) -> tuple[torch.Tensor, tuple[float, float, float]]:
    """The reference labels (X, Y, Z) uint8 of a case as they are on disk, and their voxel size in mm.

    Raises:
        DataError: no label, or one that cannot be read.
    """
    if case.label is None:
        raise DataError(f"case {case.name} has no label, so nothing can be compared with it")
    voxels, _ = read_voxels(case.label)
    x, y, z = read_header(case.images[0]).spacing
    return check_labels(voxels, dataset.labels, case.label), (x, y, z)


def check_labels(label: npt.NDArray[np.float32], labels: dict[str, int], source: Path) -> torch.Tensor:
    """Label values (X, Y, Z) as uint8, checked against the values that `dataset.json` lists; `source` is named.

    Raises:
        DataError: a value that is no whole number, or one that is not listed.
    """
    values = np.unique(label)
    broken = values[values != np.round(values)]
    if broken.size:
        raise DataError(
            f"{source} has the label value {broken[0]:g}, which is no whole number; store labels without interpolation"
        )
    unknown = sorted({int(value) for value in values} - set(labels.values()))
    if unknown:
        raise DataError(
            f"{source} has the label value {unknown[0]}, which dataset.json does not list (it lists "
            f"{', '.join(str(value) for value in sorted(labels.values()))}); add it to 'labels' or correct the file"
        )
    return torch.from_numpy(label.astype(np.uint8))


def load_case(case: Case, labels: dict[str, int], config: PreprocessConfig) -> Volume:
    """Read one case from its files and preprocess it.

    Raises:
        DataError: see `load_volumes`.
    """
    image, affine = _read_image(case.images)
    label = None
    if case.label is not None:
        voxels, _ = read_voxels(case.label)
        label = check_labels(voxels, labels, case.label)
        if label.shape != image.shape[1:]:
            raise DataError(f"case {case.name}: image and label have different shapes; put them on one grid")
    return _preprocess(case.name, image, label, affine, config)


def _read_image(paths: Sequence[Path]) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    channels, affines = zip(*(read_voxels(path) for path in paths), strict=True)
    for path, voxels in zip(paths, channels, strict=True):
        if voxels.ndim != 3:
            raise DataError(f"{path} has {voxels.ndim} dimensions; store it as one 3D volume per channel")
        if voxels.shape != channels[0].shape:
            raise DataError(
                f"{path} is {times(voxels.shape)} voxels but {paths[0]} is {times(channels[0].shape)}; "
                "put them on one grid"
            )
    for path, affine in zip(paths, affines, strict=True):
        if is_turn(turn_onto(affine, affines[0])):
            raise DataError(
                f"the axes of {path} lead to {axes_of(affine)} but those of {paths[0]} to {axes_of(affines[0])}; "
                "put them on one grid"
            )
    return torch.from_numpy(np.stack(channels)), affines[0]


def _preprocess(
    name: str,
    image: torch.Tensor,
    label: torch.Tensor | None,
    affine: npt.NDArray[np.float64],
    config: PreprocessConfig,
) -> Volume:
    images: dict[str, Any] = {"image": tio.ScalarImage(tensor=image, affine=affine)}
    if label is not None:
        # The label lies on the image's voxels by agreement of shapes; small differences of its header must not move it.
        images["label"] = tio.LabelMap(tensor=label[None], affine=affine)
    subject = tio.Subject(images)
    if config.orientation == "canonical":
        subject = tio.ToCanonical()(subject)
    target = _target_spacing(subject["image"].spacing, config)
    if target is not None:
        subject = tio.Resample(target)(subject)
    voxels = subject["image"].data.float()
    if config.clip is not None:
        voxels = voxels.clamp(*config.clip)
    if config.shift_scale is not None:
        shift, scale = config.shift_scale
        voxels = (voxels - shift) / scale
    x, y, z = (float(side) for side in subject["image"].spacing)
    return Volume(
        name=name,
        image=voxels.contiguous(),
        label=None if label is None else subject["label"].data[0].to(torch.uint8).contiguous(),
        spacing=(x, y, z),
        affine=np.asarray(subject["image"].affine, dtype=np.float64),
    )


def _target_spacing(spacing: Sequence[float], config: PreprocessConfig) -> tuple[float, ...] | None:
    if config.spacing is None:
        return None
    target = tuple(float(old) if new is None else new for old, new in zip(spacing, config.spacing, strict=True))
    same = all(abs(old - new) < _SPACING_TOLERANCE_MM for old, new in zip(spacing, target, strict=True))
    return None if same else target


def _case_name(path: Path) -> str:
    name = next((path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending)), path.stem)
    return name.removesuffix("_0000")

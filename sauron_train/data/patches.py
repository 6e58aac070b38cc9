"""Training patches: which piece of which image, and how it is changed, is a function of (seed, epoch, number) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
import torchio as tio
from torch.nn import functional as F
from torch.utils.data import Dataset

from sauron_train.config import Config
from sauron_train.data.augment import REFERENCE, affine_margin, augmentation
from sauron_train.data.types import Patch, Volume
from sauron_train.errors import DataError

_REFERENCE_VOXELS = {2: 4096, 3: 16384}
_FOREGROUND_VOXELS = 4096


class Unit(NamedTuple):
    """What an epoch counts: a slice of a volume in 2D, a volume in 3D (`place` is then 0)."""

    volume: int
    place: int


class _Place(NamedTuple):
    """Where a patch is cut out of a unit, without the margin: first voxel and sides."""

    unit: int
    start: tuple[int, ...]
    size: tuple[int, ...]


class Item(NamedTuple):
    """The number of a patch within an epoch; it carries the epoch, so that workers need not be told of it."""

    epoch: int
    number: int


class TrainingPatches(Dataset[Patch]):
    """The training data of a run, as numbered patches.

    An epoch has `steps_per_epoch` times `batch_size` patches, or one of every slice (2D), `patches_per_volume` of every
    volume (3D). Slices and
    volumes come in a shuffled order in which none comes again before all have come, over the bounds of epochs too.
    With probability `data.foreground` a patch is centred on a random labelled voxel, else it lies where `data.crop`
    says; with `steps_per_epoch` such a patch also chooses a slice with labels among those of its volume. Where the
    image is smaller than the patch, zeros are put around it after everything else, which is the image's mean after
    z-normalisation; labels get background.

    Raises:
        DataError: no volumes, or a volume without labels.
    """

    def __init__(self, volumes: Sequence[Volume], config: Config, seed: int) -> None:
        if not volumes:
            raise DataError("there is no case to train on; the training side of the split is empty")
        for volume in volumes:
            if volume.label is None:
                raise DataError(
                    f"case {volume.name} has no label, so it cannot be trained on; remove it from the training cases"
                )
        self.volumes = list(volumes)
        self.config = config
        self.seed = seed
        self.epoch = 0
        self.loader: Any = None
        self._margin = affine_margin(config)
        self._units = list(self._all_units())
        self._references = [self._reference(number) for number in range(len(self._units))]
        self._foreground = [self._foreground_of(number) for number in range(len(self._units))]
        self._with_foreground = self._units_with_foreground()
        self._augment = augmentation(config, self._margin, in_place=True)

    def set_epoch(self, epoch: int) -> None:
        """Make plain numbers mean patches of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Patches per epoch."""
        steps = self.config.data.steps_per_epoch
        if steps is None:
            return len(self._units) * self.config.data.patches_per_volume
        return steps * self.config.data.batch_size

    def __getitem__(self, item: int | Item) -> Patch:
        """The patch with this number in the current epoch, or in that of the item."""
        epoch, number = item if isinstance(item, tuple) else (self.epoch, item)
        if not 0 <= number < len(self):
            raise IndexError(f"patch {number} of {len(self)}")
        unit = self._unit_of(epoch, number)
        with _seeded(_hash(self.seed, epoch, number)):
            return self._patch(unit)

    def __getstate__(self) -> dict[str, Any]:
        """Voxels as plain arrays: a worker that is spawned then needs no open file per volume."""
        state = self.__dict__ | {"loader": None, "_augment": None, "volumes": None}
        state["_packed"] = [
            (v.name, v.image.numpy(), cast(torch.Tensor, v.label).numpy(), v.spacing, v.affine) for v in self.volumes
        ]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_packed")
        self.__dict__.update(state)
        self.volumes = [
            Volume(name, torch.as_tensor(image), torch.as_tensor(label), spacing, affine)
            for name, image, label, spacing, affine in packed
        ]
        self._augment = augmentation(self.config, self._margin, in_place=True)

    def _all_units(self) -> Iterator[Unit]:
        axis = self.config.data.slice_axis
        for number, volume in enumerate(self.volumes):
            slices = volume.image.shape[1 + axis] if self.config.network.dim == 2 else 1
            yield from (Unit(number, index) for index in range(slices))

    def _unit_of(self, epoch: int, number: int) -> int:
        position = epoch * len(self) + number
        turn, place = divmod(position, len(self._units))
        return int(_order(self.seed, turn, len(self._units))[place])

    def _image_and_label(self, unit: int) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float, float]]:
        """Views of the unit as (C, X, Y, Z), (X, Y, Z), with Z = 1 for a slice, and the voxel size in mm."""
        number, index = self._units[unit]
        volume = self.volumes[number]
        label = cast(torch.Tensor, volume.label)  # the constructor refuses volumes without labels
        if self.config.network.dim == 3:
            return volume.image, label, volume.spacing
        axis = self.config.data.slice_axis
        x, y = (side for i, side in enumerate(volume.spacing) if i != axis)
        image = volume.image.select(1 + axis, index)[..., None]
        return image, label.select(axis, index)[..., None], (x, y, volume.spacing[axis])

    def _reference(self, unit: int) -> npt.NDArray[np.float32]:
        image, _, _ = self._image_and_label(unit)
        voxels = image.flatten(1).numpy()
        sample = _some(voxels, _REFERENCE_VOXELS[self.config.network.dim], _hash(self.seed, "reference", unit))
        # Almost all of a slice may be empty: a sample without its few other voxels would call it constant.
        return np.ascontiguousarray(voxels) if (np.ptp(sample, axis=1) == 0).any() else sample

    def _foreground_of(self, unit: int) -> npt.NDArray[np.int32]:
        _, label, _ = self._image_and_label(unit)
        places = np.argwhere(label.numpy()).astype(np.int32).T
        return _some(places, _FOREGROUND_VOXELS, _hash(self.seed, "foreground", unit))

    def _units_with_foreground(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, places in enumerate(self._foreground):
            if places.shape[1]:
                found.setdefault(self._units[number].volume, []).append(number)
        return found

    def fullest(self, volume: int) -> int:
        """The number of the unit of a volume in which most is labelled."""
        mine = [number for number, unit in enumerate(self._units) if unit.volume == volume]
        return max(mine, key=lambda number: int((self._image_and_label(number)[1] > 0).sum()))

    def sample(self, unit: int, draw: int | None) -> Patch:
        """A piece of a unit, the same one at every draw, augmented anew at each; without a draw as it is."""
        name = self.volumes[self._units[unit].volume].name
        with _seeded(_hash(self.seed, "place", name, unit)):
            place = self._place(unit, stay=True)
        if draw is None:
            none = {name: 0.0 for name in type(self.config.augment).model_fields if name.endswith("_p")}
            plain = self.config.augment.model_copy(update=none)
            whole = augmentation(self.config.model_copy(update={"augment": plain}))
            return self._cut(place, (0, 0, 0), whole)
        with _seeded(_hash(self.seed, "sample", name, unit, draw)):
            return self._cut(place, self._margin, self._augment)

    def _patch(self, unit: int) -> Patch:
        return self._cut(self._place(unit), self._margin, self._augment)

    def _place(self, unit: int, *, stay: bool = False) -> _Place:
        centred = float(torch.rand(())) < self.config.data.foreground
        if centred and self.config.data.steps_per_epoch is not None and not stay:
            others = self._with_foreground.get(self._units[unit].volume, [unit])
            unit = others[int(torch.randint(len(others), ()))]
        _, label, _ = self._image_and_label(unit)
        size = tuple(min(p, int(side)) for p, side in zip(self._patch_size(), label.shape, strict=True))
        return _Place(unit, self._start(unit, tuple(label.shape), size, centred), size)

    def _cut(self, place: _Place, margin: tuple[int, int, int], augment: Any) -> Patch:
        unit, start, size = place
        image, label, spacing = self._image_and_label(unit)
        affine = np.diag([*spacing, 1.0])
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=_region(image, start, size, margin), affine=affine),
            label=tio.LabelMap(tensor=_region(label[None], start, size, margin), affine=affine),
        )
        subject[REFERENCE] = torch.from_numpy(self._references[unit])
        return self._finished(augment(subject), self.volumes[self._units[unit].volume].name)

    def _patch_size(self) -> tuple[int, int, int]:
        patch = self.config.data.patch
        return (patch[0], patch[1], 1 if len(patch) == 2 else patch[2])

    def _start(self, unit: int, shape: tuple[int, ...], size: tuple[int, ...], centred: bool) -> tuple[int, ...]:
        places = self._foreground[unit]
        room = [side - s for side, s in zip(shape, size, strict=True)]
        if centred and places.shape[1]:
            centre = places[:, int(torch.randint(places.shape[1], ()))]
            return tuple(min(max(int(c) - s // 2, 0), r) for c, s, r in zip(centre, size, room, strict=True))
        if self.config.data.crop == "centre":
            return tuple(r // 2 for r in room)
        return tuple(int(torch.randint(r + 1, ())) for r in room)

    def _finished(self, subject: Any, name: str) -> Patch:
        dim = self.config.network.dim
        image, label = subject["image"].data, subject["label"].data[0]
        if dim == 2:
            image, label = image[..., 0], label[..., 0]
        patch = self.config.data.patch
        return Patch(fit(image, patch).float().contiguous(), fit(label, patch).long().contiguous(), name)


def fit(data: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Put zeros around the last axes of `data` until none is shorter than `shape` says; the odd one goes behind."""
    padding: list[int] = []
    for side, wanted in zip(reversed(data.shape), reversed(shape), strict=False):
        missing = max(0, wanted - side)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(data, padding) if any(padding) else data


def _region(
    data: torch.Tensor, start: tuple[int, ...], size: tuple[int, ...], margin: tuple[int, int, int]
) -> torch.Tensor:
    """The box of `size` at `start` of (C, X, Y, Z) with `margin` around it; beyond the image it holds the minimum."""
    slices: list[slice] = [slice(None)]
    padding: list[int] = []
    for begin, length, m, side in zip(start, size, margin, data.shape[1:], strict=True):
        low, high = begin - m, begin + length + m
        slices.append(slice(max(low, 0), min(high, side)))
        padding = [max(-low, 0), max(high - side, 0), *padding]
    box = data[tuple(slices)]
    if not any(padding):
        return box
    if data.dtype == torch.uint8:
        return F.pad(box, padding)
    minimum = box.amin(dim=(1, 2, 3), keepdim=True)
    return F.pad(box - minimum, padding) + minimum


def _some(columns: npt.NDArray[Any], count: int, seed: int) -> npt.NDArray[Any]:
    """At most `count` random columns of an array, which is copied."""
    if columns.shape[1] <= count:
        return np.ascontiguousarray(columns)
    chosen = np.random.default_rng(seed).integers(columns.shape[1], size=count)
    return np.ascontiguousarray(columns[:, chosen])


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(_hash(seed, "order", turn)).permutation(count)


def _hash(*parts: int | str) -> int:
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU for a while; those of the accelerator are left alone."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)

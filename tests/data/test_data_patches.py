from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from data_making import config, volume
from torch.utils.data import DataLoader

from sauron_train.data.loader import training_loader
from sauron_train.data.patches import Item, TrainingPatches, fit
from sauron_train.data.types import Batch, Patch
from sauron_train.errors import DataError

AUGMENT = {"scale_p": 0.5, "rotation_p": 0.5, "gamma_p": 0.5, "flip_axes": (0, 1), "elastic_p": 0.5}


def same(a: Patch | Batch, b: Patch | Batch) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.label, b.label) and a[2] == b[2]


def patches(dim: int, seed: int = 0, **sections: dict[str, object]) -> TrainingPatches:
    volumes = [volume(f"v{i}", (20, 18, 6 + i), seed=i) for i in range(3)]
    return TrainingPatches(volumes, config(dim, augment=AUGMENT, **sections), seed)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_patch_is_a_function_of_seed_epoch_and_number(dim: int) -> None:
    one, other = patches(dim), patches(dim)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    forwards = [one[i] for i in range(len(one))]
    assert torch.equal(torch.get_rng_state(), before)
    backwards = [other[i] for i in reversed(range(len(other)))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    other.set_epoch(1)
    assert not any(same(a, other[i]) for i, a in enumerate(forwards))
    assert same(other[Item(0, 1)], forwards[1])
    assert not same(patches(dim, seed=1)[0], forwards[0])


@pytest.mark.parametrize("dim", [2, 3])
def test_patches_have_the_shapes_and_types_that_were_promised(dim: int) -> None:
    for patch in patches(dim):
        size = (16, 16) if dim == 2 else (8, 8, 8)
        assert patch.image.shape == (1, *size)
        assert patch.image.dtype == torch.float32
        assert patch.image.isfinite().all()
        assert patch.label.shape == size
        assert patch.label.dtype == torch.int64
        assert set(patch.label.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_slice_is_seen_once_in_an_epoch(axis: int) -> None:
    marked = []
    for number in range(2):
        plain = volume(f"v{number}", (5, 6, 7))
        index = torch.arange(plain.image.shape[1 + axis])
        shape = [1, 1, 1]
        shape[axis] = -1
        marked.append(replace(plain, image=(index.reshape(shape) + 100.0 * number).expand(1, 5, 6, 7)))
    chosen = config(data={"slice_axis": axis, "patch": (4, 4)}, augment={"z_normalise": False})
    data = TrainingPatches(marked, chosen, 0)
    slices = (5, 6, 7)[axis]
    orders = []
    for epoch in range(3):
        seen = [float(data[Item(epoch, i)].image.max()) for i in range(len(data))]
        assert sorted(seen) == [float(i) for i in (*range(slices), *range(100, 100 + slices))]
        orders.append(seen)
    assert all(a != b for a, b in pairwise(orders))


def test_every_volume_is_seen_once_in_an_epoch() -> None:
    data = patches(3)
    assert Counter(patch.case for patch in data) == {"v0": 1, "v1": 1, "v2": 1}


def test_steps_per_epoch_sets_the_length_and_shares_out_the_volumes() -> None:
    data = patches(3, data={"steps_per_epoch": 5, "batch_size": 3})
    assert len(data) == 15
    assert Counter(patch.case for patch in data) == {"v0": 5, "v1": 5, "v2": 5}


@pytest.mark.parametrize("dim", [2, 3])
def test_foreground_patches_are_centred_on_a_label(dim: int) -> None:
    data = {"foreground": 1.0, "steps_per_epoch": 10, "patch": (4, 4) if dim == 2 else (4, 4, 4)}
    chosen = config(dim, data=data)
    label = torch.zeros(30, 30, 12, dtype=torch.uint8)
    label[13, 17, 5] = 1
    found = TrainingPatches([replace(volume(shape=(30, 30, 12)), label=label)], chosen, 0)
    assert all(patch.label.sum() == 1 for patch in found)


def test_an_image_smaller_than_the_patch_gets_its_mean_around_it() -> None:
    small = volume(shape=(10, 40, 3))
    patch = TrainingPatches([small], config(augment={"gamma_p": 1.0}), 0)[0]
    rim = torch.cat([patch.image[:, :3], patch.image[:, 13:]], dim=1)
    assert patch.image.shape == (1, 16, 16)
    assert torch.equal(rim, torch.zeros_like(rim))
    assert patch.image[:, 3:13].abs().min() > 0


def test_statistics_are_those_of_the_whole_image() -> None:
    ramp = replace(volume(), image=torch.linspace(0, 1, 20)[None, :, None, None].expand(1, 20, 18, 6))
    data = TrainingPatches([ramp], config(data={"patch": (4, 4), "foreground": 0.0}), 0)
    means = [float(patch.image.mean()) for patch in data]
    assert max(means) - min(means) > 0.3


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 50, 1)])
@pytest.mark.parametrize("dim", [2, 3])
def test_the_smallest_images_make_patches(dim: int, shape: tuple[int, int, int]) -> None:
    tiny = replace(volume(), image=torch.rand(2, *shape), label=torch.ones(shape, dtype=torch.uint8))
    for patch in TrainingPatches([tiny], config(dim, augment=AUGMENT), 0):
        assert patch.image.isfinite().all()


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(workers: int) -> None:
    alone = patches(2, data={"workers": 0, "batch_size": 4})
    helped = patches(2, data={"workers": workers, "batch_size": 4})
    for epoch in (0, 1, 3):
        expected = list(training_loader(alone, alone.config, epoch))
        found = list(training_loader(helped, helped.config, epoch))
        assert len(expected) == len(found) == 6
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))
    assert training_loader(helped, helped.config, 4) is helped.loader


def test_nothing_is_dropped_and_batches_are_stacked() -> None:
    data = patches(2, data={"batch_size": 4, "workers": 0})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches = list(training_loader(data, data.config, 0))
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(batch.cases) for batch in batches] == [4, 4, 4, 4, 4, 1]
    assert batches[0].image.shape == (4, 1, 16, 16)
    assert batches[0].label.shape == (4, 16, 16)


def test_patches_survive_the_way_to_a_spawned_worker() -> None:
    data = patches(3, data={"workers": 0})
    # Handed to the dataset as it is when a worker is started: with a loader that cannot go there.
    training_loader(data, data.config, 0)
    spawned = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    there = list(spawned)
    assert len(there) == len(data)
    assert all(same(there[i], data[i]) for i in range(len(data)))


def test_numbers_beyond_the_epoch_end_the_iteration() -> None:
    data = patches(2)
    with pytest.raises(IndexError):
        data[len(data)]
    assert len(list(data)) == len(data)


def test_what_cannot_be_trained_on_is_named() -> None:
    with pytest.raises(DataError, match="no case to train on"):
        TrainingPatches([], config(), 0)
    with pytest.raises(DataError, match="case v has no label"):
        TrainingPatches([replace(volume(), label=None)], config(), 0)


def test_fit_pads_the_last_axes() -> None:
    assert fit(torch.ones(1, 3, 8), (6, 4)).shape == (1, 6, 8)
    assert fit(torch.ones(1, 3, 8), (6, 4))[0, :, 0].tolist() == [0, 1, 1, 1, 0, 0]

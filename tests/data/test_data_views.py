from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from data_making import config, volume

from sauron_train.data.views import network_input, probe, stack_back
from sauron_train.errors import DataError


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_go_to_the_network_and_back(axis: int) -> None:
    chosen = config(data={"slice_axis": axis})
    case = volume(channels=2)
    image, label = network_input(case, chosen)
    sides = [side for i, side in enumerate(case.image.shape[1:]) if i != axis]
    assert image.shape == (case.image.shape[1 + axis], 2, *sides)
    torch.testing.assert_close(image.mean(dim=(2, 3)), torch.zeros(image.shape[:2]), atol=1e-4, rtol=0)
    assert label is not None
    assert case.label is not None
    assert torch.equal(stack_back(label, chosen), case.label)


def test_a_volume_goes_to_the_network_and_back() -> None:
    case = volume(channels=2)
    image, label = network_input(case, config(3))
    assert image.shape == (1, 2, 20, 18, 6)
    assert label is not None
    assert case.label is not None
    assert torch.equal(stack_back(label, config(3)), case.label)
    assert network_input(replace(case, label=None), config(3))[1] is None


def test_the_probe_is_the_slice_with_most_labels() -> None:
    volumes = [volume(f"v{i}", seed=i) for i in range(6)]
    found = probe(volumes, config(probe={"images": 3, "seed": 1}))
    assert found.images.shape == (3, 1, 16, 16)
    assert found.images.dtype == np.float32
    assert found.labels.shape == (3, 16, 16)
    assert found.labels.dtype == np.uint8
    assert all((label > 0).sum() == 42 for label in found.labels)
    assert all(name.endswith(" slice 1") for name in found.names)
    assert len(set(found.names)) == 3
    assert found.spacing == (1.0, 1.0)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_probe_follows_the_seed_and_not_the_order(dim: int) -> None:
    volumes = [volume(f"v{i}", seed=i) for i in range(6)]
    chosen = config(dim, probe={"images": 2})
    assert probe(volumes, chosen).names == probe(volumes[::-1], chosen).names
    other = [config(dim, probe={"images": chosen.probe.images, "seed": seed}) for seed in range(8)]
    assert len({probe(volumes, one).names for one in other}) > 1
    of_the_run = chosen.model_copy(update={"seed": 3})
    assert probe(volumes, of_the_run).names == probe(volumes, other[3]).names


def test_cases_with_labels_come_first() -> None:
    empty = torch.zeros(20, 18, 6, dtype=torch.uint8)
    volumes = [replace(volume(f"v{i}"), label=empty) for i in range(5)] + [volume("w")]
    assert probe(volumes, config(3, probe={"images": 1})).names == ("w",)
    assert len(probe(volumes, config(3, probe={"images": 9})).names) == 6


def test_the_probe_keeps_to_the_patch_and_to_the_labels() -> None:
    found = probe([volume(shape=(40, 18, 6))], config(3))
    assert found.images.shape == (1, 1, 8, 8, 8)
    assert found.spacing == (1.0, 1.0, 1.0)
    assert (found.labels > 0).any()
    assert not found.images[..., 0].any()


def test_a_probe_needs_labelled_cases() -> None:
    with pytest.raises(DataError, match="no case for the probe"):
        probe([], config())
    with pytest.raises(DataError, match="case v has no label"):
        probe([replace(volume(), label=None)], config())

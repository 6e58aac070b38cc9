from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from data_making import config

from sauron_train.data.augment import REFERENCE, Gamma, affine_margin, augmentation, normalise
from sauron_train.data.spatial import affine_in_plane, elastic, spline_weights
from sauron_train.errors import ConfigError

EVERYTHING = {
    "scale_p": 1.0, "rotation_p": 1.0, "gamma_p": 1.0, "flip_axes": (0, 1), "flip_p": 0.5, "elastic_p": 1.0,
}  # fmt: skip
SHAPES = {2: (40, 36, 1), 3: (24, 20, 16)}


def blobs(shape: tuple[int, int, int]) -> torch.Tensor:
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    x, y, _ = shape
    label[:, x // 4 : x // 2, y // 3 : y - 4] = 1
    label[:, x // 2 : x - 6, y // 3 : y // 2] = 2
    return label


def smooth(shape: tuple[int, int, int]) -> torch.Tensor:
    axes = [torch.linspace(0, 3, side) for side in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return (torch.sin(2 * x) + torch.cos(3 * y) + 0.3 * z)[None]


def subject(image: torch.Tensor, label: torch.Tensor) -> Any:
    return tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))


@pytest.mark.parametrize("dim", [2, 3])
def test_labels_stay_labels_and_the_given_subject_as_it_is(dim: int) -> None:
    torch.manual_seed(0)
    label = blobs(SHAPES[dim])
    given = subject(label.float() + 1, label.clone())
    changed = augmentation(config(dim, augment=EVERYTHING))(given)
    assert changed["label"].data.dtype == torch.uint8
    assert set(changed["label"].data.unique().tolist()) <= {0, 1, 2}
    assert changed["label"].data.shape == label.shape
    assert not torch.equal(changed["label"].data, label)
    assert torch.equal(given["label"].data, label)
    assert torch.equal(given["image"].data, label.float() + 1)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_label_stay_aligned(dim: int, seed: int) -> None:
    label = (blobs(SHAPES[dim]) > 0).to(torch.uint8)
    chosen = config(dim, augment={**EVERYTHING, "gamma_p": 0.0, "z_normalise": False})
    torch.manual_seed(seed)
    changed = augmentation(chosen)(subject(label.float(), label))
    found, expected = changed["image"].data > 0.5, changed["label"].data > 0
    # Linear and nearest interpolation of a border differ by less than a voxel after each of two samplings.
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.93


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize(("scales", "degrees"), [((1.2, 0.8), 0.0), ((1.0, 1.0), 25.0), ((1.0, 1.0), -160.0)])
def test_scaling_and_rotation_agree_with_torchio(
    scales: tuple[float, float], degrees: float, spacing: tuple[float, float, float]
) -> None:
    image = smooth((40, 36, 5))
    affine = torch.diag(torch.tensor([*spacing, 1.0])).numpy()
    expected = tio.Affine(scales=(*scales, 1), degrees=(0, 0, degrees), translation=(0, 0, 0))(
        tio.ScalarImage(tensor=image, affine=affine)
    ).data
    found = affine_in_plane(image, spacing, scales, degrees, (40, 36), label=False)
    # TorchIO's own answer differs by rounding at the rim, where one of the two takes a voxel for outside.
    assert ((expected - found).abs() < 1e-3).float().mean() > 0.99


def test_scaling_comes_before_rotation() -> None:
    image = smooth((40, 40, 1))
    scaled = affine_in_plane(image, (1.0, 1.0, 1.0), (1.2, 0.9), 0.0, (40, 40), label=False)
    twice = affine_in_plane(scaled, (1.0, 1.0, 1.0), (1.0, 1.0), 30.0, (40, 40), label=False)
    once = affine_in_plane(image, (1.0, 1.0, 1.0), (1.2, 0.9), 30.0, (40, 40), label=False)
    centre = (slice(None), slice(10, 30), slice(10, 30))
    assert (once - twice)[centre].abs().max() < 0.02


@pytest.mark.parametrize("shape", [(40, 36, 1), (24, 30, 20)])
def test_elastic_deformation_agrees_with_torchio(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    field = torch.zeros(3, 7, 7, 7)
    field[:, 2:5, 2:5, 2:5] = torch.rand(3, 3, 3, 3) * 4 - 2
    image = smooth(shape)
    if shape[2] == 1:
        field[2] = 0
    # With this affine the axes of ITK, along which TorchIO displaces, are those of the voxels.
    expected = tio.ElasticDeformation(control_points=field.movedim(0, -1).numpy(), max_displacement=(2, 2, 0))(
        tio.ScalarImage(tensor=image, affine=np.diag([-1, -1, 1, 1]))
    ).data
    found = elastic(image, (1.0, 1.0, 1.0), field, label=False)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert (found - expected)[inner].abs().max() < 0.02
    assert (found - image)[inner].abs().max() > 0.05


def test_spline_weights_share_out_the_whole() -> None:
    weights = spline_weights(33, 7)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(33))
    assert (weights >= 0).all()


def test_margin_is_all_that_a_patch_needs() -> None:
    for bounds in ((-10.0, 10.0), (-180.0, 180.0)):
        chosen = config(data={"patch": (32, 16)}, augment={"scale_p": 1.0, "rotation_p": 1.0, "rotation": bounds})
        mx, my, mz = affine_margin(chosen)
        assert mz == 0
        given = torch.ones(1, 32 + 2 * mx, 16 + 2 * my, 1)
        given[:, 0, 0] = 0  # a minimum that outside voxels would get
        transform = augmentation(chosen, (mx, my, 0))
        torch.manual_seed(0)
        for _ in range(50):
            result = transform.transforms[0](subject(given.clone(), given.to(torch.uint8)))["image"].data
            assert result.shape == (1, 32, 16, 1)
            assert result.min() > 0
    assert affine_margin(config()) == (0, 0, 0)


def test_z_normalisation_is_per_channel() -> None:
    image = torch.rand(2, 9, 8, 7) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1) + 3
    found = normalise(image, config(3))
    torch.testing.assert_close(found.flatten(1).mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.flatten(1).std(dim=1, correction=0), torch.ones(2))
    assert torch.equal(normalise(image, config(3, augment={"z_normalise": False})), image)


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567, -3e7])
def test_a_constant_image_becomes_zero(value: float) -> None:
    image = torch.full((1, 31, 17, 1), value)
    assert not normalise(image, config()).any()
    changed = augmentation(config(augment=EVERYTHING))(subject(image, torch.zeros(1, 31, 17, 1, dtype=torch.uint8)))
    assert not changed["image"].data.any()


def test_gamma_changes_the_reference_with_the_image() -> None:
    image = torch.rand(2, 6, 5, 4) - 0.3
    given = subject(image, torch.zeros(1, 6, 5, 4, dtype=torch.uint8))
    given[REFERENCE] = image.flatten(1).clone()
    changed = Gamma((0.2, 0.5))(given)
    torch.testing.assert_close(changed["image"].data.flatten(1), changed[REFERENCE])
    assert not torch.allclose(changed["image"].data, image)
    assert torch.equal(changed["image"].data.sign(), image.sign())


def test_too_few_control_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 5"):
        augmentation(config(augment={"elastic_p": 0.5, "elastic_control_points": 4}))

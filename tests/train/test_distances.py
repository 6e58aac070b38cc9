"""δ_opt and δ_prune against the reference numbers, and where numerics are delicate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sauron_train.analysis.distances import distance_matrix, nearest_among, pool_maps, pool_scaled
from sauron_train.config import NetworkConfig
from sauron_train.losses import deep_supervision_loss
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.distances import (
    Normalization,
    delta_opt,
    delta_prune,
    mean_delta_opt,
    pool,
)
from sauron_train.pruning.sauron import Sauron

DOUBLE = {"rtol": 0, "atol": 1e-12}
SINGLE = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize(
    ("name", "normalization"),
    [
        ("euclidean_norm_2d_even", "maps"),
        ("euclidean_norm_2d_odd", "maps"),
        ("euclidean_norm_deltaprunenorm_2d_even", "distances"),
        ("euclidean_norm_nonorm_2d_even", "none"),
    ],
)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_delta_opt_in_2d(golden: Any, name: str, normalization: Normalization, dtype: torch.dtype, close: Any) -> None:
    numbers = golden(name)
    maps = torch.tensor(numbers["fm"], dtype=dtype, requires_grad=True)
    distances = delta_opt(maps, normalization)
    distances.mean().backward()
    expected = numbers["delta_opt"] if "delta_opt" in numbers else numbers["delta"]
    np.testing.assert_allclose(distances.detach(), expected, **close)
    assert maps.grad is not None
    np.testing.assert_allclose(maps.grad, numbers["grad_of_mean"], **close)


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_pooling_window(golden: Any, window: int) -> None:
    numbers = golden("euclidean_norm_sf")
    np.testing.assert_allclose(
        delta_opt(torch.tensor(numbers["fm"]), window=window), numbers[f"delta_sf{window}"], **DOUBLE
    )


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_3d_as_intended(golden: Any, dtype: torch.dtype, close: Any) -> None:
    numbers = golden("distances_3d")
    maps = torch.tensor(numbers["fm"], dtype=dtype)
    np.testing.assert_allclose(delta_opt(maps), numbers["delta_opt_intended"], **close)
    np.testing.assert_allclose(delta_opt(maps, "distances"), numbers["deltaprunenorm"], **close)
    np.testing.assert_allclose(delta_opt(maps, "none"), numbers["nonorm"], **close)
    np.testing.assert_allclose(delta_prune(maps, [2])[0], numbers["delta_prune_ref2"], **close)
    assert delta_opt(maps).mean().item() == pytest.approx(float(numbers["mean_intended"]), abs=close["atol"])


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_delta_prune_in_2d(golden: Any, dtype: torch.dtype, close: Any) -> None:
    numbers = golden("euclidean_rand_2d_even")
    maps = torch.tensor(numbers["fm"], dtype=dtype)
    found = delta_prune(maps, numbers["ref_idx"].tolist())
    np.testing.assert_allclose(found, numbers["delta_prune"], rtol=0, atol=max(close["atol"], 1e-8))


@pytest.mark.parametrize("shape", [(2, 6, 8, 9), (2, 5, 4, 6, 5), (1, 3, 1, 1)])
def test_several_references_at_once_are_each_by_itself(shape: tuple[int, ...]) -> None:
    maps = 50 + torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    maps[:, 2] = maps[:, 0]
    pooled = pool(maps.double(), 2).flatten(2)
    for reference, found in enumerate(delta_prune(maps, range(shape[1]))):
        naive = (pooled - pooled[:, reference : reference + 1]).square().mean(dim=2).sqrt()
        expected = (naive / naive.amax(dim=1, keepdim=True)).mean(dim=0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert delta_prune(maps, [0])[0, 2] < 1e-6, "equal maps"


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 4, 3, 5)])
@pytest.mark.parametrize("normalization", ["maps", "none", "distances"])
def test_gradient(shape: tuple[int, ...], normalization: Normalization) -> None:
    maps = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: delta_opt(x, normalization), maps)


@pytest.mark.parametrize("normalization", ["maps", "none", "distances"])
@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (1, 4, 1, 1), (2, 4, 3, 1, 5)])
def test_gradients_in_single_and_double_agree(normalization: Normalization, shape: tuple[int, ...]) -> None:
    maps = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for dtype in (torch.float64, torch.float32):
        leaf = maps.detach().to(dtype).requires_grad_()
        mean_delta_opt([leaf], normalization).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalization", ["maps", "none", "distances"])
@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (1, 4, 1, 1), (2, 4, 3, 1, 5)])
def test_finite_where_maps_are_equal_or_constant(normalization: Normalization, shape: tuple[int, ...]) -> None:
    maps = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    maps[:, 1] = maps[:, 0]
    maps[:, 2] = 7.0
    maps.requires_grad_()
    distances = delta_opt(maps, normalization)
    distances.mean().backward()
    assert distances.isfinite().all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert (distances[:, 0] == 0).all()


@pytest.mark.parametrize("normalization", ["maps", "none", "distances"])
@pytest.mark.parametrize("images", [[0], [2], [1, 2], [2, 0]])
def test_some_images_of_a_batch(normalization: Normalization, images: list[int]) -> None:
    maps = torch.randn(3, 4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    alone = maps.detach()[images].requires_grad_()
    some, same = delta_opt(maps, normalization, images=images), delta_opt(alone, normalization)
    torch.testing.assert_close(some, same)
    (expected,) = torch.autograd.grad(same.mean(), alone)
    (found,) = torch.autograd.grad(some.mean(), maps)
    torch.testing.assert_close(found[images], expected)
    by_tensor = delta_opt(maps, normalization, images=torch.tensor(images))
    torch.testing.assert_close(by_tensor, some)
    torch.testing.assert_close(torch.autograd.grad(by_tensor.mean(), maps)[0], found)
    assert not found[[image for image in range(3) if image not in images]].any()


@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (2, 3, 4, 3, 5)])
def test_maps_of_a_bare_convolution(shape: tuple[int, ...]) -> None:
    convolution = (torch.nn.ConvTranspose2d if len(shape) == 4 else torch.nn.ConvTranspose3d)(3, 4, 1).double()
    maps = convolution(torch.randn(*shape, dtype=torch.float64))
    (bare,) = torch.autograd.grad(delta_opt(maps).mean(), maps, retain_graph=True)
    (copied,) = torch.autograd.grad(delta_opt(maps.clone()).mean(), maps)
    torch.testing.assert_close(bare, copied, rtol=0, atol=0)


def test_one_filter_counts_as_zero() -> None:
    one, four = torch.rand(2, 1, 4, 4), torch.rand(2, 4, 4, 4)
    assert delta_opt(one).shape == (2, 0)
    assert mean_delta_opt([one, four]).item() == pytest.approx(delta_opt(four).mean().item() / 2)
    assert delta_prune(one, [0]).tolist() == [[0.0]]


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (1, 2, 5, 6, 7), (1, 2, 1, 9)])
def test_pooling_is_average_pooling(shape: tuple[int, ...], window: int) -> None:
    maps = torch.randn(*shape)
    kernel = tuple(min(window, side) for side in shape[2:])
    pooling = torch.nn.functional.avg_pool2d if maps.ndim == 4 else torch.nn.functional.avg_pool3d
    torch.testing.assert_close(pool(maps, window), pooling(maps, kernel))
    np.testing.assert_allclose(pool_maps(maps[0].numpy(), window), pool(maps, window)[0], atol=1e-6)


def scaled_then_pooled(maps: Any, window: int) -> Any:
    """As the definition has it, one map after the other."""
    constant = maps.max(axis=tuple(range(1, maps.ndim))) == maps.min(axis=tuple(range(1, maps.ndim)))
    scaled = [m * 0 if flat else (m - m.min()) / (m.max() - m.min()) for m, flat in zip(maps, constant, strict=True)]
    return pool(torch.tensor(np.stack(scaled), dtype=torch.float64)[None], window)[0].numpy()


@pytest.mark.parametrize("window", [1, 2, 3, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("shape", [(6, 9, 10), (5, 4, 6, 7), (4, 1, 9)])
def test_scaling_the_pooled_maps_is_pooling_the_scaled_ones(shape: tuple[int, ...], dtype: Any, window: int) -> None:
    maps = (1000 * np.random.default_rng(0).normal(size=shape)).astype(dtype)
    maps[3] = 1000 / 3
    before = maps.copy()
    result = pool_scaled(maps, window)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, scaled_then_pooled(maps.astype(np.float64), window), rtol=0, atol=1e-12)
    assert not result[3].any()
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize("shape", [(6, 9, 10), (5, 4, 6, 7)])
def test_distance_matrix_agrees_with_a_loop_and_with_delta_opt(shape: tuple[int, ...]) -> None:
    maps = np.random.default_rng(0).normal(size=shape)
    maps[2] = 3 * maps[1] + 1
    maps[3] = 5.0
    points = scaled_then_pooled(maps, 2).reshape(len(maps), -1)
    naive = [[np.sqrt(np.mean((a - b) ** 2)) for b in points] for a in points]
    matrix = distance_matrix(maps)
    np.testing.assert_allclose(matrix, naive, atol=1e-7)
    np.testing.assert_allclose(matrix[0, 1:], delta_opt(torch.tensor(maps)[None])[0], atol=1e-7)
    assert matrix[1, 2] == pytest.approx(0, abs=1e-7)


def test_near_duplicates_are_told_apart() -> None:
    generator = np.random.default_rng(0)
    base = generator.random((32, 32))
    maps = np.stack([base, base + 1e-5 * generator.normal(size=base.shape), generator.random((32, 32))])
    points = scaled_then_pooled(maps, 2).reshape(3, -1)
    expected = np.sqrt(np.mean((points[0] - points[1]) ** 2))
    assert distance_matrix(maps)[0, 1] == pytest.approx(expected, rel=1e-4)


def test_nearest_among_survivors() -> None:
    distances = np.array([[0, 0.1, 0.5, 0.2], [0.1, 0, 0.4, 0.3], [0.5, 0.4, 0, 0.6], [0.2, 0.3, 0.6, 0]])
    nearest, distance = nearest_among(distances, np.array([2, 3]))
    assert nearest.tolist() == [3, 3, 3, 2]
    assert distance.tolist() == [0.2, 0.3, 0.6, 0.6]
    nearest, distance = nearest_among(distances[:1, :1], np.array([0]))
    assert nearest.tolist() == [-1]
    assert np.isnan(distance).all()


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
def test_empty_images_train(dim: int, norm: str) -> None:
    """Images of zeros beside others, and images of zeros alone: every map of a layer is constant then."""
    config = NetworkConfig.model_validate({"dim": dim, "levels": 2, "init_filters": 4, "norm": norm})
    model = UNet(UNetSpec.unpruned(config, 1, 2), torch.Generator().manual_seed(0))
    images = torch.randn(2, 1, *(8,) * dim, generator=torch.Generator().manual_seed(0))
    for batch in (images * torch.tensor([0.0, 1.0]).view(2, *(1,) * (dim + 1)), torch.zeros_like(images)):
        sauron = Sauron(model, batch, None, UNet.layer_name)
        labels = torch.zeros(2, *(8,) * dim, dtype=torch.long)
        loss = deep_supervision_loss(model.train()(batch), labels) + sauron.penalty()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        measured = sauron.measure([batch])
        assert all(np.isfinite(measure.distances).all() for measure in measured.values())
        sauron.close()

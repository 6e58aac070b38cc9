"""The compiled way to δ_opt on a CPU gives what PyTorch's operations give, and stands back where it cannot."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sauron_train.pruning import compiled
from sauron_train.pruning.distances import delta_opt
from sauron_train.pruning.reference import distances_to_reference
from sauron_train.pruning.sauron import Sauron

SHAPES = [(2, 5, 16, 16), (2, 5, 9, 7), (3, 4, 6, 8, 10), (2, 3, 5, 7, 9), (2, 4, 33), (1, 3, 1, 1), (2, 1, 4, 4)]
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(compiled, "_VOXELS_PER_THREAD", 1)
    yield
    torch.set_num_threads(before)


def some_maps(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Maps as an activation gives them: many zeros, one that is constant, two that are equal."""
    maps = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()
    if shape[1] > 3:
        maps[:, 1] = 3.0
        maps[:, 2] = maps[:, 3]
    return maps


def both(maps: Tensor, **how: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Distances and gradients, compiled and by PyTorch's operations in float64."""
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = maps.to(dtype).requires_grad_()
        assert compiled.fits(leaf) == (dtype == torch.float32)
        distances = distances_to_reference(leaf, **how)
        pulled = torch.arange(1, 1 + distances.numel()).view_as(distances) / distances.numel()
        (gradient,) = torch.autograd.grad((distances * pulled).sum(), leaf)
        results.append((distances.detach().double(), gradient.double()))
    return results[0], results[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("scale", [True, False])
def test_as_by_operations(shape: tuple[int, ...], window: int, scale: bool) -> None:
    for reference in {0, shape[1] - 1}:
        found, expected = both(some_maps(shape), reference=reference, window=window, scale=scale)
        torch.testing.assert_close(found[0], expected[0], **CLOSE)
        torch.testing.assert_close(found[1], expected[1], **CLOSE)


@pytest.mark.parametrize("images", [[1], [2, 0], torch.tensor([1])])
def test_some_images(images: Any) -> None:
    found, expected = both(some_maps((3, 4, 6, 8)), reference=1, window=2, scale=True, images=images)
    torch.testing.assert_close(found[0], expected[0], **CLOSE)
    torch.testing.assert_close(found[1], expected[1], **CLOSE)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("shape", [(1, 7, 8, 8), (3, 5, 4, 6, 8)])
def test_on_several_threads(shape: tuple[int, ...]) -> None:
    found, expected = both(some_maps(shape), reference=2, window=2, scale=True)
    torch.testing.assert_close(found[0], expected[0], **CLOSE)
    torch.testing.assert_close(found[1], expected[1], **CLOSE)


def test_threads_stay_as_many_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_VOXELS_PER_THREAD", 1)
    before = torch.get_num_threads()
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            delta_opt(some_maps((2, 5, 8, 8)).requires_grad_()).mean().backward()
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)


def test_one_thread_where_numba_has_none_in_common_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_most_threads", lambda: 1)
    assert compiled._parts(torch.Size((8, 64, 512, 512))) == 1


@pytest.mark.parametrize("at", [(0, 2, 0, 0), (0, 0, 3, 5)])
@pytest.mark.parametrize("wrong", [float("nan"), -float("nan"), float("inf")])
@pytest.mark.parametrize("scale", [True, False])
def test_what_is_no_number_stays_none(at: tuple[int, ...], wrong: float, scale: bool) -> None:
    maps = some_maps((2, 4, 6, 8))
    maps[at] = wrong
    distances = distances_to_reference(maps, 0, 2, scale)
    assert not distances[0].isfinite().all()
    assert distances[1].isfinite().all(), "the other image"


def test_large_and_small_values() -> None:
    maps = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    maps[:, 1] *= 1e12
    maps[:, 2] *= 1e-12
    maps[:, 3] = -maps[:, 3].abs() - 1
    found, expected = both(maps, reference=0, window=2, scale=True)
    torch.testing.assert_close(found[0], expected[0], **CLOSE)


def test_only_what_there_are_kernels_for() -> None:
    maps = torch.zeros(2, 4, 6, 8)
    assert compiled.fits(maps)
    assert not compiled.fits(maps.double())
    assert not compiled.fits(maps.bfloat16())
    assert not compiled.fits(maps.to(memory_format=torch.channels_last))
    assert not compiled.fits(torch.zeros(2, 4, 6, 8, 2, 2))
    assert not compiled.fits(torch.zeros(0, 4, 6, 8))
    assert not compiled.fits(maps.to("meta"))


def test_other_layouts_in_memory() -> None:
    maps = some_maps((2, 5, 6, 8))
    turned = maps.to(memory_format=torch.channels_last)
    torch.testing.assert_close(delta_opt(turned), delta_opt(maps), **CLOSE)


class Branches(nn.Module):
    """A layer that two others read, whose sum hands the same gradient to both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = self.first(images).relu()
        left, right = self.second(maps), self.third(maps)
        return [maps, left, right], torch.cat([left + right, maps], 1)


@pytest.mark.parametrize("images", [[1], [2, 0], None])
def test_beside_a_loss_only_the_images_that_are_looked_at_are_added_to(images: list[int] | None) -> None:
    model, batch = Branches(), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        layers, output = model(batch.to(dtype))
        penalty = torch.stack([delta_opt(maps, images=images, with_loss=True).mean() for maps in layers]).mean()
        (output.square().mean() + penalty).backward()
        gradients.append([p.grad.double() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == 6
    torch.testing.assert_close(gradients[0], gradients[1], **CLOSE)


def test_where_there_is_a_loss_nothing_is_made_for_images_that_are_not_looked_at() -> None:
    maps = some_maps((4, 3, 6, 8)).requires_grad_()
    alone, beside = (
        torch.autograd.grad(compiled.compiled_distances(maps, 0, 2, True, False, (2,), with_loss).sum(), maps)[0]
        for with_loss in (False, True)
    )
    assert not alone.is_sparse
    assert beside.is_sparse
    assert beside._values().shape == (1, 3, 6, 8)
    torch.testing.assert_close(beside.to_dense(), alone)


def test_no_numba(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "numba" or (name == "sauron_train.pruning" and "kernels" in (rest[2] or ())):
            raise ImportError("No module named 'numba'")
        return real(name, *rest)

    maps = some_maps((2, 5, 6, 8))
    expected = delta_opt(maps)
    monkeypatch.setattr(builtins, "__import__", refuse)
    compiled._kernels.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            torch.testing.assert_close(delta_opt(maps), expected, **CLOSE)
            delta_opt(maps)
        assert not compiled.fits(maps)
        assert [r.getMessage() for r in caplog.records] == [
            "δ_opt is computed by PyTorch, which takes longer: No module named 'numba'"
        ]
    finally:
        compiled._kernels.cache_clear()


def test_a_network_steps_alike_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    gradients = []
    for kernels in (compiled._kernels(), None):
        monkeypatch.setattr(compiled, "_kernels", lambda kernels=kernels: kernels)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(4, 2, 1))
        sauron = Sauron(model, images)
        model.train()(images)
        loss = sauron.penalty()
        loss.backward()
        assert loss > 0
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        sauron.close()
    torch.testing.assert_close(gradients[0], gradients[1], **CLOSE)

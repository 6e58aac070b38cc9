"""The compiled way to δ_opt on a CPU gives what PyTorch's operations give, and stands back where it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numba
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

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


@pytest.mark.parametrize("extent", [1e-39, 1e-45])
@pytest.mark.parametrize("reference", [0, 1])
def test_what_is_as_good_as_constant(extent: float, reference: int) -> None:
    maps = some_maps((1, 3, 4, 4))
    maps[0, 1] = 0
    maps[0, 1, 0, 0] = extent
    leaf = maps.requires_grad_()
    distances = distances_to_reference(leaf, reference, 2, True)
    constant = maps.detach().clone()
    constant[0, 1] = 0
    torch.testing.assert_close(distances.detach(), distances_to_reference(constant, reference, 2, True))
    distances.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_are_counted_from_the_end_too_and_others_refused(dtype: torch.dtype) -> None:
    maps = some_maps((3, 4, 6, 8)).to(dtype).requires_grad_()
    from_end = delta_opt(maps, reference=-1, images=[-1, 0], with_loss=True)
    torch.testing.assert_close(from_end, delta_opt(maps, reference=3, images=[2, 0]))
    for reference in (4, -5):
        with pytest.raises(IndexError):
            delta_opt(maps, reference=reference)
    for images in ([3], [-4], [0, 7]):
        with pytest.raises(IndexError):
            delta_opt(maps, images=images)
    with pytest.raises(ValueError, match="once each"):
        delta_opt(maps, images=[1, -2])


def test_only_what_there_are_kernels_for() -> None:
    maps = torch.zeros(2, 4, 6, 8)
    assert compiled.fits(maps)
    assert not compiled.fits(maps.double())
    assert not compiled.fits(maps.bfloat16())
    assert not compiled.fits(maps.to(memory_format=torch.channels_last))
    assert not compiled.fits(torch.zeros(2, 4, 6, 8, 2, 2))
    assert not compiled.fits(torch.zeros(0, 4, 6, 8))
    assert not compiled.fits(maps.to("meta"))
    with FakeTensorMode():
        assert not compiled.fits(torch.zeros(2, 4, 6, 8))


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
        torch.autograd.grad(compiled.compiled_distances(maps, 0, 2, True, False, (2,), sparse).sum(), maps)[0]
        for sparse in (False, True)
    )
    assert not alone.is_sparse
    assert beside.is_sparse
    assert beside._values().shape == (1, 3, 6, 8)
    torch.testing.assert_close(beside.to_dense(), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_made_when_that_of_the_network_has_come_to_the_maps(dtype: torch.dtype) -> None:
    """Not all at first, where they would lie in memory until they are needed."""
    events: list[str] = []
    first = some_maps((2, 4, 8, 8)).to(dtype).requires_grad_() * 2
    second = first.exp()
    penalties = [distances_to_reference(maps, 0, 2, True) for maps in (first, second)]
    for name, distances in zip(("δ_opt of the first", "δ_opt of the second"), penalties, strict=True):
        assert distances.grad_fn is not None
        distances.grad_fn.register_hook(lambda *_, name=name: events.append(name))
    second.register_hook(lambda _: events.append("second"))
    (second.sum() + penalties[0].sum() + penalties[1].sum()).backward()
    assert events == ["δ_opt of the second", "second", "δ_opt of the first"]


class Functional(nn.Module):
    """Its activations are no modules, so that its maps are made a second time for δ_opt."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Any:
        maps = F.relu(self.first(images))
        return self.last(F.leaky_relu(maps + self.second(maps)))


@pytest.mark.parametrize("with_loss", [False, True])
def test_maps_that_are_made_again_get_no_gradient_from_the_loss(with_loss: bool) -> None:
    torch.manual_seed(0)
    model, images = Functional(), torch.randn(3, 1, 8, 8)
    sauron = Sauron(model, images, {"loss": {"samples": 1}})
    loss = model.train()(images).square().mean() + sauron.penalty(with_loss=with_loss)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.fixture
def fresh() -> Iterator[None]:
    """As if no kernel had been loaded yet."""
    for loaded in (compiled._kernels, compiled._most_threads):
        loaded.cache_clear()
    yield
    for loaded in (compiled._kernels, compiled._most_threads):
        loaded.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "error", [ImportError("No module named 'numba'"), EOFError("Ran out of input"), OSError(28, "No space left")]
)
def test_kernels_that_cannot_be_had(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_words: Any, **_keywords: Any) -> None:
        raise error

    maps = some_maps((2, 5, 6, 8))
    expected = delta_opt(maps)
    compiled._kernels.cache_clear()
    monkeypatch.setattr(compiled, "_try", fail)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(delta_opt(maps), expected, **CLOSE)
        delta_opt(maps)
        compiled.prepare(torch.device("cpu"), lambda _what: None, lambda _sentence: None)
    assert not compiled.fits(maps)
    assert [r.getMessage() for r in caplog.records] == [f"δ_opt is computed by PyTorch, which takes longer: {error}"]


@pytest.mark.usefixtures("fresh")
def test_kernels_that_are_not_to_be_compiled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not compiled.fits(torch.zeros(2, 4, 6, 8))
    assert "NUMBA_DISABLE_JIT is set" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_the_way_out_is_named_where_kernels_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_words: Any, **_keywords: Any) -> None:
        raise RuntimeError("cannot cache function 'forward': no locator available for file 'kernels.py'")

    monkeypatch.setattr(compiled, "_try", fail)
    assert not compiled.fits(torch.zeros(2, 4, 6, 8))
    assert "name one that can be written as NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_threads_that_somebody_else_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "workqueue")
    assert compiled._most_threads() == 1
    assert numba.config.THREADING_LAYER == "workqueue"


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("meta", 0)])
def test_it_is_told_what_takes_long(device: str, times: int) -> None:
    told: list[str] = []
    remarks: list[str] = []
    compiled.prepare(torch.device(device), told.append, remarks.append)
    assert len(told) == times


@pytest.mark.usefixtures("fresh")
def test_who_waits_for_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()
    sentences: list[str] = []

    def remark(sentence: str) -> None:
        sentences.append(sentence)
        said.set()

    monkeypatch.setattr(compiled, "_LATE", 0.01)
    monkeypatch.setattr(compiled, "_try", lambda *_words, **_keywords: said.wait(60))
    compiled.prepare(torch.device("cpu"), lambda _what: None, remark)
    assert sentences == ["δ_opt is being compiled for this machine, which takes half a minute and is done once"]


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

"""Compensated cuts: a duplicate leaves without a trace, and anything else leaves less of one than a plain cut."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from sauron_train.config import NetworkConfig
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.compensation import ReaderMoments
from sauron_train.pruning.sauron import Sauron


def sauron(dim: int, norm: str, compensate: str) -> tuple[UNet, Sauron, Tensor]:
    config = NetworkConfig.model_validate({"dim": dim, "levels": 3, "init_filters": 6, "norm": norm})
    model = UNet(UNetSpec.unpruned(config, 1, 3), torch.Generator().manual_seed(0))
    x = torch.randn(2, 1, *(16,) * dim, generator=torch.Generator().manual_seed(1))
    return model.eval(), Sauron(model, x[:1], {"prune": {"compensate": compensate}}, UNet.layer_name), x


def cut_filter(method: Sauron, number: int, x: Tensor, layers: Iterable[str]) -> None:
    method.measure([x])
    method.apply(method.graph.resolve({layer: [number] for layer in layers}), None)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
def test_an_exact_duplicate_leaves_without_a_trace(dim: int, norm: str) -> None:
    model, method, x = sauron(dim, norm, "merge")
    for layer in method.graph.layers.values():
        module = model.get_submodule(layer.module)
        with torch.no_grad():
            by_filter = module.weight if layer.kind == "conv" else module.weight.transpose(0, 1)
            by_filter[2] = by_filter[4]
    for layer_name in method.layers:
        before = model(x)
        cut_filter(method, 2, x, [layer_name])
        for ours, expected in zip(model(x), before, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("dim", [2, 3])
def test_a_merged_cut_changes_the_output_less_than_a_plain_one(dim: int) -> None:
    changes = {}
    for compensate in ("none", "merge"):
        model, method, x = sauron(dim, "instance", compensate)
        before = model(x)[-1]
        cut_filter(method, 2, x, method.layers)
        changes[compensate] = (model(x)[-1] - before).square().mean().item()
    assert changes["merge"] < changes["none"]


def test_moments_are_those_of_all_voxels() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [100 + torch.randn(n, 5, 4, 6, generator=generator) for n in (2, 3)]
    moments = ReaderMoments()
    for batch in batches:
        moments.add(batch)
    voxels = torch.cat(batches).double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(moments.mean, voxels.mean(dim=1))
    torch.testing.assert_close(moments.covariance, voxels.cov(correction=0), rtol=1e-5, atol=1e-6)


def test_a_survivor_that_barely_varies_is_not_taken_many_times_over() -> None:
    """Nearly dead filters are what pruning makes; taken a million times, their noise would be the output."""
    torch.manual_seed(0)
    changes = {}
    for compensate in ("none", "merge"):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.LeakyReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        with torch.no_grad():
            model[2].weight[1:] *= 1e-6
        method = Sauron(model.eval(), torch.randn(1, 1, 24, 24), {"prune": {"compensate": compensate}})
        images, others = torch.randn(2, 1, 24, 24), 3 + 2 * torch.randn(2, 1, 24, 24)
        before, largest = model(others), model[4].weight.abs().max()
        method.measure([images])
        method.apply(method.graph.resolve({"2": [0]}), None)
        assert model[4].weight.abs().max() < 11 * largest
        changes[compensate] = (model(others) - before).square().mean().item()
    assert changes["merge"] < 2 * changes["none"]


def test_a_reader_that_is_called_by_keyword() -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(input=self.a(x))

    x = torch.randn(1, 1, 12, 12)
    method = Sauron(ByKeyword(), x, {"prune": {"compensate": "merge"}})
    method.measure([x])
    method.apply(method.graph.resolve({"a": [1]}), None)

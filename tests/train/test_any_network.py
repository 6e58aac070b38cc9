"""Networks of others: each is cut at random many times over, and stays what the oracle says, with its optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import (
    OPTIMIZERS,
    assert_equal_outputs,
    assert_optimizer_fits,
    assert_trains_alike,
    masked,
    outputs,
    random_cut,
    train,
)
from torch import Tensor, nn

from sauron_train import History, Sauron
from sauron_train.config import NetworkConfig
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.channels import trace
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.surgery import cut_network
from sauron_train.pruning.taps import listen

monai = pytest.importorskip("monai.networks.nets")
NORMS: dict[tuple[str, int], Any] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
Maker = Callable[[int, str], nn.Module]


def ours(dim: int, norm: str) -> nn.Module:
    config = NetworkConfig.model_validate({"dim": dim, "levels": 3, "init_filters": 5, "norm": norm})
    return UNet(UNetSpec.unpruned(config, 1, 3))


def basic_unet(dim: int, norm: str) -> nn.Module:
    return monai.BasicUNet(dim, 1, 3, features=(6, 6, 8, 10, 12, 6), norm=(norm, {"affine": True}))


def unet(dim: int, norm: str) -> nn.Module:
    return monai.UNet(dim, 1, 3, channels=(4, 6, 8), strides=(2, 2), num_res_units=2, norm=norm)


def dynunet(**more: Any) -> Maker:
    def make(dim: int, norm: str) -> nn.Module:
        given = {"norm_name": (norm, {"affine": True}), "filters": [4, 6, 8, 10], **more}
        return monai.DynUNet(dim, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, **given)

    return make


def segresnet(dim: int, norm: str) -> nn.Module:
    return monai.SegResNet(dim, 8, 1, 3, norm=norm)


def attention_unet(dim: int, norm: str) -> nn.Module:
    return monai.AttentionUnet(dim, 1, 3, channels=(4, 6, 8), strides=(2, 2))


def nnunet(kind: str, **more: Any) -> Maker:
    def make(dim: int, norm: str) -> nn.Module:
        unets = pytest.importorskip(
            "dynamic_network_architectures.architectures.unet",
            reason="nnU-Net's networks are not installed; `make setup` installs them",
        )
        blocks = "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage"
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dim]
        fixed = {"conv_bias": True, "norm_op": NORMS[norm, dim], "norm_op_kwargs": {"affine": True}}
        fixed |= {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}, "num_classes": 3, **more}
        return getattr(unets, kind)(
            1, 3, [4, 6, 8], conv, 3, [1, 2, 2], **{blocks: [1, 2, 2]}, n_conv_per_stage_decoder=1, **fixed
        )

    return make


NETWORKS: dict[str, Maker] = {
    "ours": ours,
    "BasicUNet": basic_unet,
    "UNet": unet,
    "DynUNet": dynunet(),
    "DynUNet-residual": dynunet(res_block=True),
    "DynUNet-deep": dynunet(deep_supervision=True, deep_supr_num=2),
    "PlainConvUNet": nnunet("PlainConvUNet"),
    "PlainConvUNet-deep": nnunet("PlainConvUNet", deep_supervision=True),
    "ResidualEncoderUNet": nnunet("ResidualEncoderUNet"),
    "ResidualEncoderUNet-deep": nnunet("ResidualEncoderUNet", deep_supervision=True),
    "SegResNet": segresnet,
    "AttentionUnet": attention_unet,
}
BIG = ("BasicUNet",)
LOSSES = History((1.0,), (1.0,))


def heard(model: nn.Module, graph: Any, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), listen(model, graph) as maps:
        model(x)
        return dict(maps)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", NETWORKS)
def test_cut_again_and_again(name: str, dim: int, norm: str) -> None:
    torch.manual_seed(3)
    model = NETWORKS[name](dim, norm).double()
    x = torch.randn(2, 1, *(32 if name in BIG else 16,) * dim, dtype=torch.float64)
    optimizer = list(OPTIMIZERS.values())[len(name) % len(OPTIMIZERS)](model.parameters())
    graph, rng = trace(model, x[:1]), np.random.default_rng(0)
    convolutions = {n for n, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}
    assert graph.layers.keys() | graph.reasons.keys() == convolutions
    assert len(graph.layers) > len(graph.reasons)
    for _ in range(3):
        train(model.train(), optimizer, x)
        cut = random_cut(graph, rng, 0.2)
        with torch.no_grad():
            model.eval()(x)  # some networks keep tensors of their last pass, which cannot be copied with gradients
        twin, before = masked(model, graph, cut), copy.deepcopy((model, optimizer))
        after = cut_network(model, graph, cut, optimizer)
        assert_equal_outputs(model, twin, x)
        assert_optimizer_fits(model, optimizer)
        assert_trains_alike(model, optimizer, before, graph, cut, x)
        graph = after
        for mode in (True, False):
            maps = heard(model.train(mode), graph, x)
            assert {layer: m.shape[1] for layer, m in maps.items()} == graph.widths()
    train(model.train(), optimizer, x)
    assert sum(graph.widths().values()) < sum(conv.weight.shape[0] for conv in _convs(NETWORKS[name](dim, norm)))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_saved_and_built_again(name: str, dim: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 1, *(32 if name in BIG else 16,) * dim)
    model = NETWORKS[name](dim, "batch")
    sauron = Sauron(model, x[:1], {"prune": {"threshold_start": 0.4, "threshold_max": 0.4}})
    optimizer = torch.optim.Adam(model.parameters())
    train(model.train(), optimizer, x)
    assert sauron.prune(optimizer, [x], LOSSES).removed
    train(model.train(), optimizer, x)
    saved = {"model": model.state_dict(), "sauron": sauron.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    other = NETWORKS[name](dim, "batch")
    again = Sauron(other, x[:1], {"prune": {"threshold_start": 0.4, "threshold_max": 0.4}})
    again.load_state_dict(loaded["sauron"])
    other.load_state_dict(loaded["model"])
    other_optimizer = torch.optim.Adam(other.parameters())
    other_optimizer.load_state_dict(loaded["optimizer"])
    assert_equal_outputs(other, model, x)
    train(model.train(), optimizer, x)
    train(other.train(), other_optimizer, x)
    first, second = sauron.prune(optimizer, [x], LOSSES), again.prune(other_optimizer, [x], LOSSES)
    assert first.removed == second.removed
    assert_equal_outputs(other, model, x)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_exact_duplicate_leaves_without_a_trace(name: str, dim: int) -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 1, *(32 if name in BIG else 16,) * dim)
    model = NETWORKS[name](dim, "batch")
    train(model.train(), torch.optim.SGD(model.parameters(), lr=1e-2), x)
    sauron = Sauron(model, x[:1], {"prune": {"compensate": "merge"}})
    free = [g for g in sauron.graph.groups() if len(_shared(sauron.graph, g)) > 1]
    twins = {group: _twin(model, sauron.graph, group) for group in free}
    for path, follower in sauron.graph.followers.items():
        places = {channel: place for place, channel in enumerate(follower.channels.tolist())}
        for one, other in twins.values():
            if one in places and other in places:
                _copy(model.get_submodule(path), places[one], places[other])
    assert len(twins) > 3
    for one, _ in twins.values():
        before = [y.detach() for y in outputs(model.eval(), x)]
        sauron.measure([x])
        sauron.apply(sauron.graph.cut_of([one]), ())
        for ours, expected in zip(outputs(model, x), before, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def _shared(graph: ChannelGraph, group: tuple[str, ...]) -> list[int]:
    """Channels that all layers of a group have; none where a group norm lets no single one go."""
    bound = {channel for together in graph.bound for channel in together}
    common = set.intersection(*(set(graph.layers[layer].outputs.tolist()) for layer in group))
    return sorted(common) if common.isdisjoint(bound) else []


@torch.no_grad()
def _twin(model: nn.Module, graph: ChannelGraph, group: tuple[str, ...]) -> tuple[int, int]:
    """Make two channels of layers that are decided together the same; returns both."""
    one, other = _shared(graph, group)[-2:]
    for layer in group:
        conv = graph.layers[layer]
        module: Any = model.get_submodule(conv.module)
        here, there = (conv.outputs.tolist().index(channel) for channel in (one, other))
        by_filter = module.weight if conv.kind == "conv" else module.weight.transpose(0, 1)
        by_filter[here] = by_filter[there]
        if module.bias is not None:
            module.bias[here] = module.bias[there]
    return one, other


@torch.no_grad()
def _copy(module: nn.Module, here: int, there: int) -> None:
    """What a norm, or another module that follows, has for one channel becomes what it has for the other."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim:
            tensor[here] = tensor[there]


def _convs(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)]

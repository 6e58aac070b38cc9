"""The network of the paper's Appendix B."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sauron_train.complexity import complexity
from sauron_train.config import NetworkConfig
from sauron_train.models.unet import ConvBlock, UNet, UNetSpec
from sauron_train.pruning.channels import trace
from sauron_train.pruning.taps import Heard

RATS = NetworkConfig(dim=2, levels=5, init_filters=32, norm="instance")
ACDC = NetworkConfig(dim=2, levels=7, init_filters=48, norm="batch")
KITS = NetworkConfig(dim=3, levels=5, init_filters=24, norm="instance")


@pytest.mark.parametrize(
    ("network", "classes", "layers", "filters", "parameters"),
    [(RATS, 2, 22, 3360, 7_367_686), (ACDC, 4, 32, 9360, 35_371_796), (KITS, 3, 22, 2568, 12_699_921)],
)
def test_sizes_of_the_papers_networks(
    network: NetworkConfig, classes: int, layers: int, filters: int, parameters: int
) -> None:
    spec = UNetSpec.unpruned(network, in_channels=1, classes=classes)
    with torch.device("meta"):
        model = UNet(spec)
    assert (len(spec.filters), sum(spec.filters.values())) == (layers, filters)
    # The paper's count leaves the parameters of batch norm out.
    assert sum(p.numel() for name, p in model.named_parameters() if ".norm." not in name) == parameters


def test_names_and_heads_of_five_levels() -> None:
    spec = UNetSpec.unpruned(RATS, 1, 2)
    assert list(spec.filters)[:2] == ["enc_conv_1", "enc_conv_2"]
    assert list(spec.filters)[9:13] == ["enc_conv_10", "dec_trans_1", "dec_conv_1", "dec_conv_2"]
    assert list(spec.filters)[-1] == "dec_conv_8"
    assert spec.filters["enc_conv_9"] == 480
    assert spec.heads == {"head_1": "dec_conv_4", "head_2": "dec_conv_6", "head_3": "dec_conv_8"}
    levels = {name: spec.level(name) for name in spec.filters}
    assert levels["enc_conv_1"] == levels["enc_conv_2"] == levels["dec_conv_8"] == levels["dec_trans_4"] == 1
    assert levels["enc_conv_10"] == 5
    assert levels["dec_trans_1"] == levels["dec_conv_2"] == 4


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("levels", [2, 4])
def test_shapes(dim: int, norm: str, levels: int) -> None:
    network = NetworkConfig.model_validate({"dim": dim, "levels": levels, "init_filters": 2, "norm": norm})
    model = UNet(UNetSpec.unpruned(network, 2, 3))
    outputs = model(torch.zeros(2, 2, *(16,) * dim))
    assert len(outputs) == max(1, levels - 2)
    assert outputs[-1].shape == (2, 3, *(16,) * dim)
    sides = [output.shape[-1] for output in outputs]
    assert sides == sorted(sides)
    kind = {"instance": torch.nn.modules.instancenorm._InstanceNorm, "batch": torch.nn.modules.batchnorm._BatchNorm}
    assert all(isinstance(m.norm, kind[norm]) for m in model.modules() if isinstance(m, ConvBlock))


def test_weights_come_from_the_generator() -> None:
    spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=2), 1, 2)
    a, b, c = (UNet(spec, torch.Generator().manual_seed(seed)).head_1.weight for seed in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)


def test_spec_survives_json() -> None:
    spec = UNetSpec.unpruned(KITS, 1, 3)
    assert UNetSpec.from_json(dataclasses.asdict(spec)) == spec


def test_flops_are_two_per_multiply_add() -> None:
    model = torch.nn.Conv2d(3, 5, kernel_size=3, padding=1, bias=False)
    cost = complexity(model, 3, (8, 8))
    assert cost.flops == 2 * 3 * 5 * 9 * 64
    assert cost.parameters == 3 * 5 * 9
    assert next(model.parameters()).device.type == "cpu"


def test_layers_of_the_graph_are_those_of_the_spec() -> None:
    spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=4, init_filters=2), 1, 2)
    graph = trace(UNet(spec), torch.zeros(1, 1, 16, 16), UNet.layer_name)
    assert graph.widths() == spec.filters
    assert list(graph.fixed) == list(spec.heads)
    for taps in (graph.taps.training, graph.taps.evaluation):
        assert taps["enc_conv_1"] == Heard("enc_conv_1.act")
        assert taps["dec_trans_1"] == Heard("dec_trans_1")

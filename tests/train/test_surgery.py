"""Cuts of our own network, and of small ones that hold one difficulty each."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from oracle import OPTIMIZERS, assert_equal_outputs, assert_optimizer_fits, masked, random_cut, train
from torch import Tensor, nn

from sauron_train.config import NetworkConfig
from sauron_train.errors import EmptyLayerError, MismatchError, PruningError, UnknownFilterError, UnknownLayerError
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.channels import trace
from sauron_train.pruning.surgery import cut_network
from sauron_train.pruning.taps import listen


@pytest.fixture(params=[(2, "instance"), (2, "batch"), (3, "instance"), (3, "batch")], ids=lambda p: f"{p[0]}D-{p[1]}")
def network(request: pytest.FixtureRequest) -> Iterator[tuple[UNet, Tensor]]:
    dim, norm = request.param
    torch.manual_seed(0)
    config = NetworkConfig.model_validate({"dim": dim, "levels": 3, "init_filters": 5, "norm": norm})
    yield UNet(UNetSpec.unpruned(config, 2, 3)).double(), torch.randn(2, 2, *(8,) * dim, dtype=torch.float64)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_cut_equals_masked_again_and_again(network: tuple[UNet, Tensor], kind: str) -> None:
    model, x = network
    optimizer = OPTIMIZERS[kind](model.parameters())
    graph, rng = trace(model, x, UNet.layer_name), np.random.default_rng(1)
    order = [id(p) for p in model.parameters()]
    for _ in range(3):
        train(model.train(), optimizer, x)
        train(model, optimizer, x)
        cut = random_cut(graph, rng, 0.25)
        twin = masked(model, graph, cut).eval()
        graph = cut_network(model, graph, cut, optimizer)
        assert_equal_outputs(model, twin, x)
        assert [id(p) for group in optimizer.param_groups for p in group["params"]] == order
        assert_optimizer_fits(model, optimizer)
    assert sum(graph.widths().values()) < sum(model.spec.filters.values())
    assert UNet(model.spec.with_filters(graph.widths())).double().load_state_dict(model.state_dict())


def test_optimizer_state_follows_its_filter() -> None:
    model = UNet(UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2))
    optimizer = torch.optim.Adam(model.parameters())
    graph = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name)
    for parameter in model.parameters():
        optimizer.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": parameter.detach().clone()}
    cut = graph.resolve({"enc_conv_2": [1], "dec_trans_1": [0, 3], "enc_conv_1": [2]})
    cut_network(model, graph, cut, optimizer)
    for parameter in model.parameters():
        assert optimizer.state[parameter]["exp_avg"].equal(parameter.detach())
        assert optimizer.state[parameter]["step"] == 3
        assert parameter.grad is None


def test_offsets_through_the_concatenation() -> None:
    model = UNet(UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2))
    graph = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name)
    reader = model.get_submodule("dec_conv_1.conv")
    before = reader.weight.detach().clone()  # reads [enc_conv_2, dec_trans_1], four maps each
    cut_network(model, graph, graph.resolve({"enc_conv_2": [1], "dec_trans_1": [2]}))
    assert reader.weight.equal(before[:, [0, 2, 3, 4, 5, 7]])


def test_numbers_are_those_of_the_uncut_network() -> None:
    model = UNet(UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2))
    graph = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name)
    graph = cut_network(model, graph, graph.resolve({"enc_conv_1": [0, 2]}))
    assert graph.filters("enc_conv_1") == (1, 3)
    cut = graph.resolve({"enc_conv_1": [3]})
    assert cut.removed == {"enc_conv_1": (3,)}
    again = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name).renumbered(
        {layer: graph.filters(layer) for layer in graph.layers}
    )
    assert again.filters("enc_conv_1") == (1, 3)
    with pytest.raises(PruningError, match="1 original numbers"):
        again.renumbered({"enc_conv_1": [1]})


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.last = nn.Conv2d(6, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = x + self.norm(self.second(x))
        return self.head(self.last(x))


class WithGrouped(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.grouped(self.second(self.first(x)))))


def test_sums_are_cut_as_one() -> None:
    model, x = Residual().eval(), torch.randn(1, 1, 8, 8)
    graph = trace(model, x)
    assert set(graph.layers) == {"first", "second", "last"}
    cut = graph.resolve({"second": [4]})
    assert cut.removed == {"first": (4,), "second": (4,)}
    twin = masked(model, graph, cut)
    cut_network(model, graph, cut)
    torch.testing.assert_close(model(x), twin(x))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 5, 1)
        self.head = nn.Conv2d(5, 2, 1)
        self.act, self.slopes = nn.ReLU(), nn.PReLU(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.slopes(self.c(self.act(self.b(self.act(self.a(x)))))))


def test_a_shared_activation_tells_the_layers_apart_and_slopes_are_cut_with_their_filter() -> None:
    model, x = Shared().double(), torch.randn(1, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        model.slopes.weight.copy_(torch.arange(5) / 4)
    graph = trace(model, x)
    with listen(model, graph) as maps:
        model(x)
        first = model.a(x).relu()
        assert maps["a"].equal(first)
        assert maps["b"].equal(model.b(first).relu())
        assert {name: m.shape[1] for name, m in maps.items()} == {"a": 4, "b": 6, "c": 5}
    cut = graph.resolve({"a": [0], "b": [5], "c": [1, 3]})
    twin = masked(model, graph, cut)
    cut_network(model, graph, cut)
    assert_equal_outputs(model, twin, x)
    assert model.slopes.weight.tolist() == [0.0, 0.5, 1.0]


def test_what_is_not_understood_stays_whole() -> None:
    graph = trace(WithGrouped(), torch.randn(1, 1, 8, 8))
    assert set(graph.layers) == {"first", "last"}


def test_illegal_cuts_are_refused_before_anything_changes() -> None:
    model = UNet(UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2))
    graph = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(EmptyLayerError, match="leave enc_conv_1 without filters"):
        graph.resolve({"enc_conv_1": range(4)})
    with pytest.raises(UnknownFilterError, match="no filter 9"):
        graph.resolve({"enc_conv_1": [9]})
    with pytest.raises(UnknownLayerError, match="head_1 cannot be cut by itself: it makes an output of the network"):
        graph.resolve({"head_1": [0]})
    smaller = cut_network(copy.deepcopy(model), graph, graph.resolve({"enc_conv_1": [0]}))
    with pytest.raises(MismatchError, match="trace the network again"):
        cut_network(model, smaller, smaller.resolve({"enc_conv_1": [1], "dec_conv_2": [0]}))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    with pytest.raises(UnknownLayerError, match="'enc_conv_9' is no convolution of this network"):
        graph.resolve({"enc_conv_9": [0]})
    with pytest.raises(PruningError, match="cannot be run on the example input"):
        trace(model, torch.zeros(1, 7, 8, 8))


def test_a_state_that_cannot_be_cut_is_refused_before_anything_changes() -> None:
    model = UNet(UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2))
    optimizer = torch.optim.Adam(model.parameters())
    graph = trace(model, torch.zeros(1, 1, 8, 8), UNet.layer_name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model.get_submodule("dec_conv_2.conv").weight
    optimizer.state[weight] = {"step": torch.tensor(1.0), "row": torch.zeros(4, 1, 1, 1)}
    with pytest.raises(MismatchError, match="Adam keeps 'row'"):
        cut_network(model, graph, graph.resolve({"dec_conv_2": [1]}), optimizer)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())

"""One step and one cut of a whole network, against the numbers of the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sauron_train.config import NetworkConfig
from sauron_train.losses import DICE_EPSILON
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.distances import delta_opt, delta_prune
from sauron_train.pruning.policy import Measure, removable
from sauron_train.pruning.sauron import Sauron
from sauron_train.pruning.surgery import cut_network

OURS = {f"encoder.{i}.seq.0": f"enc_conv_{i + 1}.conv" for i in range(6)} | {
    "decoder.0": "dec_trans_1",
    "decoder.1.seq.0": "dec_conv_1.conv",
    "decoder.2.seq.0": "dec_conv_2.conv",
    "decoder.3": "dec_trans_2",
    "decoder.4.seq.0": "dec_conv_3.conv",
    "decoder.5.seq.0": "dec_conv_4.conv",
    "last.0.0": "head_1",
}
THEIRS = {f"enc_conv_{i}": f"enc_ConvBlock_{i}" for i in range(1, 7)} | {
    "dec_trans_1": "dec_ConvTranspose2d_1",
    "dec_conv_1": "dec_ConvBlock_1",
    "dec_conv_2": "dec_ConvBlock_2",
    "dec_trans_2": "dec_ConvTranspose2d_2",
    "dec_conv_3": "dec_ConvBlock_3",
    "dec_conv_4": "dec_ConvBlock_4",
}


def ours(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    return f"{OURS[module]}.{kind}"


@pytest.fixture(scope="module")
def numbers(golden: Any) -> Any:
    return golden("network_prune_2d")


@pytest.fixture
def network(numbers: Any) -> UNet:
    spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=3, init_filters=4), in_channels=2, classes=3)
    model = UNet(spec)
    weights = {ours(key[3:]): torch.tensor(value) for key, value in numbers.items() if key.startswith("w0/")}
    model.load_state_dict(weights)
    return model


@pytest.fixture
def sauron(network: UNet, numbers: Any) -> Sauron:
    example = torch.tensor(numbers["x"])
    return Sauron(network, example, layer_name=UNet.layer_name)


def test_output_and_distances(network: UNet, sauron: Sauron, numbers: Any) -> None:
    with sauron.listening() as maps:
        output = network(torch.tensor(numbers["x"]))[-1].softmax(dim=1)
    np.testing.assert_allclose(output.detach(), numbers["out0"], atol=1e-6)
    assert list(maps) == list(sauron.layers)
    for layer, theirs in THEIRS.items():
        np.testing.assert_allclose(delta_opt(maps[layer]).detach(), numbers[f"dopt/{theirs}"], atol=1e-5)
        reference = int(numbers[f"ref/{theirs}"])
        np.testing.assert_allclose(
            delta_prune(maps[layer].detach(), [reference])[0], numbers[f"dprune/{theirs}"], atol=1e-5
        )


def test_loss_and_step(network: UNet, sauron: Sauron, numbers: Any) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5)
    target = torch.tensor(numbers["y"])
    probabilities = network(torch.tensor(numbers["x"]))[-1].softmax(dim=1)
    cross_entropy = -(target * (probabilities + 1e-15).log()).sum(dim=1).mean()
    overlap, total = (probabilities * target).sum((2, 3)), (probabilities + target).sum((2, 3))
    dice = 1 - (2 * overlap / (total + DICE_EPSILON)).mean()
    # The authors count the head as one more layer at the constant distance 1; ours leaves it out.
    layers = len(sauron.layers)
    penalty = (sauron.delta_opt() * layers + 1) / (layers + 1)
    loss = cross_entropy + dice + 0.5 * penalty
    assert loss.item() == pytest.approx(float(numbers["loss"]), abs=1e-5)
    loss.backward()
    optimizer.step()
    for key, value in numbers.items():
        # Instance norm takes the mean away: the gradient of a bias before it is rounding noise, which Adam scales up.
        if key.startswith("w1/") and not ours(key[3:]).endswith("conv.bias"):
            np.testing.assert_allclose(network.get_parameter(ours(key[3:])).detach(), value, atol=2e-5, err_msg=key)


def test_cut(network: UNet, sauron: Sauron, numbers: Any) -> None:
    optimizer = torch.optim.Adam(network.parameters())
    for key, value in numbers.items():
        if key.startswith("w1/"):
            network.get_parameter(ours(key[3:])).data = torch.tensor(value)
    before = {name: p.clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": parameter.detach().clone()}
    chosen = {}
    for layer, theirs in THEIRS.items():
        delta = numbers[f"in_dprune/{theirs}"]
        measure = Measure(tuple(range(len(delta))), (int(numbers[f"in_ref/{theirs}"]),), delta[None])
        chosen[layer] = removable(measure, float(numbers[f"in_thr/{theirs}"]))
        kept = [i for i in range(len(delta)) if i not in chosen[layer]]
        np.testing.assert_array_equal(kept, np.flatnonzero(numbers[f"kept/{theirs}"]), err_msg=layer)
    cut_network(network, sauron.graph, sauron.graph.resolve(chosen), optimizer)
    for key, value in numbers.items():
        if key.startswith("w2/"):
            parameter = network.get_parameter(ours(key[3:]))
            np.testing.assert_array_equal(parameter.detach(), value, err_msg=key)
            assert optimizer.state[parameter]["exp_avg"].equal(parameter.detach())
            assert parameter.shape != before[ours(key[3:])].shape or parameter.equal(before[ours(key[3:])])
    output = network(torch.tensor(numbers["x"]))[-1].softmax(dim=1)
    np.testing.assert_allclose(output.detach(), numbers["out_after_prune"], atol=1e-5)

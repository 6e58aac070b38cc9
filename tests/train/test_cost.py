"""What a U-Net costs, counted from its widths alone, is what the network itself costs."""

from __future__ import annotations

import numpy as np
import pytest

from sauron_train.analysis.cost import network_cost
from sauron_train.complexity import complexity
from sauron_train.config import NetworkConfig
from sauron_train.models.unet import UNet, UNetSpec


@pytest.mark.parametrize(
    ("dim", "levels", "channels", "classes", "patch"),
    [(2, 2, 1, 2, (8, 12)), (2, 5, 2, 4, (64, 32)), (3, 3, 1, 3, (8, 16, 12)), (3, 4, 3, 2, (16, 16, 8))],
)
@pytest.mark.parametrize("seed", range(3))
def test_counted_as_on_the_network(
    dim: int, levels: int, channels: int, classes: int, patch: tuple[int, ...], seed: int
) -> None:
    network = NetworkConfig(dim=dim, levels=levels, init_filters=8, max_filters=20)
    spec = UNetSpec.unpruned(network, channels, classes)
    draw = np.random.default_rng(seed)
    widths = {name: int(draw.integers(1, count + 1)) for name, count in spec.filters.items()}
    expected = complexity(UNet(spec.with_filters(widths)), channels, patch)
    cost = network_cost(network, channels, classes, patch, widths)
    assert (int(cost.parameters), int(cost.flops)) == (expected.parameters, expected.flops)


def test_many_widths_at_once() -> None:
    network = NetworkConfig(dim=2, levels=3, init_filters=8)
    filters = UNetSpec.unpruned(network, 1, 2).filters
    many = {name: np.arange(1, count + 1)[:5] for name, count in filters.items()}
    cost = network_cost(network, 1, 2, (16, 16), many)
    each = [network_cost(network, 1, 2, (16, 16), {name: int(w[i]) for name, w in many.items()}) for i in range(5)]
    assert cost.parameters.tolist() == [int(one.parameters) for one in each]
    assert cost.flops.tolist() == [int(one.flops) for one in each]


def test_the_papers_rats_network() -> None:
    network = NetworkConfig(dim=2, levels=5, init_filters=32)
    filters = UNetSpec.unpruned(network, 1, 2).filters
    assert int(network_cost(network, 1, 2, (256, 256), filters).parameters) == 7_367_686

"""What measuring clusterability in every epoch costs, in parts of an epoch: the figures of docs/method.md.

python benchmarks/clusterability_cost.py

Takes the network of the paper's Rats recipe (2D, 5 levels, 32 filters, 256 x 256, batches of 4) and compares, in one
run on this machine, an epoch of 200 training steps with measuring all its layers on 4 probe images; the measures alone
with the forward pass left out; and layers of 48 and 480 filters. Not part of the tests.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from sauron_train.analysis.clusterability import clusterability
from sauron_train.analysis.distances import distance_matrix
from sauron_train.config import NetworkConfig
from sauron_train.losses import deep_supervision_loss
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.probe import measure_probe
from sauron_train.pruning.sauron import Sauron

STEPS, BATCH, SIDE, IMAGES = 200, 4, 256, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="times that each is taken; medians are shown")
    repeat = parser.parse_args().repeat
    network = NetworkConfig(dim=2, levels=5, init_filters=32)
    model = UNet(UNetSpec.unpruned(network, 1, 2), torch.Generator().manual_seed(0))
    probe = torch.randn(IMAGES, 1, SIDE, SIDE)
    sauron = Sauron(model, probe[:1], None, UNet.layer_name)
    step = median(lambda: training_step(model, sauron), repeat)
    maps = {layer: m[0].numpy().copy() for layer, m in forward(model, sauron, probe[0]).items()}
    whole = median(lambda: measure_all(model, sauron, probe), repeat)
    alone = median(lambda: measures_only(maps), repeat)
    print(f"a training step: {step:.2f} s; an epoch of {STEPS}: {STEPS * step:.0f} s")
    print(
        f"measuring {len(sauron.layers)} layers on {IMAGES} images: {whole:.2f} s = {whole / (STEPS * step):.2%} of it"
    )
    print(f"the measures alone: {alone:.2f} s per image")
    few, many = (median(lambda c=count: one_layer(c), 2 * repeat + 1) for count in (48, 480))
    print(f"48 filters {1000 * few:.1f} ms, 480 filters {1000 * many:.1f} ms: {many / few:.0f} times, pairs 102 times")


def training_step(model: UNet, sauron: Sauron) -> None:
    images, labels = torch.randn(BATCH, 1, SIDE, SIDE), torch.zeros(BATCH, SIDE, SIDE, dtype=torch.long)
    model.zero_grad()
    loss = deep_supervision_loss(model.train()(images), labels) + sauron.penalty()
    loss.backward()


def forward(model: UNet, sauron: Sauron, image: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad(), sauron.listening() as maps:
        model.eval()(image.unsqueeze(0))
        return dict(maps)


def measure_all(model: UNet, sauron: Sauron, probe: torch.Tensor) -> None:
    found = measure_probe(model, sauron.graph, probe, 2)
    for layer in found.layers.values():
        clusterability(layer.distances)


def measures_only(maps: dict[str, np.ndarray]) -> None:
    for layer in maps.values():
        clusterability([distance_matrix(layer)])


def one_layer(count: int) -> None:
    maps = np.random.default_rng(0).random((count, 16, 16), dtype=np.float32)
    clusterability([distance_matrix(maps)])


def median(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()

"""Engines are tried on one image before they are relied on: they must say what torch says, and be faster."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from sauron_train.deploy.choice import Choice
from sauron_train.deploy.engines import TITLES, EngineName, Network, network_on
from sauron_train.deploy.head import multiple_of
from sauron_train.errors import RunError, SauronError
from sauron_train.models.unet import UNet

TOLERANCE = 1e-4
"""By how much probabilities of an engine may differ from torch's."""

# Sides in voxels of the image that is tried, at most: enough to be as fast as on a patch, and soon over.
_LARGEST = {2: 256, 3: 64}


def ready(engine: EngineName, model: UNet, threads: int, images: Tensor) -> Network:
    """Get an engine ready, and check what it computes.

    Raises:
        ConfigError: a library is missing.
        RunError: the engine cannot run the network, or computes something else than torch.
    """
    network = network_on(engine, model, threads)
    with torch.no_grad():
        expected, found = (run(images)[-1].softmax(dim=1) for run in (model, network))
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:  # NaN is no match either
        raise RunError(
            f"{TITLES[engine]} computes something else than torch here (probabilities differ by {difference:.2g}); "
            "choose --engine torch"
        )
    return network


def fastest(model: UNet, engines: Sequence[EngineName], threads: int, patch: Sequence[int]) -> tuple[Network, Choice]:
    """The fastest of some engines and torch, which stays where none is faster, or right."""
    images = example(model, patch)
    best: EngineName = "torch"
    network: Network = model
    seconds = {best: _seconds(model, images)}
    told = []
    for engine in engines:
        try:
            made = ready(engine, model, threads, images)
        except SauronError as error:
            told.append(str(error))
            continue
        seconds[engine] = _seconds(made, images)
        if seconds[engine] < seconds[best]:
            best, network = engine, made
    times = ", ".join(f"{1e3 * took:.3g} ms in {TITLES[name]}" for name, took in seconds.items())
    why = "; ".join([f"an image of {' x '.join(map(str, images.shape[2:]))} takes {times}", *told])
    return network, Choice(best, why)


def example(model: UNet, patch: Sequence[int]) -> Tensor:
    """A random image of a patch or less, half of it empty, as padding is."""
    unit, most = multiple_of(model), _LARGEST[model.spec.dim]
    sides = [min(side, max(2, most // unit) * unit) for side in patch]
    images = torch.randn(1, model.spec.in_channels, *sides, generator=torch.Generator().manual_seed(0))
    images[..., sides[-1] // 2 :] = 0
    return images


@torch.no_grad()
def _seconds(network: Network, images: Tensor) -> float:
    """Of one image: the shortest of three, after one that does not count."""
    took = []
    for _ in range(4):
        started = time.perf_counter()
        network(images)
        took.append(time.perf_counter() - started)
    return min(took[1:])

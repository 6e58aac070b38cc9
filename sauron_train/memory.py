"""How much memory a training step takes, without taking it: the network runs on the meta device."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from sauron_train.config import NetworkConfig
from sauron_train.models.unet import UNet, UNetSpec

# Weights, their gradients and the two moments of Adam.
_COPIES_OF_WEIGHTS = 4
# δ_opt, the loss, and what kernels need for a moment (design choice; what lies beyond the maps themselves).
_BESIDE = 1.2


def step_memory(network: NetworkConfig, channels: int, classes: int, patch: Sequence[int], batch: int) -> int:
    """Bytes that one training step of the unpruned network needs at its largest, about, in 32 bits.

    Counted are the tensors that the forward pass keeps for the backward pass, twice the largest of them for what both
    passes work on, and weights, gradients and moments; a fifth is added for the rest.

    Args:
        network: the U-Net.
        channels: of the image.
        classes: background included.
        patch: sides in voxels.
        batch: patches in a step.
    """
    with torch.device("meta"):
        model = UNet(UNetSpec.unpruned(network, channels, classes)).train()
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Held, because the place of one that is let go of is given to another.
        held.append(tensor)
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(torch.empty(batch, channels, *patch, device="meta"))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    maps = {place: size for place, size in kept.items() if place not in own}
    del outputs
    return int(_BESIDE * (sum(maps.values()) + 2 * max(maps.values())) + _COPIES_OF_WEIGHTS * weights)


def default_memory() -> int:
    """Bytes that a training step may take on this machine, if nothing else is said.

    Nine tenths of the GPU's memory, or a third of what the machine has, at most 16 GiB (design choice).
    """
    if torch.cuda.is_available():
        return int(0.9 * torch.cuda.get_device_properties(0).total_memory)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(pages / 3, 16 * 2**30))

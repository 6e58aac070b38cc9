"""What a network costs: parameters and floating-point operations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """Parameters, and FLOPs of one forward pass of one patch; a multiply-add counts as two operations."""

    parameters: int
    flops: int


def complexity(model: nn.Module, channels: int, patch: Sequence[int]) -> Complexity:
    """Count a network's cost without computing anything: it runs on the meta device.

    Args:
        model: the network, heads of deep supervision included.
        channels: image channels.
        patch: sides in voxels.
    """
    parameters = sum(p.numel() for p in model.parameters())
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, channels, *patch, device="meta"))
    return Complexity(parameters, int(counter.get_total_flops()))

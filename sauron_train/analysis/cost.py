"""What a U-Net of any widths costs, counted without building it (paper, Appendix B): numpy only.

The widths may be arrays: a view asks at once what every threshold of a slider would leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sauron_train.config import NetworkConfig

Array = npt.NDArray[Any]
Widths = Mapping[str, int | Array]


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one forward pass of one patch, a multiply-add as two; in the shape of the widths."""

    parameters: Array
    flops: Array


@dataclass(frozen=True)
class _Convolution:
    """One convolution: where its inputs come from, taps per weight, and the voxels at which it is computed."""

    inputs: tuple[str, ...]
    outputs: str
    taps: int
    level: int


def network_cost(network: NetworkConfig, channels: int, classes: int, patch: Sequence[int], widths: Widths) -> Cost:
    """Count as `sauron_train.complexity.complexity` does on the network itself, heads of deep supervision included.

    Args:
        network: dimension and levels.
        channels: image channels.
        classes: background included.
        patch: sides in voxels.
        widths: layer name to its filters, numbers or arrays of one shape.
    """
    known: dict[str, int | Array] = {**widths, "": channels, "classes": classes}
    parameters, flops = np.zeros((), dtype=np.int64), np.zeros((), dtype=np.int64)
    for convolution in _convolutions(network):
        outputs = np.asarray(known[convolution.outputs], dtype=np.int64)
        inputs = sum((np.asarray(known[name], dtype=np.int64) for name in convolution.inputs), np.zeros((), np.int64))
        voxels = math.prod(side // 2 ** (convolution.level - 1) for side in patch)
        weights = convolution.taps * inputs * outputs
        parameters = parameters + weights + outputs
        flops = flops + 2 * voxels * weights
    return Cost(parameters, flops)


def heads(layers: Sequence[str]) -> dict[str, str]:
    """Deep-supervision heads, coarse to fine, and the layer each one reads (paper, Appendix B).

    Args:
        layers: names of the prunable layers of a U-Net.
    """
    blocks = sum(name.startswith("dec_trans_") for name in layers)
    # After each even block of the decoder but the deepest; a decoder of one level has no other.
    read = [f"dec_conv_{2 * i}" for i in range(1 if blocks == 1 else 2, blocks + 1)]
    return {f"head_{n}": name for n, name in enumerate((r for r in read if r in set(layers)), start=1)}


def _convolutions(network: NetworkConfig) -> Iterator[_Convolution]:
    block, levels = 3**network.dim, network.levels
    before = ""
    for number in range(1, 2 * levels + 1):
        name = f"enc_conv_{number}"
        yield _Convolution((before,), name, block, (number + 1) // 2)
        before = name
    for i in range(1, levels):
        level, up = levels - i, f"dec_trans_{i}"
        # Each voxel below gives 2^d above by a tap of its own.
        yield _Convolution((before,), up, 2**network.dim, level + 1)
        yield _Convolution((f"enc_conv_{2 * level}", up), f"dec_conv_{2 * i - 1}", block, level)
        before = f"dec_conv_{2 * i}"
        yield _Convolution((f"dec_conv_{2 * i - 1}",), before, block, level)
        if i > 1 or levels == 2:
            yield _Convolution((before,), "classes", 1, level)

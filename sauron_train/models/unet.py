"""The nnU-Net-like U-Net of the paper, in 2D and 3D, described by the width of each of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from sauron_train.config import NetworkConfig

LEAK = 0.01

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
# Without affine parameters, as in the authors' networks; their parameter counts are met exactly.
_NORM = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}


@dataclass(frozen=True)
class UNetSpec:
    """All that is needed to build a U-Net, pruned or not.

    `filters` gives every layer's width under the names of the paper's Appendix B: `enc_conv_1` to `enc_conv_{2L}`, then
    `dec_trans_i`, `dec_conv_{2i-1}`, `dec_conv_{2i}` for each decoder level from the deepest up, with L = `levels`.
    """

    dim: Literal[2, 3]
    in_channels: int
    classes: int
    levels: int
    norm: Literal["instance", "batch"]
    filters: Mapping[str, int]

    @classmethod
    def unpruned(cls, network: NetworkConfig, in_channels: int, classes: int) -> UNetSpec:
        """The network before training: filters double per level up to the cap (paper, Appendix B)."""
        widths = [min(network.init_filters * 2**i, network.max_filters) for i in range(network.levels)]
        filters: dict[str, int] = {}
        for level, width in enumerate(widths):
            filters[f"enc_conv_{2 * level + 1}"] = filters[f"enc_conv_{2 * level + 2}"] = width
        for i, width in enumerate(reversed(widths[:-1]), start=1):
            filters[f"dec_trans_{i}"] = filters[f"dec_conv_{2 * i - 1}"] = filters[f"dec_conv_{2 * i}"] = width
        return cls(network.dim, in_channels, classes, network.levels, network.norm, filters)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UNetSpec:
        """The inverse of `dataclasses.asdict`."""
        return cls(**values)

    def with_filters(self, filters: Mapping[str, int]) -> UNetSpec:
        """The same network with other widths."""
        return replace(self, filters=dict(filters))

    def level(self, layer: str) -> int:
        """Level of a layer, 1 = full resolution."""
        number = int(layer.rsplit("_", 1)[1])
        if layer.startswith("enc_conv_"):
            return (number + 1) // 2
        depth = number if layer.startswith("dec_trans_") else (number + 1) // 2
        return self.levels - depth

    @property
    def heads(self) -> dict[str, str]:
        """Deep-supervision heads, coarse to fine, and the layer each one reads.

        After each even decoder block except the deepest (paper, Appendix B); a network of two levels, whose only block
        is the deepest, keeps it.
        """
        blocks = range(2 if self.levels > 2 else 1, self.levels)
        return {f"head_{n}": f"dec_conv_{2 * block}" for n, block in enumerate(blocks, start=1)}


class ConvBlock(nn.Module):
    """Convolution 3x3(x3), normalisation, LeakyReLU; stride 2 halves the image."""

    def __init__(self, spec: UNetSpec, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = _CONV[spec.dim](inputs, outputs, kernel_size=3, stride=stride, padding=1)
        self.norm = _NORM[spec.norm, spec.dim](outputs)
        self.act = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *spatial) -> (B, outputs, *spatial / stride)."""
        return cast(Tensor, self.act(self.norm(self.conv(x))))


class UNet(nn.Module):
    """Encoder-decoder with skips and deep supervision (paper, Appendices B and C.3).

    Input (B, in_channels, *spatial), every side divisible by 2 ** (levels - 1). Output: a tuple of logits
    (B, classes, *spatial / 2^k), one per head, coarse to fine; the last has full resolution.

    Example:
        >>> spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=3, init_filters=8), in_channels=1, classes=2)
        >>> [tuple(y.shape) for y in UNet(spec)(torch.zeros(1, 1, 32, 32))]
        [(1, 2, 32, 32)]
    """

    def __init__(self, spec: UNetSpec, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.in_channels
        for number in range(1, 2 * spec.levels + 1):
            stride = 2 if number > 1 and number % 2 == 1 else 1
            inputs = self._add_block(f"enc_conv_{number}", inputs, stride)
        for i in range(1, spec.levels):
            up, skip = f"dec_trans_{i}", f"enc_conv_{2 * (spec.levels - i)}"
            self.add_module(up, _TRANSPOSED[spec.dim](inputs, spec.filters[up], kernel_size=2, stride=2))
            inputs = self._add_block(f"dec_conv_{2 * i - 1}", spec.filters[skip] + spec.filters[up])
            inputs = self._add_block(f"dec_conv_{2 * i}", inputs)
        for head, layer in spec.heads.items():
            self.add_module(head, _CONV[spec.dim](spec.filters[layer], spec.classes, kernel_size=1))
        _initialise(self, generator)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of every head, coarse to fine."""
        spec = self.spec
        skips: dict[int, Tensor] = {}
        for level in range(1, spec.levels + 1):
            x = self._layer(f"enc_conv_{2 * level}")(self._layer(f"enc_conv_{2 * level - 1}")(x))
            skips[level] = x
        heads = {layer: head for head, layer in spec.heads.items()}
        outputs = []
        for i in range(1, spec.levels):
            x = torch.cat([skips[spec.levels - i], self._layer(f"dec_trans_{i}")(x)], dim=1)
            x = self._layer(f"dec_conv_{2 * i}")(self._layer(f"dec_conv_{2 * i - 1}")(x))
            if head := heads.get(f"dec_conv_{2 * i}"):
                outputs.append(self._layer(head)(x))
        return tuple(outputs)

    @staticmethod
    def layer_name(module: str) -> str:
        """The name of the paper's Appendix B for a convolution, from its module path."""
        return module.removesuffix(".conv")

    def _layer(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    def _add_block(self, name: str, inputs: int, stride: int = 1) -> int:
        outputs = self.spec.filters[name]
        self.add_module(name, ConvBlock(self.spec, inputs, outputs, stride))
        return outputs


def _initialise(model: nn.Module, generator: torch.Generator | None) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=LEAK, nonlinearity="leaky_relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""A network that is to be computed by another program."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from sauron_train.deploy.head import main_head, multiple_of
from sauron_train.deploy.onnx_graph import onnx_model
from sauron_train.models.unet import UNet

KEY = "sauron"
"""The key under which a file holds what is to be known of its network."""


@dataclass(frozen=True)
class Portable:
    """A network that is to leave: `description` is the JSON text that goes with it."""

    head: fx.GraphModule
    channels: int
    dim: int
    multiple: int
    description: str

    def onnx(self) -> bytes:
        """The network as the content of an ONNX file.

        Raises:
            ConfigError: a library is missing.
        """
        made = onnx_model(self.head, self.channels, self.dim, self.multiple, {KEY: self.description})
        return bytes(made.SerializeToString())

    def example(self, batch: int, times: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Random input with sides of so many times what they must be a multiple of; zeros without a generator."""
        sides = [batch, self.channels, *(self.multiple * count for count in times[: self.dim])]
        return torch.zeros(sides) if generator is None else torch.randn(sides, generator=generator)


def portable(model: UNet, description: str = "") -> Portable:
    """A network, ready to be written; weights are shared with it."""
    return Portable(main_head(model), model.spec.in_channels, model.spec.dim, multiple_of(model), description)

"""Which engine computes a batch of images: the fastest one at hand, unless there is too little to do for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Literal

import torch

from sauron_train.config import Config
from sauron_train.data.nifti import read_header
from sauron_train.deploy.engines import NEEDS, TITLES, EngineName, available
from sauron_train.deploy.libraries import library
from sauron_train.errors import ConfigError

Wanted = Literal["auto", "torch", "onnx", "openvino"]

# What an engine saves of torch's time at best, and the seconds it takes to load the libraries, to convert and to try
# (docs/export.md has what was measured).
_SAVES, _SECONDS = 0.3, 4.0
# Floating-point operations a second that torch reaches with a thread; more than most do, so that it is rather kept.
_RATE = 3e10


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is that one."""

    engine: EngineName
    why: str

    def sentence(self) -> str:
        """For people."""
        return f"computed by {TITLES[self.engine]}: {self.why}"


def choose(wanted: Wanted, device: torch.device, patches: int, flops: int, threads: int) -> Choice | None:
    """Choose an engine, if that can be done without trying.

    Args:
        wanted: an engine, or auto.
        device: where torch would run; the other engines run on a CPU.
        patches: how many there are, about, with those of flips.
        flops: of one patch.
        threads: that may be used.

    Returns:
        The engine, or None where those that are installed are worth a trial.

    Raises:
        ConfigError: the engine that is wanted is not installed, or cannot run on the device.
    """
    if wanted != "auto":
        if device.type != "cpu" and wanted != "torch":
            raise ConfigError(f"--engine {wanted} runs on a CPU only; choose --device cpu, or --engine torch")
        for name in NEEDS[wanted]:
            library(name)
        return Choice(wanted, "as was asked for")
    if device.type != "cpu":
        return Choice("torch", "it runs on the GPU")
    if available() == ["torch"]:
        return Choice("torch", "pip install 'sauron-unet[export]' has engines that can be faster on a CPU")
    if patches * flops / (_RATE * threads) * _SAVES < _SECONDS:
        return Choice(
            "torch", f"about {patches} patch{'' if patches == 1 else 'es'}, too few for a faster engine to be got ready"
        )
    return None


def patches_of(images: Sequence[Path], config: Config, overlap: float, flips: bool) -> int:
    """How many patches the network will see, about: told from the headers of images, one file of each.

    Raises:
        DataError: a header that cannot be read.
    """
    copies = 2**config.network.dim if flips else 1
    return copies * sum(_patches(path, config, overlap) for path in images)


def _patches(path: Path, config: Config, overlap: float) -> int:
    header = read_header(path)
    wanted = config.preprocess.spacing or (None, None, None)
    sides = [
        max(1, round(side * old / (new or old)))
        for side, old, new in zip(header.shape, header.spacing, wanted, strict=True)
    ]
    slices = sides.pop(config.data.slice_axis) if config.network.dim == 2 else 1
    return slices * prod(_places(side, patch, overlap) for side, patch in zip(sides, config.data.patch, strict=True))


def _places(side: int, patch: int, overlap: float) -> int:
    """Of patches along an axis, as MONAI lays them."""
    if side <= patch:
        return 1
    return ceil((side - patch) / max(1, int(patch * (1 - overlap)))) + 1

"""What a run is trained on: versions, the device by its name, and how much memory it took."""

from __future__ import annotations

import platform
import resource
import sys

import torch


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    from importlib.metadata import version  # noqa: PLC0415

    packages = ("sauron-unet", "torch", "torchio", "monai", "lightning-fabric", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def device_name(device: torch.device) -> str:
    """The device in words a person knows."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

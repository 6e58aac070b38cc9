"""What a run is trained on: versions, the device by its name, and how much memory it took."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from contextlib import suppress

import torch

# malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    packages = ("sauron-unet", "torch", "torchio", "monai", "lightning-fabric", "numpy")
    found = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    with suppress(PackageNotFoundError):  # all goes on without it
        found["numba"] = version("numba")
    return found


def device_name(device: torch.device) -> str:
    """The device in words a person knows."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free for the next ones, where it is glibc; nothing happens elsewhere.

    Otherwise it asks the system for the memory of every large tensor and gives it back, and a step on a CPU spends up
    to a third of its time on fresh pages (docs/performance.md). What the user has set in the environment stays.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

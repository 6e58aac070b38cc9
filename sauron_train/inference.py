"""Runs a network over images of any size in overlapping patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from sauron_train.monai_parts import sliding_windows

WINDOWS_AT_ONCE = 8


@torch.no_grad()
def segment(model: nn.Module, images: Tensor, patch: Sequence[int], overlap: float = 0.25) -> Tensor:
    """Logits of the full-resolution head for whole images.

    Images smaller than the patch are padded; of larger ones overlapping patches are blended with Gaussian weights.

    Args:
        model: the network, in eval mode, on the device of the images; its last output is the one at full resolution.
        images: (B, channels, *spatial), normalised as in training.
        patch: sides in voxels.
        overlap: share of the patch by which neighbours overlap.

    Returns:
        (B, classes, *spatial).
    """
    return _slide(lambda windows: cast(Tensor, model(windows)[-1]), images, patch, overlap, images.device)


@torch.no_grad()
def class_probabilities(
    model: Callable[[Tensor], Sequence[Tensor]],
    images: Tensor,
    patch: Sequence[int],
    device: torch.device,
    overlap: float,
    flips: bool,
) -> Tensor:
    """Class probabilities of whole images, on request averaged over flips (paper: "optional averaging over flips").

    Each patch gives its softmax, which is blended as in `segment`; so what comes out needs no second copy in memory. It
    is put together on the device, or on the CPU where it does not fit there.

    Args:
        model: the network, in eval mode, on `device`, or an engine that computes it; its last output are the logits of
            full resolution.
        images: (B, channels, *spatial) on the CPU, normalised as in training.
        patch: sides in voxels.
        device: where the network runs.
        overlap: share of the patch by which neighbours overlap.
        flips: whether each patch is also seen flipped along every combination of its axes (the two in-plane axes in 2D,
            all three in 3D), 4 or 8 times in all, and the mean of the softmax is taken.

    Returns:
        (B, classes, *spatial) float32, on `device` or the CPU; they add up to 1.
    """
    axes = range(2, images.ndim)
    chosen = [flipped for count in range(len(axes) + 1) for flipped in combinations(axes, count)] if flips else [()]

    def windows_to_probabilities(windows: Tensor) -> Tensor:
        total = _softmax(model, windows, chosen[0])
        for flipped in chosen[1:]:
            total += _softmax(model, windows, flipped)
        return total / len(chosen)

    try:
        return _slide(windows_to_probabilities, images, patch, overlap, device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    return _slide(windows_to_probabilities, images, patch, overlap, device, torch.device("cpu"))


def _softmax(model: Callable[[Tensor], Sequence[Tensor]], windows: Tensor, flipped: tuple[int, ...]) -> Tensor:
    logits = model(windows.flip(flipped))[-1]
    return logits.float().softmax(dim=1).flip(flipped)


def _slide(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    patch: Sequence[int],
    overlap: float,
    device: torch.device,
    together: torch.device | None = None,
) -> Tensor:
    blended = sliding_windows()(
        images,
        tuple(patch),
        WINDOWS_AT_ONCE,
        network,
        overlap=overlap,
        mode="gaussian",
        sw_device=device,
        device=together or device,
    )
    return cast(Tensor, blended)

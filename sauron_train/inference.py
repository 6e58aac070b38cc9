"""Runs a network over images of any size in overlapping patches."""

from __future__ import annotations

from collections.abc import Sequence
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
    logits = sliding_windows()(
        images, tuple(patch), WINDOWS_AT_ONCE, lambda windows: model(windows)[-1], overlap=overlap, mode="gaussian"
    )
    return cast(Tensor, logits)

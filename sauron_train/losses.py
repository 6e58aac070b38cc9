"""The segmentation loss: cross-entropy plus soft Dice at every supervised resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

DICE_EPSILON = 1e-6


def soft_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice, mean over batch and all classes, background included (authors' code).

    Args:
        probabilities: (B, K, *spatial).
        target: (B, K, *spatial), one-hot.
    """
    axes = tuple(range(2, probabilities.ndim))
    overlap = (probabilities * target).sum(axes)
    total = (probabilities + target).sum(axes)
    return 1 - (2 * overlap / (total + DICE_EPSILON)).mean()


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice at one resolution.

    Args:
        logits: (B, K, *spatial).
        target: (B, *spatial), int64 class numbers.
    """
    logits = logits.float()
    one_hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    return F.cross_entropy(logits, target) + soft_dice_loss(logits.softmax(dim=1), one_hot)


def downsample_labels(target: Tensor, factor: int) -> Tensor:
    """Labels at a lower resolution by nearest neighbour, axes kept in order (design choice; theirs were transposed)."""
    step = (slice(None, None, factor),) * (target.ndim - 1)
    return target[(slice(None), *step)]


def deep_supervision_loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum over the supervised resolutions, weight 1 each (authors' code).

    Args:
        outputs: logits (B, K, *spatial / 2^k), in any order of resolutions.
        target: (B, *spatial), int64, at full resolution.
    """
    losses = []
    for logits in outputs:
        factor = target.shape[-1] // logits.shape[-1]
        losses.append(segmentation_loss(logits, downsample_labels(target, factor)))
    return torch.stack(losses).sum()

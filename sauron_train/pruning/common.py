"""What the two ways to δ_opt's distances share: which images are looked at, and dividing by what may be 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Images = Sequence[int] | Tensor
"""Positions in a batch; a tensor (int64, on the maps' device) can be changed between replays of a CUDA graph."""

Chosen = tuple[int, ...] | Tensor | None
"""Images as a function of autograd keeps them; None = all."""


def of_images(maps: Tensor, images: Chosen) -> Tensor:
    """Those of a batch (B, ...) that are looked at; of one image no copy is made."""
    if images is None:
        return maps
    if isinstance(images, Tensor):
        return maps.index_select(0, images)
    return maps[images[0] : images[0] + 1] if len(images) == 1 else maps[list(images)]


def among_images(result: Tensor, images: Chosen, shape: torch.Size) -> Tensor:
    """A whole batch of zeros, but for the images that something was calculated of."""
    if images is None:
        return result
    whole = result.new_zeros(shape)
    if isinstance(images, Tensor):
        return whole.index_copy_(0, images, result)
    whole[images[0] if len(images) == 1 else list(images)] = result[0] if len(images) == 1 else result
    return whole


def inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where they are 0: few kernels, because a GPU takes longer to launch them than to compute."""
    return values.reciprocal().nan_to_num_(nan=math.nan, posinf=0.0, neginf=0.0)

"""δ_opt and δ_prune: how far the maps of a layer are from a reference map (paper, Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sauron_train.pruning.common import Images
from sauron_train.pruning.pooling import pool
from sauron_train.pruning.reference import distances_to_reference

Normalization = Literal["maps", "none", "distances"]


def delta_opt(
    maps: Tensor,
    normalization: Normalization = "maps",
    window: int = 2,
    reference: int = 0,
    images: Images | None = None,
    with_loss: bool = False,
) -> Tensor:
    """RMS distance of every map to the reference map, channel 0 unless told (authors' code), per sample.

    Differentiable; the gradient is finite everywhere, also where two maps are equal or a map is constant (design
    choice). A constant map scales to zeros.

    Args:
        maps: (B, C, *spatial).
        normalization: how it is normalised (paper, Appendix A). `maps`: each map scaled to [0, 1] over all its spatial
            axes at full resolution; `none`: not at all; `distances`: a sample's distances divided by their maximum.
        window: ω, side of the pooling before distances are taken.
        reference: position of the reference map.
        images: which of the batch it is taken of; all if left out.
        with_loss: see `distances_to_reference`.

    Returns:
        (images, C - 1) to the other maps in their order, in the type of the maps but at least float32.

    Raises:
        IndexError, ValueError: see `distances_to_reference`.
    """
    reference = range(maps.shape[1])[reference]  # the others are counted from it
    distances = distances_to_reference(maps, reference, window, normalization == "maps", images, with_loss)
    others = (
        distances[:, 1:] if reference == 0 else torch.cat([distances[:, :reference], distances[:, reference + 1 :]], 1)
    )
    return _by_maximum(others) if normalization == "distances" else others


def mean_delta_opt(
    layers: Sequence[Tensor],
    normalization: Normalization = "maps",
    window: int = 2,
    references: Sequence[int] | None = None,
    images: Images | None = None,
    with_loss: bool = False,
) -> Tensor:
    """Mean over the layers of a network of δ_opt(l), the mean over samples and maps; one-filter layers count as 0.

    Args:
        layers: maps (B, C, *spatial) of each prunable layer; heads are no part of it (design choice).
        normalization: see `delta_opt`.
        window: see `delta_opt`.
        references: position of the reference map of each layer; channel 0 of all if left out.
        images: see `delta_opt`.
        with_loss: see `distances_to_reference`.
    """
    values = [
        delta_opt(maps, normalization, window, reference, images, with_loss).mean()
        if maps.shape[1] > 1
        else maps.new_zeros(())
        for maps, reference in zip(layers, references or [0] * len(layers), strict=True)
    ]
    return torch.stack(values).mean()


def delta_prune(maps: Tensor, references: Sequence[int], window: int = 2) -> Tensor:
    """What thresholds are compared with: RMS distance of all maps to π, relative to the farthest (authors' code).

    Args:
        maps: (B, C, *spatial), not scaled.
        references: positions of the maps that are π, each by itself.
        window: ω.

    Returns:
        (references, C) in [0, 1]: each sample's distances divided by their maximum, then averaged over the batch; 0 at
        π.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    pooled = precise(pool(maps, window)).flatten(2)
    pooled = pooled - pooled.mean(dim=1, keepdim=True)  # nearer to each other than to 0: less is lost in the products
    products = pooled @ pooled.transpose(1, 2) / pooled.shape[2]
    squares = products.diagonal(dim1=1, dim2=2)
    rows = torch.as_tensor(references, device=maps.device)
    distances = (squares[:, rows, None] + squares[:, None, :] - 2 * products[:, rows]).clamp_min(0).sqrt()
    distances[:, torch.arange(len(rows)), rows] = 0
    largest = distances.amax(dim=2, keepdim=True)
    return (distances / largest.masked_fill(largest == 0, 1)).mean(dim=0)


def precise(tensor: Tensor) -> Tensor:
    """In float64 where the device knows it."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _by_maximum(distances: Tensor) -> Tensor:
    largest = distances.amax(dim=1, keepdim=True) if distances.shape[1] else distances
    return distances / largest.masked_fill(largest == 0, 1)

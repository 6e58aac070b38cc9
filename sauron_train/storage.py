"""Which maps a run stores, and how large they will be."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sauron_train.config import Config
from sauron_train.errors import ConfigError

_SMALLEST_SIDE = 8


@dataclass(frozen=True)
class MapsPlan:
    """What is stored: at which epochs, of which layers, pooled until no side is longer than `max_side` voxels.

    `megabytes` is what that takes at most; pruned layers take less. `weights_mb` is what the weights kept with them do.
    """

    epochs: tuple[int, ...]
    layers: tuple[str, ...]
    max_side: int
    megabytes: float
    weights_mb: float = 0.0

    def __str__(self) -> str:
        """A line for the terminal."""
        epochs = "epoch" if len(self.epochs) == 1 else "epochs"
        weights = f", and {_size(self.weights_mb)} of weights" if self.weights_mb else ""
        return (
            f"maps of {len(self.layers)} layers at {len(self.epochs)} {epochs}, up to {self.max_side} voxels a side: "
            f"at most {_size(self.megabytes)}{weights}"
        )


def plan_maps(
    config: Config,
    shapes: Mapping[str, Sequence[int]],
    images: int,
    epochs: tuple[int, ...] | None = None,
    parameters: int = 0,
) -> MapsPlan:
    """Decide what is stored, within `maps.budget_mb`.

    Args:
        config: the whole configuration.
        shapes: (C, *spatial) of every prunable layer's maps, before anything is cut.
        images: number of probe images.
        epochs: at which they are stored; None = as `maps` says.
        parameters: of the network, to tell what its weights take; no part of the budget.

    Raises:
        ConfigError: no layer's name fits `maps.layers`, or even maps of 8 voxels a side are more than the budget.
    """
    maps = config.maps
    layers = tuple(name for name in shapes if any(fnmatch.fnmatchcase(name, pattern) for pattern in maps.layers))
    if not layers:
        raise ConfigError(
            f"maps.layers {list(maps.layers)} fits no layer; `sauron-train describe` lists them, as in "
            f"{next(iter(shapes))}"
        )
    if epochs is None:
        epochs = tuple(e for e in range(1, config.epochs + 1) if _stores(config, e))
    copies = len(epochs) * images / 1e6
    distances = copies * sum(_bytes_of_distances(shapes[name]) for name in layers)
    side = maps.max_side
    while True:
        size = distances + copies * sum(_bytes_of_maps(shapes[name], side) for name in layers)
        if size <= maps.budget_mb:
            return MapsPlan(epochs, layers, side, size, 4 * parameters * kept_weights(config, epochs) / 1e6)
        if side <= _SMALLEST_SIDE:
            raise ConfigError(
                f"maps of {len(layers)} layers at {len(epochs)} epochs take {_size(size)} even at {side} voxels a "
                f"side, {_size(distances)} of them for the distances between all maps, and maps.budget_mb is "
                f"{maps.budget_mb}; raise it or maps.every, or name fewer maps.layers"
            )
        side = max(_SMALLEST_SIDE, side * 3 // 4)


def keeps_weights(config: Config, with_maps: Collection[int], epoch: int) -> bool:
    """Whether the weights of an epoch stay in the run: those with maps, and as `maps.checkpoints` says."""
    often = config.maps.checkpoints
    return epoch in with_maps or (often is not None and epoch % often == 0)


def kept_weights(config: Config, with_maps: Collection[int]) -> int:
    """At how many epochs they stay."""
    return sum(keeps_weights(config, with_maps, epoch) for epoch in range(1, config.epochs + 1))


def pooling(sides: Sequence[int], max_side: int) -> int:
    """Side of the average pooling after which none is longer than `max_side`."""
    return -(-max(sides) // max_side)


def _stores(config: Config, epoch: int) -> bool:
    return epoch in (1, config.epochs, *config.maps.epochs) or epoch % config.maps_every == 0


def _bytes_of_maps(shape: Sequence[int], max_side: int) -> int:
    """Of one image, in float16."""
    count, *sides = shape
    window = pooling(sides, max_side)
    return 2 * count * math.prod(side // min(window, side) for side in sides)


def _bytes_of_distances(shape: Sequence[int]) -> int:
    """Between all pairs of maps of one image, in float32."""
    return 4 * (shape[0] * (shape[0] - 1) // 2)


def _size(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"

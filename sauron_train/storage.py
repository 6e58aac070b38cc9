"""Which maps a run stores, and how large they will be."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sauron_train.config import Config
from sauron_train.errors import ConfigError

_SMALLEST_SIDE = 8


@dataclass(frozen=True)
class MapsPlan:
    """What is stored: at which epochs, of which layers, pooled until no side is longer than `max_side` voxels.

    `megabytes` is what that takes at most; pruned layers take less.
    """

    epochs: tuple[int, ...]
    layers: tuple[str, ...]
    max_side: int
    megabytes: float

    def __str__(self) -> str:
        """A line for the terminal."""
        size = f"{self.megabytes:,.0f} MB" if self.megabytes >= 1 else "1 MB"
        return (
            f"maps of {len(self.layers)} layers at {len(self.epochs)} epochs, up to {self.max_side} voxels a side: "
            f"at most {size}"
        )


def plan_maps(
    config: Config, shapes: Mapping[str, Sequence[int]], images: int, epochs: tuple[int, ...] | None = None
) -> MapsPlan:
    """Decide what is stored, within `maps.budget_mb`.

    Args:
        config: the whole configuration.
        shapes: (C, *spatial) of every prunable layer's maps, before anything is cut.
        images: number of probe images.
        epochs: at which they are stored; None = as `maps` says.

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
    side = maps.max_side
    while True:
        size = len(epochs) * images * sum(_bytes(shapes[name], side) for name in layers) / 1e6
        if size <= maps.budget_mb:
            return MapsPlan(epochs, layers, side, size)
        if side <= _SMALLEST_SIDE:
            raise ConfigError(
                f"maps of {len(layers)} layers at {len(epochs)} epochs take {size:,.0f} MB even at {side} voxels a "
                f"side, and maps.budget_mb is {maps.budget_mb}; raise it or maps.every, or name fewer maps.layers"
            )
        side = max(_SMALLEST_SIDE, side * 3 // 4)


def pooling(sides: Sequence[int], max_side: int) -> int:
    """Side of the average pooling after which none is longer than `max_side`."""
    return -(-max(sides) // max_side)


def _stores(config: Config, epoch: int) -> bool:
    return epoch in (1, config.epochs, *config.maps.epochs) or epoch % config.maps.every == 0


def _bytes(shape: Sequence[int], max_side: int) -> int:
    """Of one image: maps in float16, and all pairs of distances in float32."""
    count, *sides = shape
    window = pooling(sides, max_side)
    voxels = math.prod(side // min(window, side) for side in sides)
    return 2 * count * voxels + 4 * (count * (count - 1) // 2)

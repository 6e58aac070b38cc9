"""From stored maps to the bytes a canvas draws: pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sauron_train.runlog.schema import Array

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """The maps of one layer, epoch, image and slice, and what is known of each map.

    `pixels` (C, H, W) uint8, each map scaled over its own range; `filters` (C,) original numbers; `low` and `high` (C,)
    ends of that range, in the unit of the map; `to_reference`, `nearest_distance` (C,) RMS distances in units of the
    maps' range; `nearest` (C,) original numbers, -1 where a map is alone; `delta_prune` (C,), NaN where not measured.
    """

    pixels: Bytes
    filters: Array
    low: Array
    high: Array
    to_reference: Array
    nearest: Array
    nearest_distance: Array
    delta_prune: Array

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return int(self.pixels.nbytes + 28 * len(self.filters))

    def stats(self) -> bytes:
        """The seven numbers per map as float32, one after another, in the order the canvas reads them."""
        columns = (
            self.filters, self.low, self.high, self.to_reference, self.nearest, self.nearest_distance, self.delta_prune,
        )  # fmt: skip
        return np.stack([np.asarray(column, dtype=np.float32) for column in columns]).tobytes()

    @property
    def whole_range(self) -> tuple[float, float]:
        """The lowest and the highest value of all maps."""
        return float(self.low.min()), float(self.high.max())

    def on_common_scale(self, row: int) -> Bytes:
        """One map as bytes over the range of all maps."""
        low, high = self.whole_range
        values = self.low[row] + self.pixels[row] / np.float32(255) * (self.high[row] - self.low[row])
        ends = np.array([low], np.float32), np.array([high], np.float32)
        return np.asarray(_quantise(values[None], *ends)[0])

    def index(self, number: int) -> int | None:
        """The row of a filter by its original number, None if it is gone."""
        found = np.flatnonzero(self.filters == number)
        return int(found[0]) if len(found) else None


def make_frame(
    maps: Array, filters: Array, distances: Array, delta_prune: Array, axis: int = 0, position: int | None = None
) -> Frame:
    """Scale maps (C, *spatial) to bytes; a 3D map is cut at `position` of spatial `axis`.

    The range of a 3D map is that of the whole volume, so that its slices can be compared.
    """
    flat = maps.reshape(len(maps), -1)
    low, high = flat.min(axis=1).astype(np.float32), flat.max(axis=1).astype(np.float32)
    shown = take_slice(maps, axis, position)
    nearest, distance = _nearest(distances)
    return Frame(
        pixels=_quantise(shown, low, high),
        filters=filters,
        low=low,
        high=high,
        to_reference=distances[0].astype(np.float32),
        nearest=np.where(nearest >= 0, filters[nearest], -1),
        nearest_distance=distance,
        delta_prune=delta_prune,
    )


def take_slice(volume: Array, axis: int, position: int | None) -> Array:
    """Cut (C, D, H, W) at a position of a spatial axis; (C, H, W) passes."""
    if volume.ndim == 3:
        return volume
    at = volume.shape[1 + axis] // 2 if position is None else position
    return np.asarray(np.take(volume, at, axis=1 + axis))


def to_bytes(image: Array) -> Bytes:
    """One image (H, W) over its own range."""
    values = np.asarray(image, dtype=np.float32)[None]
    return np.asarray(_quantise(values, values.min(axis=(1, 2)), values.max(axis=(1, 2)))[0])


def slice_position(share: float, size: int) -> int:
    """The slice at a share in [0, 1] of an axis: maps, images and labels of other sizes are cut at the same place."""
    return min(size - 1, max(0, int(share * size)))


def _quantise(maps: Array, low: Array, high: Array) -> Bytes:
    span = np.where(high > low, high - low, 1).astype(np.float32)
    scaled = maps.astype(np.float32)
    scaled -= low[:, None, None]
    scaled *= (255 / span)[:, None, None]
    return np.clip(np.rint(scaled, out=scaled), 0, 255).astype(np.uint8)


def _nearest(distances: Array) -> tuple[Array, Array]:
    count = len(distances)
    if count < 2:
        return np.full(count, -1), np.full(count, np.nan, dtype=np.float32)
    others = distances.astype(np.float32)
    np.fill_diagonal(others, np.inf)
    nearest = others.argmin(axis=1)
    return nearest, others[np.arange(count), nearest]

"""From stored maps to the bytes a canvas draws: pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sauron_train.analysis.clusters import Clusters
from sauron_train.runlog.schema import Array

Bytes = npt.NDArray[np.uint8]

UNKNOWN = -1
"""In place of the epoch at which a filter went, for one that was gone before the run began."""


@dataclass(frozen=True)
class MapStats:
    """What is known of each of C maps; one (C,) array each, in the order in which a canvas reads them.

    Attributes:
        filters: original numbers.
        low: the smallest value of the map, in the map's own unit; NaN where it is not all numbers, or was never stored.
        high: the largest.
        variance: over its voxels.
        to_reference: RMS distance to the reference, the first map that is left, in units of the maps' range.
        nearest: original number of the nearest other map; of a removed one the survivor nearest to it when it went; -1
            where there is none.
        nearest_distance: RMS distance to that.
        delta_prune: as measured in that epoch, or when it went; NaN where it was not.
        gone: epoch at which it was removed, 0 for one that is left, `UNKNOWN` before the run began.
        threshold: τ at which it went; NaN for one that is left.
        seen: epoch that its picture is of; 0 where there is none.
    """

    filters: Array
    low: Array
    high: Array
    variance: Array
    to_reference: Array
    nearest: Array
    nearest_distance: Array
    delta_prune: Array
    gone: Array
    threshold: Array
    seen: Array

    def rows(self) -> Array:
        """(11, C) float32."""
        return np.stack([np.asarray(getattr(self, field.name), dtype=np.float32) for field in fields(self)])

    @classmethod
    def of(cls, rows: Array) -> MapStats:
        """The inverse of `rows`."""
        numbers = {"filters", "nearest", "gone", "seen"}
        columns = {f.name: row for f, row in zip(fields(cls), rows, strict=True)}
        return cls(**{n: column.astype(np.int64) if n in numbers else column for n, column in columns.items()})


@dataclass(frozen=True)
class Pictures:
    """Maps of one layer, epoch, image and slice: `pixels` (C, H, W) uint8, each scaled over its own range."""

    pixels: Bytes
    stats: MapStats

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return int(self.pixels.nbytes + 4 * len(fields(MapStats)) * len(self.pixels))


@dataclass(frozen=True)
class Removed:
    """A filter that went: when, at which τ, and how near to which survivor; `epoch` as in `MapStats.gone`."""

    filter: int
    epoch: int = UNKNOWN
    threshold: float = np.nan
    nearest: int = -1
    distance: float = np.nan
    delta_prune: float = np.nan


@dataclass(frozen=True)
class Frame:
    """What the grid draws: every filter that the layer began with, those that went with their last picture.

    Attributes:
        pictures: by filter number, those that are left and those that went mixed.
        left: rows of the filters that are left.
        find_clusters: how those belong together, by their place in `left`; asked when it is needed, because it takes
            longer than all else.
    """

    pictures: Pictures
    left: Array
    find_clusters: Callable[[], Clusters]

    @cached_property
    def simple_orders(self) -> Mapping[str, Array]:
        """Name of an order to (C,) rows, as they stand in it; what has no value for it stands at its end."""
        return {
            "number": np.arange(len(self.stats.filters)),
            "reference": _sorted(self.stats.to_reference),
            "variance": _sorted(-self.stats.variance),
        }

    @cached_property
    def orders(self) -> Mapping[str, Array]:
        """The same, with that of the clusters, in which what went stands beside its nearest survivor."""
        rank = np.full(len(self.stats.filters), np.inf)
        rank[self.left[self._clusters.order]] = np.arange(len(self.left))
        return {**self.simple_orders, "clusters": _sorted(_beside_survivors(self.stats, rank))}

    @cached_property
    def cluster(self) -> Array:
        """(C,) number of the cluster of each map, -1 for what went."""
        found = np.full(len(self.stats.filters), -1)
        found[self.left] = self._clusters.labels
        return found

    @cached_property
    def _clusters(self) -> Clusters:
        return self.find_clusters()

    @property
    def pixels(self) -> Bytes:
        """(C, H, W) uint8."""
        return self.pictures.pixels

    @property
    def stats(self) -> MapStats:
        """What is known of each map."""
        return self.pictures.stats

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.pictures.nbytes + 8 * 6 * len(self.stats.filters)

    @property
    def whole_range(self) -> tuple[float, float]:
        """The lowest and the highest value of the maps that are left."""
        low, high = self.stats.low[self.left], self.stats.high[self.left]
        known = np.isfinite(low)
        return (float(low[known].min()), float(high[known].max())) if known.any() else (0.0, 0.0)

    def packed(self, clustered: bool = True) -> tuple[list[str], bytes]:
        """The names of the orders, and the numbers of each map as float32 for the canvas.

        `MapStats` in its order, the cluster, then the orders; without clusters all are -1, and their order is left out.
        """
        orders = self.orders if clustered else self.simple_orders
        cluster = self.cluster if clustered else np.full(len(self.stats.filters), -1)
        rows = [self.stats.rows(), cluster[None], *(order[None] for order in orders.values())]
        return list(orders), np.concatenate(rows).astype(np.float32).tobytes()

    def values(self, row: int) -> Array:
        """One map (H, W) in its own unit, as exactly as its picture holds it."""
        low, high = self.stats.low[row], self.stats.high[row]
        return np.asarray(low + self.pixels[row] / np.float32(255) * (high - low))

    def on_common_scale(self, row: int) -> Bytes:
        """One map as bytes over the range of all maps that are left."""
        low, high = self.whole_range
        ends = np.array([low], np.float32), np.array([high], np.float32)
        return np.asarray(_quantise(self.values(row)[None], *ends)[0])

    def index(self, number: int) -> int | None:
        """The row of a filter by its original number; None if the layer never had it."""
        found = np.flatnonzero(self.stats.filters == number)
        return int(found[0]) if len(found) else None

    def is_left(self, row: int) -> bool:
        """Whether the filter is still there."""
        return bool(self.stats.gone[row] == 0)


def make_pictures(
    maps: Array,
    filters: Array,
    distances: Array,
    delta_prune: Array,
    epoch: int,
    axis: int = 0,
    position: int | None = None,
    rows: Array | None = None,
) -> Pictures:
    """Scale maps (C, *spatial) to bytes; a 3D map is cut at `position` of spatial `axis`.

    The range of a 3D map is that of the whole volume, so that its slices can be compared. A map that is not all numbers
    is blank. `rows` are the places of those maps that are wanted, None = all.
    """
    wanted = np.arange(len(maps)) if rows is None else rows
    maps = maps if rows is None else maps[rows]
    # numpy counts in float16 many times slower.
    maps = maps.astype(np.float32)
    flat = maps.reshape(len(maps), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    # NaN is the smallest and the largest of whatever holds it.
    numbers = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(numbers, low, np.float32(np.nan)), np.where(numbers, high, np.float32(np.nan))
    with np.errstate(invalid="ignore"):
        variance = np.where(numbers, flat.var(axis=1), np.nan)
    nearest, distance = _nearest(distances)
    count = len(maps)
    stats = MapStats(
        filters=filters[wanted].astype(np.int64),
        low=low,
        high=high,
        variance=variance,
        to_reference=distances[0][wanted].astype(np.float32),
        nearest=np.where(nearest >= 0, filters[nearest], -1)[wanted],
        nearest_distance=distance[wanted],
        delta_prune=delta_prune[wanted],
        gone=np.zeros(count, dtype=np.int64),
        threshold=np.full(count, np.nan, dtype=np.float32),
        seen=np.full(count, epoch),
    )
    return Pictures(_quantise(take_slice(maps, axis, position), low, high), stats)


def make_frame(
    now: Pictures, removed: Sequence[tuple[Removed, Pictures | None]], find_clusters: Callable[[], Clusters]
) -> Frame:
    """Put what is left and what went into one frame.

    Args:
        now: the maps that are left.
        removed: each filter that went, with earlier pictures in which it is still there.
        find_clusters: gives the clusters of the maps that are left, by their place in `now`.
    """
    pictures = _with_removed(now, removed)
    return Frame(pictures, np.flatnonzero(pictures.stats.gone == 0), find_clusters)


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


def _with_removed(now: Pictures, removed: Sequence[tuple[Removed, Pictures | None]]) -> Pictures:
    if not removed:
        return now
    blank = np.zeros(now.pixels.shape[1:], dtype=np.uint8)
    pixels, rows = [], []
    for record, earlier in removed:
        stats, picture = _last_seen(record, earlier, blank)
        pixels.append(picture)
        rows.append(stats)
    every = np.concatenate([now.stats.rows(), np.stack(rows, axis=1)], axis=1)
    by_number = np.argsort(every[0], kind="stable")
    return Pictures(np.concatenate([now.pixels, np.stack(pixels)])[by_number], MapStats.of(every[:, by_number]))


def _last_seen(record: Removed, earlier: Pictures | None, blank: Bytes) -> tuple[Array, Bytes]:
    names = [field.name for field in fields(MapStats)]
    row, picture = np.full(len(names), np.nan, dtype=np.float32), blank
    seen = 0
    if earlier is not None and earlier.pixels.shape[1:] == blank.shape:
        place = int(np.flatnonzero(earlier.stats.filters == record.filter)[0])
        row, picture = earlier.stats.rows()[:, place].copy(), earlier.pixels[place]
        seen = int(earlier.stats.seen[place])
    said = {
        "filters": record.filter,
        "nearest": record.nearest,
        "nearest_distance": record.distance,
        "delta_prune": record.delta_prune,
        "gone": record.epoch,
        "threshold": record.threshold,
        "seen": seen,
    }
    for name, value in said.items():
        row[names.index(name)] = value
    return row, picture


def _sorted(keys: Array) -> Array:
    # Rows stand by filter number, so what is equal, or has no value, keeps that order at its place or at the end.
    return np.argsort(np.where(np.isnan(keys), np.inf, keys), kind="stable")


def _beside_survivors(stats: MapStats, rank: Array) -> Array:
    """What went takes the place of its nearest survivor, or of the one that is nearest to that if it went too."""
    row_of = {int(number): row for row, number in enumerate(stats.filters)}
    found = rank.copy()
    for row in np.flatnonzero(np.isinf(rank)):
        at, steps = int(row), 0
        while np.isinf(rank[at]) and int(stats.nearest[at]) in row_of and steps < len(rank):
            at, steps = row_of[int(stats.nearest[at])], steps + 1
        found[row] = rank[at] + 0.5
    return found


def _quantise(maps: Array, low: Array, high: Array) -> Bytes:
    span = np.where(high > low, high - low, 1).astype(np.float32)
    scaled: Array = maps.astype(np.float32)
    scaled -= low[:, None, None]
    scaled *= (255 / span)[:, None, None]
    if not np.isfinite(scaled.sum()):
        # What is not a number has no place on a scale.
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(np.rint(scaled, out=scaled), 0, 255).astype(np.uint8)


def _nearest(distances: Array) -> tuple[Array, Array]:
    count = len(distances)
    if count < 2:
        return np.full(count, -1), np.full(count, np.nan, dtype=np.float32)
    others = np.where(np.isnan(distances), np.inf, distances).astype(np.float32)
    np.fill_diagonal(others, np.inf)
    nearest = others.argmin(axis=1)
    found = others[np.arange(count), nearest]
    return np.where(np.isinf(found), -1, nearest), np.where(np.isinf(found), np.nan, found)

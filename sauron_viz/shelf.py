"""The maps of a run as frames: what is left at an epoch, what went with its last picture, and which belong together."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sauron_train.analysis.clusters import Clusters, clusters
from sauron_train.analysis.removal import delta_prune
from sauron_train.errors import SauronError
from sauron_train.runlog import LayerDistances
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Frame, Pictures, Removed, make_frame, make_pictures

if TYPE_CHECKING:
    from sauron_viz.runs import RunView


class Shelf:
    """Reads maps when asked for, and keeps what it made in the cache of the view."""

    def __init__(self, view: RunView) -> None:
        self._view = view

    def frame(self, epoch: int, layer: str, image: int, axis: int = 0, position: int | None = None) -> Frame:
        """What the grid draws.

        Raises:
            RunError: no maps of that layer at that epoch.
        """
        cut = (axis, position)

        def make() -> Frame:
            now = self._pictures(None, epoch, layer, image, *cut)
            gone = self.removed(epoch, layer)
            seen = self._last_seen([record.filter for record in gone], epoch, layer)
            earlier = {
                e: self._pictures([n for n, at in seen.items() if at == e], e, layer, image, *cut)
                for e in sorted(set(seen.values()))
            }
            before = self._parents_frame(layer, image, *cut) if len(seen) < len(gone) else None
            other = before.pictures if before else None
            removed = [(record, earlier.get(seen.get(record.filter, 0), other)) for record in gone]
            return make_frame(now, removed, partial(self.clusters, epoch, layer, image))

        # A cut that is recorded later does not change an epoch before it, so the epoch names the frame for good.
        return self._view.kept(("frame", epoch, layer, image, *cut), make, lambda frame: frame.nbytes)

    def distances(self, epoch: int, layer: str, image: int) -> Array:
        """(C, C) float32 between the maps that are left, of one probe image."""
        read = self._view.run.maps(epoch, layer)
        return self._view.kept(
            ("distances", epoch, layer, image), lambda: read.distances(image), lambda d: int(d.nbytes)
        )

    def filters(self, epoch: int, layer: str) -> Array:
        """Original numbers (C,) of the filters that are left."""
        read = self._view.run.maps(epoch, layer)
        return self._view.kept(("filters", epoch, layer), lambda: read.filters, lambda f: int(f.nbytes))

    def delta_prune(self, epoch: int, layer: str) -> Array:
        """(C, C) δ_prune of every map to every other as π, over the probe images, from the maps as they are stored."""
        stored = self._view.run.maps(epoch, layer)

        def make() -> Array:
            window = max(1, self._view.config.loss.window // stored.pooling)
            maps = (stored.image(i)[None].astype(np.float32) for i in range(stored.shape[0]))
            return np.asarray(np.mean([delta_prune(one, window) for one in maps], axis=0), dtype=np.float32)

        return self._view.kept(("delta_prune", epoch, layer), make, lambda d: int(d.nbytes))

    def map_of(self, epoch: int, layer: str, image: int, number: int) -> Array:
        """One map (*spatial) float16 of a filter that is there at that epoch."""
        row = int(np.flatnonzero(self.filters(epoch, layer) == number)[0])
        return np.asarray(self._volume(epoch, layer, image)[row])

    def history(self, layer: str, number: int) -> pd.DataFrame:
        """How far a filter was from others, at every epoch at which it was there.

        Returns:
            epoch, nearest, nearest_distance, reference_distance.
        """
        rows = []
        for epoch, lie in self._lies(layer).items():
            place = np.flatnonzero(lie.filters == number)
            if len(place):
                values = (lie.nearest[place[0]], lie.nearest_distance[place[0]], lie.reference_distance[place[0]])
                rows.append((epoch, int(values[0]), float(values[1]), float(values[2])))
        return pd.DataFrame(rows, columns=["epoch", "nearest", "nearest_distance", "reference_distance"])

    def removal(self, layer: str, number: int) -> Removed | None:
        """When a filter went, at whichever epoch; None for one that did not."""
        for cut in self._view.prunings:
            for gone in cut.removed if cut.layer == layer else ():
                if gone.filter == number:
                    return Removed(number, cut.epoch, cut.threshold, gone.nearest, gone.distance, gone.delta_prune)
        return None

    def _lies(self, layer: str) -> dict[int, LayerDistances]:
        """How the maps of a layer lie to each other, epoch by epoch."""

        def read(epoch: int) -> LayerDistances:
            return self._view.run.distances(epoch, [layer])[layer]

        return {
            epoch: self._view.kept(("lie", epoch, layer), partial(read, epoch), _size)
            for epoch in self._view.run.distance_epochs()
        }

    def clusters(self, epoch: int, layer: str, image: int) -> Clusters:
        """Which of the maps that are left belong together within the radius of the run."""
        radius = self._view.config.probe.radius
        return self._view.kept(
            ("clusters", epoch, layer, image),
            lambda: clusters(self.distances(epoch, layer, image), radius),
            lambda found: 16 * len(found.order),
        )

    def removed(self, epoch: int, layer: str) -> list[Removed]:
        """The filters that a layer does not have any more at an epoch, by number."""
        records = {
            gone.filter: Removed(gone.filter, cut.epoch, cut.threshold, gone.nearest, gone.distance, gone.delta_prune)
            for cut in self._view.prunings
            if cut.layer == layer and cut.epoch <= epoch
            for gone in cut.removed
        }
        parent, derived = self._view.parent, self._view.info.derived_from
        if parent is not None and derived is not None:
            with contextlib.suppress(SauronError):
                records = {gone.filter: gone for gone in parent.shelf.removed(derived.epoch, layer)} | records
        info = next(info for info in self._view.info.layers if info.name == layer)
        left = set(self.filters(epoch, layer).tolist())
        return [records.get(number, Removed(number)) for number in range(info.filters) if number not in left]

    def _parents_frame(self, layer: str, image: int, axis: int, position: int | None) -> Frame | None:
        """The maps as they were before this run was made of another's network; None where that is not to be had."""
        parent, derived = self._view.parent, self._view.info.derived_from
        if parent is None or derived is None:
            return None
        try:
            return parent.shelf.frame(derived.epoch, layer, image, axis, position)
        except SauronError:
            return None

    def _last_seen(self, numbers: list[int], epoch: int, layer: str) -> dict[int, int]:
        """The latest epoch before this one whose stored maps still have each filter."""
        wanted, found = set(numbers), dict[int, int]()
        for before in sorted((e for e in self._view.map_epochs if e < epoch), reverse=True):
            if not wanted:
                break
            if layer not in self._view.run.map_layers(before):
                continue
            here = wanted & set(self.filters(before, layer).tolist())
            found |= dict.fromkeys(here, before)
            wanted -= here
        return found

    def _pictures(
        self, numbers: list[int] | None, epoch: int, layer: str, image: int, axis: int, position: int | None
    ) -> Pictures:
        """Pictures of all filters, or of some: of most epochs a frame shows no more than the few that went after them.

        They are not kept, the frame that is made of them is.
        """
        stored = self._view.run.maps(epoch, layer)
        rows = None if numbers is None else np.flatnonzero(np.isin(stored.filters, numbers))
        volume = self._volume(epoch, layer, image) if len(stored.shape) == 5 else stored.image(image)
        distances = self.distances(epoch, layer, image)
        return make_pictures(volume, stored.filters, distances, stored.delta_prune, epoch, axis, position, rows)

    def _volume(self, epoch: int, layer: str, image: int) -> Array:
        """Maps (C, D, H, W) float16: another slice of the same volume is likely to be asked for next."""
        read = self._view.run.maps(epoch, layer)
        return self._view.kept(("maps", epoch, layer, image), lambda: read.image(image), lambda a: int(a.nbytes))


def _size(lie: LayerDistances) -> int:
    return int(sum(array.nbytes for array in vars(lie).values()))

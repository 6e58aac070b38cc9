"""What the explorer looks at: a run, an epoch with maps, a layer, an image and, in 3D, a slice of it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from sauron_train.errors import RunError, SauronError
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Frame, slice_position, take_slice
from sauron_viz.runs import RunView
from sauron_viz.widgets.viewer import Viewer


class Card(Protocol):
    """Something beside the grid: a widget, and how it is brought in line with the scene."""

    widget: Any

    def update(self) -> None:
        """Show what the scene looks at now."""


class Scene:
    """Reads for all cards of the explorer, so that they show the same place.

    `epoch` is one whose maps are stored. `axis` and `share` say where volumes are cut: along which axis, and at which
    share of its length, because maps, images and labels have other sizes.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.epoch = 0
        self.axis = 0
        self.share = 0.5

    @property
    def view(self) -> RunView:
        """The run that is open.

        Raises:
            RunError: none is.
        """
        if self.viewer.view is None:
            raise RunError("no run is open")
        return self.viewer.view

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.viewer.state.layer)

    @property
    def image(self) -> int:
        """Which of the probe images."""
        return int(self.viewer.state.image)

    @property
    def aspect(self) -> float:
        """Height of a voxel over its width in the slice that is shown."""
        return self.aspect_along(self.axis)

    def aspect_along(self, axis: int) -> float:
        """Height of a voxel over its width in slices along an axis."""
        spacing = list(self.view.probe().spacing)
        if len(spacing) == 3:
            spacing.pop(axis)
        return float(spacing[0] / spacing[1])

    @property
    def solid(self) -> bool:
        """Whether images are volumes."""
        return self.view.probe().labels.ndim == 4

    def cut(self, shape: tuple[int, ...]) -> tuple[int, int | None]:
        """Axis and position at which something of a spatial shape is cut."""
        return (0, None) if len(shape) == 2 else (self.axis, slice_position(self.share, shape[self.axis]))

    def frame(self, epoch: int | None = None) -> Frame:
        """The maps of the layer, at this epoch or another.

        Raises:
            RunError: none are stored.
        """
        at = self.epoch if epoch is None else epoch
        return self.view.frame(at, self.layer, self.image, *self.cut(self.view.map_shape(at, self.layer)))

    def frame_or_none(self) -> Frame | None:
        """The same, None where there are none."""
        try:
            return self.frame()
        except SauronError:
            return None

    def flat(self, volume: Array) -> Array:
        """The slice of a volume (*spatial); an image passes."""
        return np.ascontiguousarray(take_slice(volume[None], *self.cut(volume.shape))[0])

    def caption(self, view: RunView, scale: str) -> str:
        """What a picture of the maps of a run shows, for one who does not see the view."""
        parts = [f"Run {view.title}", view.info.dataset, f"image {self.view.probe().names[self.image]}"]
        if self.solid:
            sides = self.view.probe().labels.shape[1:]
            parts.append(f"slice {slice_position(self.share, sides[self.axis])} along axis {self.axis + 1}")
        parts.append("one colour scale for all maps" if scale == "layer" else "each map over its own range")
        return ", ".join(parts)

    def input(self) -> Array:
        """The probe image (H, W), its first channel."""
        return self.flat(self.view.probe().images[self.image, 0])

    def label(self) -> Array:
        """Its label (H, W)."""
        return self.flat(self.view.probe().labels[self.image])

    def prediction(self) -> Array | None:
        """What was predicted for it at this epoch (H, W); None where it is not stored."""
        try:
            return self.flat(self.view.prediction(self.epoch)[self.image])
        except SauronError:
            return None

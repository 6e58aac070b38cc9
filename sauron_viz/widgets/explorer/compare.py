"""A second grid beside the first: the same layer and image of another run, or of another epoch."""

from __future__ import annotations

import ipywidgets

from sauron_train.errors import RunError, SauronError
from sauron_viz.frames import Frame, slice_position
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, show
from sauron_viz.widgets.controls import Select
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import FeatureGrid

_NOTHING = ["", "Nothing"]


class Comparison:
    """What is compared with, and its grid; filters are linked by their original numbers."""

    def __init__(self, scene: Scene, grid: FeatureGrid) -> None:
        self.scene, self.first = scene, grid
        self.choice = Select(label="Compare with", options=[_NOTHING])
        self.grid = FeatureGrid(self._supply)
        self.widget = box(self.grid, css="sauron-card sauron-stack")
        self._view: RunView | None = None
        self._run = scene.viewer.state.run
        show(self.widget, False)
        for trait in ("scale", "order", "removed", "size"):
            ipywidgets.jsdlink((grid, trait), (self.grid, trait))
        # The browser alone carries the choice from grid to grid. What the kernel wrote here would come back late, and
        # through this link undo what the reader has chosen meanwhile.
        ipywidgets.jslink((grid, "filter"), (self.grid, "filter"))
        scene.viewer.state.observe(scene.viewer.guard(lambda _: self.update()), "runs")

    def update(self) -> None:
        """Offer what there is."""
        scene = self.scene
        if scene.viewer.view is None:
            return
        others = [name for name in scene.viewer.state.runs if name != scene.viewer.state.run]
        guests = scene.viewer.folder.guests
        epochs = [epoch for epoch in scene.view.map_epochs if epoch != scene.epoch]
        options = [
            _NOTHING,
            *([f"epoch:{epoch}", f"Epoch {epoch}", "This run"] for epoch in epochs),
            *([f"run:{name}", f"{name} (not saved)" if name in guests else name, "Other runs"] for name in others),
        ]
        changed, self._run = self._run != scene.viewer.state.run, scene.viewer.state.run
        with self.choice.hold_sync():
            self.choice.options = options
            if changed and not self._fits():
                self.choice.value = ""
            if self.choice.value not in [option[0] for option in options]:
                self.choice.value = ""

    def draw(self) -> None:
        """Draw what is chosen, once the first grid shows what it will."""
        scene = self.scene
        kind, _, name = self.choice.value.partition(":")
        show(self.widget, bool(kind))
        if not kind:
            self.grid.base = ""
            return
        try:
            view = scene.view if kind == "epoch" else scene.viewer.folder.open(name)
            self._view = view
            self._draw(view, int(name) if kind == "epoch" else self._nearest_epoch(view))
        except SauronError as error:
            with self.grid.hold_sync():
                self.grid.note, self.grid.base = str(error), ""

    def _fits(self) -> bool:
        """Whether what was compared with the last run can be compared with this one."""
        kind, _, name = self.choice.value.partition(":")
        if kind != "run":
            return True
        try:
            self._image(self.scene.viewer.folder.open(name))
        except SauronError:
            return False
        return True

    def _nearest_epoch(self, view: RunView) -> int:
        if not view.map_epochs:
            raise RunError(f"run {view.title} holds no feature maps")
        return min(view.map_epochs, key=lambda epoch: abs(epoch - self.scene.epoch))

    def _draw(self, view: RunView, epoch: int) -> None:
        scene = self.scene
        self._image(view)
        if scene.layer not in view.run.map_layers(epoch):
            raise RunError(f"run {view.title} has no maps of {scene.layer} at epoch {epoch}")
        with self.grid.hold_sync():
            self.grid.epochs, self.grid.epoch = [epoch], epoch
            self.grid.aspect = scene.aspect
            self.grid.label = f"{view.title}: {scene.layer}"
            self.grid.caption = scene.caption(view, self.first.scale)
            # What the first grid shows is part of the name: its slice and image are those of this one.
            self.grid.base = f"{view.name}|{view.created}|{self.first.base}"

    def _image(self, view: RunView) -> int:
        name = self.scene.view.probe().names[self.scene.image]
        names = view.probe().names
        if view.config.network.dim != self.scene.view.config.network.dim:
            raise RunError(
                f"run {view.title} is {view.config.network.dim}D and this one is not, so nothing can be compared"
            )
        if name not in names:
            raise RunError(
                f"{name} is not among the probe images of run {view.title} ({', '.join(names)}), so nothing can be "
                "compared"
            )
        return names.index(name)

    def _supply(self, epoch: int) -> Frame | str:
        scene, view = self.scene, self._view
        if view is None:
            return "Nothing is compared."
        try:
            shape = view.map_shape(epoch, scene.layer)
            cut = (0, None) if len(shape) == 2 else (scene.axis, slice_position(scene.share, shape[scene.axis]))
            return view.frame(epoch, scene.layer, self._image(view), *cut)
        except SauronError as error:
            return str(error)

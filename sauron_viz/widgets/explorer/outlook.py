"""What would go? A threshold that dims the maps below it at once, and what cutting them would save."""

from __future__ import annotations

from typing import Any

import anywidget
import ipywidgets
import numpy as np
from traitlets import Int, List

from sauron_train.analysis.widths import told
from sauron_train.errors import SauronError
from sauron_viz.outlook import STEPS, THRESHOLDS, Outlook, Turns, outlook
from sauron_viz.widgets.base import box, esc, script, show, text
from sauron_viz.widgets.controls import Choice, Slider
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.explorer.tryout import TryOut
from sauron_viz.widgets.grid import FeatureGrid
from sauron_viz.words import DELTA_PRUNE

_TURNS = [["all", "All in turn"], ["first", "Reference"], ["chosen", "Chosen filter"]]
_SCOPES = [["layer", "This layer"], ["all", "All layers"]]


class OutlookNumbers(anywidget.AnyWidget):
    """Filters, parameters and FLOPs left, for all thresholds at once; the browser shows those of `step`."""

    _esm = script("outlook.js")
    rows = List().tag(sync=True)
    step = Int(0).tag(sync=True)


class OutlookCard:
    """The threshold, which maps it is measured to, where it holds, and the numbers."""

    def __init__(self, scene: Scene, grid: FeatureGrid) -> None:
        self.scene, self.grid = scene, grid
        guard = scene.viewer.guard
        self.turns = Choice(label="Distance (δ_prune) to π, which is", options=_TURNS, value="all")
        self.scope = Choice(label="In", options=_SCOPES, value="layer")
        self.slider = Slider(
            label="Threshold τ",
            hint=DELTA_PRUNE,
            options=list(range(len(STEPS))),
            texts=[f"{threshold:.3f}" for threshold in THRESHOLDS],
            value=0,
        )
        self.numbers = OutlookNumbers()
        self.note = text("")
        self.found: Outlook | None = None
        self._asked: tuple[Any, ...] = ()
        self.tryout = TryOut(scene)
        self.body = box(
            self.slider,
            self.numbers,
            box(self.turns, self.scope, css="sauron-row sauron-close"),
            self.tryout.widget,
            css="sauron-stack",
        )
        self.widget = box(self.note, self.body, css="sauron-stack sauron-tight")
        # In the browser: a drag must not wait for the kernel.
        ipywidgets.jsdlink((self.slider, "value"), (self.numbers, "step"))
        ipywidgets.jsdlink((self.slider, "value"), (grid, "tau"))
        self.slider.observe(guard(lambda _: self._offer()), "value")
        for control in (self.turns, self.scope):
            control.observe(guard(lambda _: self.update()), "value")

    @property
    def step(self) -> int:
        """The place of the threshold that is chosen."""
        return int(self.slider.value)

    def hide(self) -> None:
        """Nothing is dimmed while the card is not seen."""
        self.grid.going = b""
        self._asked = ()

    def update(self) -> None:
        """Ask again when the epoch, the layer or the question has changed."""
        scene = self.scene
        place = (scene.view.created, scene.epoch, scene.layer)
        asked = (*place, self.grid.base, self.turns.value, self.scope.value, self._one())
        if asked == self._asked:
            return
        try:
            self.found = outlook(scene.view, scene.epoch, self._layers(), self._turns())
        except SauronError as error:
            self.found = None
            self.note.value = f'<p class="sauron-note">{esc(error)}</p>'
            show(self.body, False)
            self.hide()
            return
        if self._asked[:3] != place:
            self.slider.value = self._usual()
        self._asked = asked
        show(self.body, True)
        self._tell(self.found)
        self._offer()

    def _offer(self) -> None:
        if self.found is not None:
            self.tryout.offer(self.found.chosen(self.step), THRESHOLDS[self.step])

    def _one(self) -> int:
        return int(self.scene.viewer.state.filter) if self.turns.value == "chosen" else -1

    def _turns(self) -> Turns:
        if self.turns.value == "chosen":
            return max(self._one(), 0)
        return "first" if self.turns.value == "first" else "all"

    def _layers(self) -> list[str]:
        if self.scope.value == "layer":
            return [self.scene.layer]
        return self.scene.view.run.map_layers(self.scene.epoch)

    def _usual(self) -> int:
        """The threshold that the layer had at this epoch, or last had before; 0 in a run without cuts."""
        rows = self.scene.view.layers
        rows = rows[(rows["layer"] == self.scene.layer) & (rows["epoch"] <= self.scene.epoch)]
        known = rows["threshold"].dropna().tolist() if "threshold" in rows else []
        return int(np.abs(np.array(THRESHOLDS) - float(known[-1])).argmin()) if known else 0

    def _tell(self, found: Outlook) -> None:
        shown = found.goes.get(self.scene.layer)
        with self.grid.hold_sync():
            self.grid.goingOf = f"{self.grid.base}|{self.scene.epoch}"
            self.grid.going = b"" if shown is None else shown.astype(np.uint8).tobytes()
            self.grid.tau = self.step
        filters = {name: int(np.max(width)) for name, width in found.widths.items()}
        layers = list(found.goes)
        now = sum(len(found.filters[name]) for name in layers)
        start = sum(info.filters for info in self.scene.view.info.layers if info.name in found.goes)
        where = f"Filters of {layers[0]}" if len(layers) == 1 else "Filters"
        with self.numbers.hold_sync():
            self.numbers.step = self.step
            self.numbers.rows = [
                {"name": where, "values": (now - found.count()).tolist(), "now": now, "start": start, "unit": "count"},
                _row("Parameters", found.cost.parameters, found.now.parameters, found.start.parameters),
                _row("FLOPs", found.cost.flops, found.now.flops, found.start.flops),
            ]
        missing = len(filters) - len(layers) if self.scope.value == "all" else 0
        left_out = f" {missing} layers have no stored maps and stay as they are." if missing else ""
        self.note.value = (
            '<p class="sauron-note">π is the map that the others are compared with. Those whose δ_prune, the distance '
            "to π as a share of the farthest map's, is below τ would go; they are struck out in the grid. It is taken "
            "from the stored maps of the probe images, so it is near to that of training but not the same."
            f"{esc(self._widths() + left_out + self._hint(found))}</p>"
        )

    def _widths(self) -> str:
        """That not all below the threshold go where the run cuts to some widths only."""
        multiple = self.scene.view.config.prune.width_multiple
        if multiple == 1:
            return ""
        return (
            f" As in training, layers are cut to {told(multiple)} filters only: of those below τ the nearest to a map "
            "that stays go, as many as that takes."
        )

    def _hint(self, found: Outlook) -> str:
        """Which map is π where the chosen one cannot be."""
        filters = found.filters.get(self.scene.layer)
        number = self._one()
        if self.turns.value != "chosen" or filters is None or number in filters:
            return ""
        why = "Choose a map to be π" if number < 0 else f"Filter {number} is gone and cannot be π, choose another"
        return f" {why}; until then it is filter {filters[0]}."


def _row(name: str, values: Any, now: Any, start: Any) -> dict[str, Any]:
    numbers = np.broadcast_to(values, (len(THRESHOLDS),)).tolist()
    return {"name": name, "values": numbers, "now": int(now), "start": int(start), "unit": "share"}

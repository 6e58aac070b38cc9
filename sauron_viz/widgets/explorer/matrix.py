"""How far all maps of a layer are from each other: a matrix in the order of the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import numpy as np
from traitlets import Bool, Bytes, Int, List, Unicode

from sauron_train.errors import SauronError
from sauron_viz.frames import Frame
from sauron_viz.theme import palette as colours
from sauron_viz.widgets.base import box, esc, log_file, logger, script, text
from sauron_viz.widgets.explorer.scene import Scene

_NO_NUMBER = 65535


class DistanceMatrix(anywidget.AnyWidget):
    """Distances between the maps that are left. The browser asks for them while it is `active`, that is seen.

    `base`, `epoch`, `order` and `filter` are as those of the grid; `marked` are the filters of a block that was drawn;
    `on_pick` is told the two filters of a cell.
    """

    _esm = script("matrix.js")
    base = Unicode().tag(sync=True)
    epoch = Int(0).tag(sync=True)
    order = Unicode("number").tag(sync=True)
    filter = Int(-1).tag(sync=True)
    marked = List(Int()).tag(sync=True)
    active = Bool(False).tag(sync=True)
    palette = Bytes(colours("near")).tag(sync=True)

    def __init__(
        self,
        supply: Callable[[int], tuple[dict[str, Any], list[bytes]] | str],
        on_pick: Callable[[int, int], None],
        on_csv: Callable[[], None],
    ) -> None:
        """`supply` gives the message of an epoch, or a sentence that says why there is none."""
        super().__init__()
        self._supply, self._on_pick, self._on_csv = supply, on_pick, on_csv
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if isinstance(content.get("pick"), list):
            self._on_pick(*map(int, content["pick"][:2]))
            return
        if content.get("csv"):
            self._on_csv()
            return
        epoch = content.get("want")
        if not isinstance(epoch, int) or content.get("base") != self.base:
            return
        name = {"epoch": epoch, "base": self.base}
        try:
            found = self._supply(epoch)
        except Exception:
            logger().exception("no distances for %s", name)
            found = f"These distances could not be shown; {log_file()} says why."
        if isinstance(found, str):
            self.send(name | {"note": found})
        else:
            self.send(name | found[0], buffers=found[1])


class MatrixCard:
    """The matrix and what it shows."""

    def __init__(self, scene: Scene, on_pick: Callable[[int, int], None]) -> None:
        self.scene = scene
        guard = scene.viewer.guard
        self.matrix = DistanceMatrix(self._supply, guard(on_pick), guard(self._save))
        self.note = text("")
        self.widget = box(self.note, self.matrix, css="sauron-stack sauron-tight")

    def update(self) -> None:
        """Say what is shown; the matrix itself follows the grid."""
        radius = self.scene.view.config.probe.radius
        frame = self.scene.frame_or_none()
        joined = "" if frame is None else _clusters(frame)
        self.note.value = (
            '<p class="sauron-note">RMS distance between every two maps that are left, each over its own range. '
            f"{esc(joined)} In the order of clusters these are framed: maps within {radius:g} "
            "of each other on average. Click a cell to see its two maps; draw a block to mark its maps in the grid.</p>"
        )

    def _supply(self, epoch: int) -> tuple[dict[str, Any], list[bytes]] | str:
        scene = self.scene
        try:
            frame = scene.frame(epoch)
            distances = scene.view.shelf.distances(epoch, scene.layer, scene.image)
        except SauronError as error:
            return str(error)
        return matrix_message(frame, distances)

    def _save(self) -> None:
        scene = self.scene
        name = f"{scene.view.title}-{scene.layer}-epoch-{scene.epoch}-distances.csv"
        self.matrix.send({"csv": self.csv(), "name": name})

    def csv(self) -> str:
        """All distances of the scene as a table: a row and a column per filter."""
        frame = self.scene.frame()
        names = frame.stats.filters[frame.left].tolist()
        distances = self.scene.view.shelf.distances(self.scene.epoch, self.scene.layer, self.scene.image)
        lines = [",".join(["filter", *map(str, names)])]
        lines += [",".join([str(name), *(f"{d:.6g}" for d in row)]) for name, row in zip(names, distances, strict=True)]
        return "\n".join(lines) + "\n"


def matrix_message(frame: Frame, distances: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Distances (C, C) as the browser gets them: 16 bits over [0, the largest], and the orders of the maps left."""
    finite = np.isfinite(distances)
    most = float(distances[finite].max()) if finite.any() else 0.0
    scaled = np.where(finite, np.rint(np.nan_to_num(distances) / (most or 1.0) * (_NO_NUMBER - 1)), _NO_NUMBER)
    place = {int(row): i for i, row in enumerate(frame.left)}
    orders = {name: [place[r] for r in order.tolist() if r in place] for name, order in frame.orders.items()}
    numbers = np.array([frame.stats.filters[frame.left], frame.cluster[frame.left], *orders.values()], dtype=np.int32)
    content = {"n": len(frame.left), "most": most, "orders": list(orders)}
    return content, [scaled.astype(np.uint16).tobytes(), numbers.tobytes()]


def _clusters(frame: Frame) -> str:
    labels = frame.cluster[frame.left]
    sizes = np.bincount(labels)
    groups, alone = int((sizes > 1).sum()), int((sizes == 1).sum())
    first = f"{groups} {'cluster' if groups == 1 else 'clusters'}"
    return f"{first} and {alone} {'map that stands' if alone == 1 else 'maps that stand'} alone."

"""What the network makes of the probe image at this epoch: label, prediction, and where they differ."""

from __future__ import annotations

import math

import numpy as np

from sauron_train.errors import SauronError
from sauron_viz.theme import class_colours
from sauron_viz.tints import ERROR_COLOURS, dice, errors, tint
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import ImageView

_ERRORS = ("missed", "false", "another structure")


class SegmentationCard:
    """Four pictures and the Dice of each structure in the whole image."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.pictures = {name: ImageView() for name in ("Input", "Label", "Prediction", "Errors")}
        self.note = text("")
        self.table = text("")
        self.grid = box(*self.pictures.values(), css="sauron-quad")
        self.widget = box(self.note, self.grid, self.table, css="sauron-stack sauron-tight")

    def update(self) -> None:
        """Draw the slice of the scene."""
        scene, view = self.scene, self.scene.view
        labels = {name: value for name, value in view.info.labels.items() if value}
        image, label = scene.input(), scene.label()
        try:
            predicted = view.prediction(scene.epoch)[scene.image]
        except SauronError as error:
            self.note.value = f'<p class="sauron-note">{esc(error)}</p>'
            show(self.grid, False)
            self.table.value = ""
            return
        show(self.grid, True)
        flat = scene.flat(predicted)
        known = bool(view.probe().labels[scene.image].any())
        colours = list(class_colours(list(view.info.labels.values())).values())
        places = {value: place for place, value in enumerate(labels.values(), start=1)}
        self._put("Input", image, np.zeros_like(label), colours)
        self._put("Label", image, _placed(label, places), colours)
        self._put("Prediction", image, _placed(flat, places), colours)
        self._put("Errors", image, errors(label, flat), list(ERROR_COLOURS))
        for name in ("Label", "Errors"):
            show(self.pictures[name], known)
        self.note.value = "" if known else '<p class="sauron-note">This image has no label to compare with.</p>'
        whole = view.probe().labels[scene.image]
        rows = [(name, colours[places[value] - 1], dice(whole, predicted, value)) for name, value in labels.items()]
        self.table.value = _table(rows, known)

    def _put(self, name: str, image: np.ndarray, classes: np.ndarray, colours: list[str]) -> None:
        pixels, palette = tint(image, classes, colours)
        scene = self.scene
        title = f"{name}, epoch {scene.epoch}" if name == "Prediction" else name
        case = scene.view.probe().names[scene.image]
        self.pictures[name].put(pixels, title, palette=palette, aspect=scene.aspect, alt=f"{title} of {case}")


def _placed(classes: np.ndarray, places: dict[int, int]) -> np.ndarray:
    result = np.zeros_like(classes)
    for value, place in places.items():
        result[classes == value] = place
    return result


def _table(rows: list[tuple[str, str, float]], known: bool) -> str:
    if not known:
        names = "".join(f'<span><i style="--swatch:{esc(colour)}"></i>{esc(name)}</span>' for name, colour, _ in rows)
        return f'<div class="sauron-legend">{names}</div>'
    lines = "".join(_line(*row) for row in rows)
    legend = "".join(
        f'<span><i style="--swatch:{esc(colour)}"></i>{esc(name)}</span>'
        for name, colour in zip(_ERRORS, ERROR_COLOURS, strict=True)
    )
    return (
        '<table class="sauron-table"><thead><tr><th>Structure</th><th class="num">Dice in this image</th></tr></thead>'
        f'<tbody>{lines}</tbody></table><p class="sauron-note">Errors</p><div class="sauron-legend">{legend}</div>'
    )


def _line(name: str, colour: str, value: float) -> str:
    swatch = f'<span class="sauron-legend"><span><i style="--swatch:{esc(colour)}"></i>{esc(name)}</span></span>'
    return f'<tr><td>{swatch}</td><td class="num">{"–" if math.isnan(value) else f"{value:.3f}"}</td></tr>'

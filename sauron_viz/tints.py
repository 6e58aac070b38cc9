"""Grey images with coloured structures in them, as one byte per pixel and a palette for a canvas: pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sauron_train.runlog.schema import Array
from sauron_viz.frames import Bytes, to_bytes

_GREYS = 64
"""Shades of the image itself; what is left of 256 is shared out between the structures."""
_STRENGTH = 0.62

MISSED, FALSE, CONFUSED = 1, 2, 3
ERROR_COLOURS = ("#4aa3ff", "#ff8833", "#c77dff")


def tint(image: Array, classes: Array, colours: Sequence[str]) -> tuple[Bytes, bytes]:
    """Colour the pixels of each class, and let the image show through.

    Args:
        image: (H, W).
        classes: (H, W) 0 where nothing is coloured, else the place of a colour, from 1.
        colours: hexadecimal.

    Returns:
        (H, W) uint8, and the palette of 256 RGB colours that it is to be drawn with.
    """
    grey = to_bytes(image).astype(np.int64)
    shades = (256 - _GREYS) // max(len(colours), 1)
    inside = _GREYS + (classes.astype(np.int64) - 1) * shades + grey * shades // 256
    pixels = np.where(classes > 0, inside, grey * _GREYS // 256)
    return pixels.astype(np.uint8), _palette(colours, shades)


def errors(label: Array, prediction: Array) -> Array:
    """(H, W) where a prediction is wrong: `MISSED`, `FALSE` where nothing is, `CONFUSED` where another structure is."""
    wrong = np.where(prediction == 0, MISSED, np.where(label == 0, FALSE, CONFUSED))
    return np.where(label == prediction, 0, wrong)


def dice(label: Array, prediction: Array, value: int) -> float:
    """Dice of one structure; NaN where neither has it."""
    there, found = label == value, prediction == value
    total = int(there.sum() + found.sum())
    return float(2 * np.sum(there & found) / total) if total else float("nan")


def _palette(colours: Sequence[str], shades: int) -> bytes:
    table = np.zeros((256, 3))
    table[:_GREYS] = np.linspace(0, 255, _GREYS)[:, None]
    for place, colour in enumerate(colours):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        start = _GREYS + place * shades
        grey = np.linspace(0, 255, shades)[:, None]
        table[start : start + shades] = _STRENGTH * rgb + (1 - _STRENGTH) * grey
    return table.round().astype(np.uint8).tobytes()

"""A sheet of pictures: pieces of images in rows, as they are and augmented, with the outlines of their labels."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sauron_train.config_data import AugmentConfig
from sauron_train.data.samples import Picture, Row, Samples
from sauron_train.runlog.schema import Array

# Plotly's colour-blind-safe `Safe`, brightest first: outlines lie on grey images.
_COLOURS = ("#ffdd55", "#88ccee", "#ff7788", "#66dd88", "#dd88ee", "#ffaa44", "#aaee66", "#bbbbff")
_PAGE, _TEXT, _SOFT = "#ffffff", "#16191d", "#4d545c"
_CELL, _GAP, _MARGIN, _LINE = 176, 8, 20, 22
_LEAST_COLUMN = 120
_LEAST_CONTRAST = 1e-6


def sheet(samples: Samples, title: str, augment: AugmentConfig) -> bytes:
    """Draw samples as a PNG.

    Args:
        samples: what is drawn; a row each, in grey values that are the same for all pictures of a row.
        title: what stands above it.
        augment: described below it.
    """
    buffer = io.BytesIO()
    draw_sheet(samples, title, augment).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def draw_sheet(samples: Samples, title: str, augment: AugmentConfig) -> Image.Image:
    """The same as a picture in memory."""
    columns = 1 + max(len(row.augmented) for row in samples.rows)
    cells = [_cells(row) for row in samples.rows]
    heights = [max(cell.height for cell in row) + _LINE for row in cells]
    wide = max(_LEAST_COLUMN, *(cell.width for row in cells for cell in row))
    width = max(2 * _MARGIN + columns * (wide + _GAP), 640)
    told = f"{described(augment)} {1000 * samples.seconds:.1f} ms for one patch on this machine."
    words = textwrap.wrap(told, width // 7)
    height = 2 * _MARGIN + 3 * _LINE + sum(heights) + len(heights) * _GAP + len(words) * _LINE
    sheet = Image.new("RGB", (width, height), _PAGE)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(13)
    pen.text((_MARGIN, _MARGIN), title, _TEXT, large)
    _legend(pen, samples.labels, _MARGIN + _LINE + 6, small)
    y = _MARGIN + 3 * _LINE
    for row, drawn, tall in zip(samples.rows, cells, heights, strict=True):
        for column, cell in enumerate(drawn):
            x = _MARGIN + column * (wide + _GAP)
            sheet.paste(cell, (x, y))
            name = row.name if column == 0 else f"augmented {column}"
            pen.text((x, y + cell.height + 3), _fitting(pen, name, wide, small), _TEXT if column == 0 else _SOFT, small)
        y += tall + _GAP
    for line in words:
        pen.text((_MARGIN, y + 6), line, _SOFT, small)
        y += _LINE
    return sheet


def described(augment: AugmentConfig) -> str:
    """What is done at random, in its order, in a sentence."""
    found = []
    if augment.scale_p > 0:
        found.append(f"scale {augment.scale[0]:g} to {augment.scale[1]:g} (p {augment.scale_p:g})")
    if augment.rotation_p > 0:
        found.append(
            f"rotation {augment.rotation[0]:g}° to {augment.rotation[1]:g}° in plane (p {augment.rotation_p:g})"
        )
    if augment.gamma_p > 0:
        found.append(f"gamma exp({augment.gamma[0]:g}) to exp({augment.gamma[1]:g}) (p {augment.gamma_p:g})")
    if augment.flip_axes and augment.flip_p > 0:
        axes = ", ".join(map(str, augment.flip_axes))
        found.append(f"flips of axes {axes} (p {augment.flip_p:g} each)")
    if augment.elastic_p > 0:
        found.append(
            f"elastic, {augment.elastic_control_points} control points, up to {augment.elastic_displacement:g} mm "
            f"(p {augment.elastic_p:g})"
        )
    last = "z-normalisation" if augment.z_normalise else "no z-normalisation"
    if not found:
        return f"No augmentation; {last}."
    return f"Each drawn anew for every patch, in this order: {', '.join(found)}; {last} last."


def _cells(row: Row) -> list[Image.Image]:
    pictures = (row.plain, *row.augmented)
    inside = np.concatenate([picture.image.ravel() for picture in pictures])
    low, high = np.percentile(inside, [0.5, 99.5])
    return [_cell(picture, float(low), float(high)) for picture in pictures]


def _cell(picture: Picture, low: float, high: float) -> Image.Image:
    scaled = np.clip((picture.image - low) / max(high - low, _LEAST_CONTRAST), 0, 1)
    height, width = scaled.shape
    zoom = _CELL / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    grey = Image.fromarray((255 * scaled).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    label = np.asarray(Image.fromarray(picture.label).resize(size, Image.Resampling.NEAREST))
    pixels = np.stack([np.asarray(grey)] * 3, axis=-1)
    edge = outline(label)
    for value in np.unique(label[edge]):
        pixels[edge & (label == value)] = _rgb(_colour(int(value)))
    return Image.fromarray(pixels)


def outline(label: Array) -> Array:
    """(H, W) the labelled pixels beside which another value lies."""
    edge = np.zeros(label.shape, dtype=bool)
    edge[1:] |= label[1:] != label[:-1]
    edge[:-1] |= label[:-1] != label[1:]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    return edge & (label > 0)


def _legend(pen: Any, labels: Mapping[str, int], y: int, font: Any) -> None:
    x = _MARGIN
    for name, value in labels.items():
        pen.rectangle((x, y + 2, x + 11, y + 13), _colour(value), _SOFT)
        pen.text((x + 17, y), name, _TEXT, font)
        x += 34 + int(pen.textlength(name, font))


def _fitting(pen: Any, words: str, width: int, font: Any) -> str:
    if pen.textlength(words, font) <= width:
        return words
    while words and pen.textlength(f"{words}…", font) > width:
        words = words[:-1]
    return f"{words}…"


def _colour(value: int) -> str:
    return _COLOURS[(value - 1) % len(_COLOURS)]


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))

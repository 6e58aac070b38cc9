"""All maps of a layer as a figure for an article: one run, or several side by side (paper, Figs. S3 to S5)."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from sauron_train.errors import RunError
from sauron_train.runlog import Run
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Frame, slice_position
from sauron_viz.runs import Library, RunView, default_layer
from sauron_viz.theme import palette

CELL, GAP, CAPTION = 96, 8, 18
_HEAD = 48
_FADED = 0.35


@dataclass(frozen=True)
class Gallery:
    """The maps of one run, in rows of `columns`, and the words above them."""

    frame: Frame
    columns: int
    aspect: float
    title: str
    caption: str

    @property
    def rows(self) -> int:
        """Rows of maps."""
        return math.ceil(len(self.frame.pixels) / self.columns)

    @property
    def tall(self) -> int:
        """Height of a map as it is drawn."""
        _, height, width = self.frame.pixels.shape
        tall: int = round(CELL * self.aspect * height / width)
        return tall

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        return self.columns * (CELL + GAP) - GAP, _HEAD + self.rows * (self.tall + CAPTION + GAP)

    def corner(self, place: int) -> tuple[int, int]:
        """Where a map begins, from the left and from above."""
        line, column = divmod(place, self.columns)
        return column * (CELL + GAP), _HEAD + line * (self.tall + CAPTION + GAP)


def gallery(
    run: Run | RunView | Path | str, layer: str | None = None, epoch: int | None = None, image: int = 0
) -> Gallery:
    """All maps of a layer.

    Args:
        run: a run folder.
        layer: its name; the second-to-last convolution if not given, as in the paper's figures.
        epoch: one whose maps are stored; the last if not given.
        image: which probe image; a volume is cut in the slice in which most is labelled.

    Raises:
        RunError: no such layer, epoch or image, or no maps at all.
    """
    view = run if isinstance(run, RunView) else _open(run)
    name = layer or default_layer(view.info.layers)
    stored = view.map_epochs
    if not stored:
        raise RunError(f"run {view.title} holds no feature maps")
    at = stored[-1] if epoch is None else epoch
    if at not in stored:
        raise RunError(f"run {view.title} has no maps of epoch {at}, only of {', '.join(map(str, stored))}")
    if name not in view.run.map_layers(at):
        raise RunError(f"run {view.title} has no maps of {name}; it has {', '.join(view.run.map_layers(at))}")
    probe = view.probe()
    if not 0 <= image < len(probe.names):
        raise RunError(f"run {view.title} has probe images 0 to {len(probe.names) - 1}, not {image}")
    axis, place = _fullest(probe.labels[image])
    shape = view.map_shape(at, name)
    cut = (0, None) if len(shape) == 2 else (axis, slice_position(place, shape[axis]))
    frame = view.frame(at, name, image, *cut)
    spacing = [size for i, size in enumerate(probe.spacing) if len(probe.spacing) == 2 or i != axis]
    count = f"{len(frame.left)} of {len(frame.pixels)} filters"
    return Gallery(
        frame,
        max(1, min(len(frame.pixels), math.ceil(math.sqrt(1.6 * len(frame.pixels))))),
        float(spacing[0] / spacing[1]),
        f"{view.title}: {name}, {count}",
        f"{view.info.dataset}, epoch {at}, image {probe.names[image]}, each map over its own range",
    )


def second_to_last(*runs: Run | RunView | Path | str, epoch: int | None = None, image: int = 0) -> go.Figure:
    """All maps of the second-to-last convolution, each run beside the next (paper, Figs. S3 to S5).

    Example:
        >>> second_to_last("runs/baseline", "runs/hippo").write_html("maps.html")

    Raises:
        RunError: see `gallery`.
    """
    return as_figure([gallery(run, None, epoch, image) for run in runs])


def as_figure(galleries: Sequence[Gallery]) -> go.Figure:
    """As a plotly figure, side by side."""
    figure, left = go.Figure(), 0
    height = max(one.size[1] for one in galleries)
    for one in galleries:
        width, tall = one.size
        figure.add_layout_image(
            source=_data_uri(_mosaic(one)), xref="x", yref="y", x=left, y=-_HEAD, sizex=width, sizey=tall - _HEAD,
            sizing="stretch", layer="below",
        )  # fmt: skip
        for text, size, y in ((one.title, 14, -8), (one.caption, 11, -28)):
            figure.add_annotation(
                text=html.escape(text), x=left, y=y, showarrow=False, xanchor="left", font={"size": size}
            )
        corners = [one.corner(place) for place in range(len(one.frame.pixels))]
        figure.add_scatter(
            x=[left + x + CELL / 2 for x, _ in corners],
            y=[-(y + one.tall + CAPTION / 2) for _, y in corners],
            text=[str(number) for number in one.frame.stats.filters],
            mode="text",
            textfont={"size": 11},
            hoverinfo="skip",
            showlegend=False,
        )
        left += width + 4 * GAP
    figure.update_xaxes(visible=False, range=[-2, left - 4 * GAP + 2])
    figure.update_yaxes(visible=False, range=[-height, 4], scaleanchor="x")
    figure.update_layout(
        template="none", width=left - 4 * GAP + 24, height=height + 24, margin={"l": 12, "r": 12, "t": 12, "b": 12}
    )
    return figure


def as_svg(galleries: Sequence[Gallery]) -> str:
    """As a drawing with text as text, side by side; it needs nothing else to be looked at."""
    parts, left, height = [], 0, max(one.size[1] for one in galleries)
    for one in galleries:
        width, tall = one.size
        parts.append(
            f'<g transform="translate({left} 0)"><text y="16" font-size="14" font-weight="600">{html.escape(one.title)}'
            f'</text><text y="34" font-size="11" fill="#555">{html.escape(one.caption)}</text><image y="{_HEAD}" '
            f'width="{width}" height="{tall - _HEAD}" preserveAspectRatio="none" style="image-rendering:pixelated" '
            f'href="{_data_uri(_mosaic(one))}"/>'
        )
        for place, number in enumerate(one.frame.stats.filters):
            x, y = one.corner(place)
            middle, below = f"{x + CELL / 2:g}", y + one.tall + 13
            parts.append(f'<text x="{middle}" y="{below}" font-size="11" text-anchor="middle">{number}</text>')
            if not one.frame.is_left(place):
                cross = f"M{x} {y}l{CELL} {one.tall}m0 {-one.tall}l{-CELL} {one.tall}"
                parts.append(f'<path d="{cross}" stroke="#555" fill="none"/>')
        parts.append("</g>")
        left += width + 4 * GAP
    width = left - 4 * GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _open(run: Run | Path | str) -> RunView:
    path = run.path if isinstance(run, Run) else Path(run)
    return Library(path).open(".")


def _fullest(labels: Array) -> tuple[int, float]:
    """Axis and place, as a share, of the slice of a volume in which most is labelled, or of its middle."""
    if labels.ndim == 2:
        return 0, 0.5
    labelled = (labels > 0).sum(axis=(1, 2))
    most = int(np.argmax(labelled)) if labelled.any() else len(labelled) // 2
    return 0, (most + 0.5) / len(labelled)


def _mosaic(one: Gallery) -> Array:
    """(H, W, 3) uint8: every map at the size at which it is drawn, on white; what went is faded."""
    colours = np.frombuffer(palette("cividis"), np.uint8).reshape(256, 3)
    width, height = one.size
    canvas = np.full((height - _HEAD, width, 3), 255, dtype=np.uint8)
    for place, pixels in enumerate(one.frame.pixels):
        x, y = one.corner(place)
        if not one.frame.stats.seen[place]:
            continue
        small = Image.fromarray(colours[pixels])
        method = Image.Resampling.NEAREST if pixels.shape[1] <= CELL else Image.Resampling.BOX
        drawn = np.asarray(small.resize((CELL, one.tall), method)).astype(float)
        if not one.frame.is_left(place):
            drawn = _FADED * drawn + (1 - _FADED) * 255
        canvas[y - _HEAD : y - _HEAD + one.tall, x : x + CELL] = drawn.round().astype(np.uint8)
    return canvas


def _data_uri(picture: Array) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

"""The one look of all views: colours by depth, categories, type.

Layers take their colour from Cividis by depth; categories take Plotly's colour-blind-safe `Safe`. Backgrounds and text
follow the page, so each layer has one colour for light pages and one for dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

# Matplotlib's Cividis at nine even steps (Nuñez, Anderton & Renslow, PLoS ONE 13(7):e0199239, 2018).
_CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838")
# From blue over white to orange: ColorBrewer's PuOr and RdBu ends, which every kind of colour vision tells apart.
_DIFFERENCE = ("#053061", "#4393c3", "#f7f7f7", "#f4a582", "#b35806")
SAFE = ("#88ccee", "#cc6677", "#ddcc77", "#117733", "#332288", "#aa4499", "#44aa99", "#999933", "#882255")

# Lines for losses and scores: the members of Safe that hold on white and, brightened, on black.
TRAIN, VALIDATION, MARK = "#117733", "#aa4499", "#d55e00"
_DARK = {TRAIN: "#44bb77", VALIDATION: "#dd77cc", MARK: "#ff8833", "#332288": "#8877dd", "#882255": "#dd6699"}

# How much of the scale is used: navy vanishes on black, yellow on white.
_LIGHT_SPAN, _DARK_SPAN = (0.0, 0.86), (0.38, 1.0)
CIVIDIS_CSS = f"linear-gradient(90deg, {', '.join(_CIVIDIS)})"
CIVIDIS_SCALE = [[i / (len(_CIVIDIS) - 1), colour] for i, colour in enumerate(_CIVIDIS)]


def cividis(positions: Sequence[float]) -> list[str]:
    """Hexadecimal colours at positions in [0, 1] of the scale."""
    steps = np.linspace(0, 1, len(_CIVIDIS))
    channels = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _CIVIDIS])
    mixed = np.stack([np.interp(positions, steps, channels[:, c]) for c in range(3)], axis=-1).round().astype(int)
    return ["#" + "".join(f"{value:02x}" for value in colour) for colour in mixed]


def layer_colours(layers: Sequence[str], dark: bool = False) -> dict[str, str]:
    """The colour of every layer, given all layers of the network in its order; light or dark page."""
    low, high = _DARK_SPAN if dark else _LIGHT_SPAN
    return dict(zip(layers, cividis(list(np.linspace(low, high, max(len(layers), 1)))), strict=True)) if layers else {}


def dark_swaps(layers: Sequence[str]) -> dict[str, str]:
    """What each colour of a figure becomes on a dark page."""
    light, dark = layer_colours(layers), layer_colours(layers, dark=True)
    return {light[name]: dark[name] for name in layers} | _DARK


@cache
def palette(name: str) -> bytes:
    """256 RGB colours as bytes for a canvas.

    "cividis" for maps, "near" for distances (bright = near), "grey" for images, "difference" for what has a sign.

    Raises:
        KeyError: no such palette.
    """
    if name == "difference":
        ends = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _DIFFERENCE])
        steps = np.linspace(0, len(_DIFFERENCE) - 1, 256)
        mixed = [np.interp(steps, range(len(_DIFFERENCE)), ends[:, channel]) for channel in range(3)]
        return np.stack(mixed, axis=-1).round().astype(np.uint8).tobytes()
    if name == "grey":
        return np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    scale: npt.NDArray[np.uint8] = np.array(
        [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in cividis(list(np.linspace(0, 1, 256)))],
        dtype=np.uint8,
    )
    return {"cividis": scale.tobytes(), "near": scale[::-1].tobytes()}[name]


def class_colours(labels: Sequence[int]) -> dict[str, str]:
    """The colour of every label but background (0); keys are text because they travel as JSON."""
    # The bright ones: they are drawn over grey images.
    bright = ("#88ccee", "#ddcc77", "#cc6677", "#44aa99", "#aa4499", "#999933", "#117733")
    return {str(value): bright[i % len(bright)] for i, value in enumerate(v for v in labels if v != 0)}

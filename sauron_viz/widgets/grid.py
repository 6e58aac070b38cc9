"""The canvas that shows all maps of a layer, and the one that shows a single image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
from traitlets import Bytes, Dict, Float, Int, List, Unicode

from sauron_viz.frames import Frame
from sauron_viz.theme import palette as colours
from sauron_viz.widgets.base import log_file, logger, script


class FeatureGrid(anywidget.AnyWidget):
    """All maps of a layer. The browser asks for the epochs it lacks, keeps them, and fetches the others ahead.

    `base` names what is shown apart from the epoch (run, when it began, layer, image, slice); "" shows `note`
    instead. `filter` is the original number of the selected map, -1 for none, `marked` are others that stand out.
    `order` names one of `Frame.orders`; `removed` is "shown" or "hidden". `size` is the side of a map in CSS pixels,
    0 = so that all fit; `aspect` the height of a voxel over its width. `going` says which of the maps that are left
    would go, a byte each, for one threshold after another; `tau` is the place of the threshold that is shown, -1 for
    none, and `goingOf` names the frame that it is about. `caption` goes under the title of what is saved.
    """

    _esm = script("frames.js", "take.js", "grid.js")
    base = Unicode().tag(sync=True)
    epoch = Int(0).tag(sync=True)
    epochs = List(Int()).tag(sync=True)
    filter = Int(-1).tag(sync=True)
    scale = Unicode("map").tag(sync=True)
    order = Unicode("number").tag(sync=True)
    removed = Unicode("shown").tag(sync=True)
    marked = List(Int()).tag(sync=True)
    going = Bytes(b"").tag(sync=True)
    goingOf = Unicode().tag(sync=True)  # noqa: N815 - a trait that JavaScript reads
    tau = Int(-1).tag(sync=True)
    size = Int(0).tag(sync=True)
    height = Int(760).tag(sync=True)
    aspect = Float(1.0).tag(sync=True)
    label = Unicode().tag(sync=True)
    caption = Unicode().tag(sync=True)
    note = Unicode().tag(sync=True)
    palette = Bytes(colours("cividis")).tag(sync=True)

    def __init__(self, supply: Callable[[int], Frame | str], **kwargs: Any) -> None:
        """`supply` gives the frame of an epoch, or a sentence that says why there is none."""
        super().__init__(**kwargs)
        self._supply = supply
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        epoch = content.get("want")
        # An answer to a question about another layer would only be thrown away.
        if not isinstance(epoch, int) or content.get("base") != self.base:
            return
        name = {"epoch": epoch, "base": self.base}
        try:
            frame = self._supply(epoch)
        except Exception:
            # Without an answer the page would wait for ever.
            logger().exception("no frame for %s", name)
            frame = f"These maps could not be shown; {log_file()} says why."
        if isinstance(frame, str):
            self.send(name | {"note": frame})
            return
        count, height, width = frame.pixels.shape
        # Clusters take longer than all else, so they come when they are asked for.
        orders, numbers = frame.packed(content.get("clusters") is True)
        shape = {"n": count, "h": height, "w": width, "orders": orders}
        self.send(name | shape, buffers=[frame.pixels.tobytes(), numbers])


class Strip(anywidget.AnyWidget):
    """A row of small maps with the numbers of their filters and a text each; `on_choose` is told which was clicked."""

    _esm = script("strip.js")
    pixels = Bytes(b"").tag(sync=True)
    height = Int(0).tag(sync=True)
    width = Int(0).tag(sync=True)
    aspect = Float(1.0).tag(sync=True)
    names = List(Int()).tag(sync=True)
    texts = List(Unicode()).tag(sync=True)
    label = Unicode().tag(sync=True)
    palette = Bytes(colours("cividis")).tag(sync=True)

    def __init__(self, on_choose: Callable[[int], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._on_choose = on_choose
        self.on_msg(self._answer)

    def put(self, maps: Any, names: list[int], texts: list[str], aspect: float) -> None:
        """Show maps (C, H, W) uint8."""
        with self.hold_sync():
            (self.height, self.width), self.aspect = maps.shape[1:], aspect
            self.pixels, self.names, self.texts = maps.tobytes(), names, texts

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("choose") in self.names:
            self._on_choose(content["choose"])


class ImageView(anywidget.AnyWidget):
    """One image (height, width) uint8 under a palette, with outlines of two label maps over it.

    `aspect` is the height of a pixel over its width. Another image `over` it, of any size, is mixed in by a slider from
    0 to 100 %; `low` and `high` are the ends of its colours, in words.
    """

    _esm = script("image.js")
    pixels = Bytes(b"").tag(sync=True)
    height = Int(0).tag(sync=True)
    width = Int(0).tag(sync=True)
    aspect = Float(1.0).tag(sync=True)
    label = Bytes(b"").tag(sync=True)
    prediction = Bytes(b"").tag(sync=True)
    class_colours = Dict().tag(sync=True)
    palette = Bytes(colours("grey")).tag(sync=True)
    over = Bytes(b"").tag(sync=True)
    over_height = Int(0).tag(sync=True)
    over_width = Int(0).tag(sync=True)
    over_palette = Bytes(colours("cividis")).tag(sync=True)
    opacity = Int(100).tag(sync=True)
    low = Unicode().tag(sync=True)
    high = Unicode().tag(sync=True)
    caption = Unicode().tag(sync=True)
    alt = Unicode().tag(sync=True)

    def put(self, image: Any, caption: str, **traits: Any) -> None:
        """Show an image in one message; None shows the caption alone."""
        with self.hold_sync():
            self.height, self.width = (0, 0) if image is None else image.shape
            self.pixels = b"" if image is None else image.tobytes()
            self.caption = caption
            over = traits.pop("over", None)
            self.over_height, self.over_width = (0, 0) if over is None else over.shape
            self.over = b"" if over is None else over.tobytes()
            for name, value in traits.items():
                setattr(self, name, value)

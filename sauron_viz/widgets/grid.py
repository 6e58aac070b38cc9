"""The canvas that shows all maps of a layer, and the one that shows a single image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
from traitlets import Bytes, Dict, Float, Int, List, Unicode

from sauron_viz.frames import Frame
from sauron_viz.theme import palette
from sauron_viz.widgets.base import log_file, logger, script


class FeatureGrid(anywidget.AnyWidget):
    """All maps of a layer. The browser asks for the epochs it lacks, keeps them, and fetches the others ahead.

    `base` names what is shown apart from the epoch (run, when it began, layer, image, slice); "" shows `note`
    instead. `filter` is the original number of the selected map, -1 for none, `marked` are others that stand out.
    `order` names one of `Frame.orders`; `removed` is "shown" or "hidden". `size` is the side of a map in CSS pixels,
    0 = so that all fit; `aspect` the height of a voxel over its width. `going` says which of the maps that are left
    would go, a byte each, for one threshold after another; `tau` is the place of the threshold that is shown, -1 for
    none, and `goingOf` names the frame that it is about.
    """

    _esm = script("frames.js", "grid.js")
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
    note = Unicode().tag(sync=True)
    palette = Bytes(palette("cividis")).tag(sync=True)

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
        shape = {"n": count, "h": height, "w": width, "orders": list(frame.orders)}
        self.send(name | shape, buffers=[frame.pixels.tobytes(), frame.packed()])


class ImageView(anywidget.AnyWidget):
    """One image (height, width) uint8 under a palette, with outlines of two label maps over it.

    `aspect` is the height of a pixel over its width.
    """

    _esm = script("image.js")
    pixels = Bytes(b"").tag(sync=True)
    height = Int(0).tag(sync=True)
    width = Int(0).tag(sync=True)
    aspect = Float(1.0).tag(sync=True)
    label = Bytes(b"").tag(sync=True)
    prediction = Bytes(b"").tag(sync=True)
    class_colours = Dict().tag(sync=True)
    palette = Bytes(palette("grey")).tag(sync=True)
    caption = Unicode().tag(sync=True)
    alt = Unicode().tag(sync=True)

    def put(self, image: Any, caption: str, **traits: Any) -> None:
        """Show an image in one message; None shows the caption alone."""
        with self.hold_sync():
            self.height, self.width = (0, 0) if image is None else image.shape
            self.pixels = b"" if image is None else image.tobytes()
            self.caption = caption
            for name, value in traits.items():
                setattr(self, name, value)

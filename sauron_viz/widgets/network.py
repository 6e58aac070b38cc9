"""The network as a drawing: every layer a bar as long as it has filters, in the shape of Appendix B's U."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, Float, Int, List, Unicode

from sauron_viz.theme import cividis
from sauron_viz.widgets.base import script

_SHADES = 33


class Network(anywidget.AnyWidget):
    """A U of layers at `epoch`, one of `epochs`; a click or an arrow key sets `layer`.

    `layers` are tables with name, part, kind, level and filters, `heads` are [head, layer it reads], `sizes` say in
    words how large maps are at each level, from the finest. `filters` and `values` hold one number per epoch by layer
    name, None where nothing was measured; `values` are what `measure` names, coloured over `span`, in percent where
    `percent` says so.
    """

    _esm = script("network.js")
    title = Unicode("The network").tag(sync=True)
    note = Unicode().tag(sync=True)
    empty = Unicode("There is no network to draw yet.").tag(sync=True)
    source = Unicode().tag(sync=True)
    layers = List().tag(sync=True)
    heads = List(List(Unicode())).tag(sync=True)
    sizes = List(Unicode()).tag(sync=True)
    epochs = List(Int()).tag(sync=True)
    epoch = Int(0).tag(sync=True)
    layer = Unicode().tag(sync=True)
    filters = Dict().tag(sync=True)
    values = Dict().tag(sync=True)
    measure = Unicode().tag(sync=True)
    percent = Bool(False).tag(sync=True)
    span = List(Float()).tag(sync=True)
    palette = List(Unicode(), cividis([i / (_SHADES - 1) for i in range(_SHADES)])).tag(sync=True)

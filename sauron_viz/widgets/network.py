"""The network as a drawing: every layer a bar as long as it has filters, in the shape of Appendix B's U."""

from __future__ import annotations

from collections.abc import Sequence

import anywidget
from traitlets import Bool, Dict, Float, Int, List, Unicode

from sauron_train.analysis.cost import heads
from sauron_train.runlog import LayerInfo
from sauron_viz.figures.base import numbers
from sauron_viz.figures.measures import Measure, grid_of, measure
from sauron_viz.runs import RunView
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


def show_network(network: Network, view: RunView) -> None:
    """Show the network of a run as it is at every epoch."""
    infos = view.info.layers
    with network.hold_sync():
        network.source = view.title
        network.layers = [vars(info) for info in infos]
        network.heads = [list(pair) for pair in heads([info.name for info in infos]).items()]
        network.sizes = _sizes(view, infos)
        network.epochs = view.all_epochs
        network.filters = _by_layer(view, measure("filters"))


def colour_network(network: Network, view: RunView, wanted: Measure) -> None:
    """Colour it by a measure, on one scale for all epochs."""
    values = _by_layer(view, wanted)
    known = [value for column in values.values() for value in column if value is not None]
    low, high = (0.0, 100.0) if wanted.is_share else (min(known, default=0.0), max(known, default=1.0))
    with network.hold_sync():
        network.measure, network.percent = wanted.name, wanted.is_share
        network.values, network.span = values, [low, high]


def _by_layer(view: RunView, wanted: Measure) -> dict[str, list[float | None]]:
    """A measure by layer name, one value per epoch."""
    grid = grid_of(view.layers, view.info.layers, wanted).reindex(columns=view.all_epochs)
    return {
        str(name): [None if v is None else float(f"{v:.5g}") for v in numbers(row)] for name, row in grid.iterrows()
    }


def _sizes(view: RunView, infos: Sequence[LayerInfo]) -> list[str]:
    """How large the maps of one patch are at each level."""
    patch = view.config.data.patch
    deepest = max((info.level for info in infos), default=0)
    return [" × ".join(str(side // 2**level) for side in patch) for level in range(deepest)]

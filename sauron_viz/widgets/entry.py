"""A field that says what is wrong with what was typed into it."""

from __future__ import annotations

import anywidget
from traitlets import Int, Unicode

from sauron_viz.widgets.base import script


class Entry(anywidget.AnyWidget):
    """Text; `placeholder` is shown while it is empty, `problem` below it, `hint` where the pointer rests.

    `lines` is how many lines it shows; 0 for a field of one line.
    """

    _esm = script("entry.js")
    label = Unicode().tag(sync=True)
    value = Unicode().tag(sync=True)
    placeholder = Unicode().tag(sync=True)
    hint = Unicode().tag(sync=True)
    problem = Unicode().tag(sync=True)
    lines = Int(0).tag(sync=True)

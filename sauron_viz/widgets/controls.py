"""Native controls with names that screen readers find, and the widget that keeps the session alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
from traitlets import Bool, Int, List, Unicode

from sauron_viz.widgets.base import script


class Slider(anywidget.AnyWidget):
    """Steps through `options` (numbers); `value` is one of them. `texts`, if given, say what each is called.

    A `playable` one has a button that walks through them.
    """

    _esm = script("slider.js")
    label = Unicode().tag(sync=True)
    suffix = Unicode().tag(sync=True)
    hint = Unicode().tag(sync=True)
    playable = Bool(False).tag(sync=True)
    texts = List(Unicode()).tag(sync=True)
    options = List(Int()).tag(sync=True)
    value = Int(0).tag(sync=True)


class Select(anywidget.AnyWidget):
    """Drop-down list; `options` are [value, text] or [value, text, group]; `hint` is shown where the pointer rests."""

    _esm = script("select.js")
    label = Unicode().tag(sync=True)
    hint = Unicode().tag(sync=True)
    options = List(List(Unicode())).tag(sync=True)
    value = Unicode().tag(sync=True)


class Choice(anywidget.AnyWidget):
    """A few exclusive choices side by side; `options` are [value, text]."""

    _esm = script("choice.js")
    label = Unicode().tag(sync=True)
    options = List(List(Unicode())).tag(sync=True)
    value = Unicode().tag(sync=True)


class Tabs(anywidget.AnyWidget):
    """A row of tabs; `options` are [value, text]."""

    _esm = script("tabs.js")
    label = Unicode("Views").tag(sync=True)
    options = List(List(Unicode())).tag(sync=True)
    value = Unicode().tag(sync=True)


class Field(anywidget.AnyWidget):
    """One line of text."""

    _esm = script("field.js")
    label = Unicode().tag(sync=True)
    value = Unicode().tag(sync=True)


class Actions(anywidget.AnyWidget):
    """Buttons in a row; `options` are [value, text] or [value, text, hint], `on_press` is told which was pressed.

    `pressed` are those that stay in, `main` is the one that stands out.
    """

    _esm = script("actions.js")
    options = List(List(Unicode())).tag(sync=True)
    pressed = List(Unicode()).tag(sync=True)
    disabled = List(Unicode()).tag(sync=True)
    main = Unicode().tag(sync=True)

    def __init__(self, on_press: Callable[[str], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._on_press = on_press
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        value = str(content.get("press"))
        if value in [option[0] for option in self.options] and value not in self.disabled:
            self._on_press(value)


class LayerPicker(anywidget.AnyWidget):
    """Chooses layers; `layers` are tables with name, part, kind and the colours light and dark."""

    _esm = script("layers.js")
    layers = List().tag(sync=True)
    value = List(Unicode()).tag(sync=True)


class Session(anywidget.AnyWidget):
    """Answers the page once a second, and hands that beat on: views look at their run folder then.

    A page that gets no answer says that the session is lost. `query` is put into the page's address.
    """

    _esm = script("session.js")
    query = Unicode().tag(sync=True)

    def __init__(self, on_beat: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._on_beat = on_beat
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if "ping" in content:
            self.send({"pong": 1})
            self._on_beat()

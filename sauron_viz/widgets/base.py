"""What all widgets share: their scripts and style, and a boundary that no exception crosses unseen."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import logging
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import ipywidgets
from jupyter_core.paths import jupyter_runtime_dir

from sauron_train.errors import SauronError

_ONCE_THE_CELL_HAS_RUN = 0.05
_FOLDER = files("sauron_viz") / "widgets"
_SHEETS = ("theme", "controls", "maps", "tables", "network", "training", "narrow")


def script(*names: str) -> str:
    """A widget's JavaScript, the shared helpers in front of it."""
    return "\n".join((_FOLDER / part).read_text(encoding="utf-8") for part in ("common.js", *names))


@functools.cache
def style() -> str:
    """The style sheet of all views."""
    return "\n".join((_FOLDER / f"{sheet}.css").read_text(encoding="utf-8") for sheet in _SHEETS)


def style_widget() -> ipywidgets.HTML:
    """Brings the style sheet onto the page."""
    return ipywidgets.HTML(f"<style>{style()}</style>", layout=ipywidgets.Layout(display="none"))


def box(*children: Any, css: str = "", layout: str = "") -> ipywidgets.Box:
    """A plain container whose arrangement is left to the style sheet."""
    made = ipywidgets.Box(children, layout=ipywidgets.Layout(display=layout or None))
    for name in css.split():
        made.add_class(name)
    return made


def text(markup: str, css: str = "") -> ipywidgets.HTML:
    """HTML that a view wrote itself; every value that is put into it goes through `esc`."""
    made = ipywidgets.HTML(markup)
    for name in css.split():
        made.add_class(name)
    return made


def esc(value: object) -> str:
    """Any value as text that is safe in markup: a run folder may say anything, whatever type it should have."""
    return html.escape(str(value))


def soon(function: Callable[[], object]) -> None:
    """Call it once the cell has run, while the page is loading its scripts; in a program without a loop not at all."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().call_later(_ONCE_THE_CELL_HAS_RUN, function)


def show(widget: Any, yes: bool) -> None:
    """Show or hide a widget without taking it off the page, so that it keeps what it has drawn."""
    wanted = None if yes else "none"
    if widget.layout.display != wanted:
        widget.layout.display = wanted


def log_file() -> Path:
    """Where views write what went wrong; private to the user."""
    return Path(jupyter_runtime_dir()) / "sauron-viz.log"


@functools.cache
def logger() -> logging.Logger:
    """Writes to `log_file`."""
    made = logging.getLogger("sauron_viz")
    path = log_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    made.addHandler(handler)
    made.propagate = False
    return made


_TOO_MUCH = (
    "This takes more memory than a page may have here. Choose fewer or smaller maps, or ask whoever runs the server "
    "for more (sauron-viz serve --page-memory)."
)


class Notice(ipywidgets.HTML):
    """One line that says what is wrong, announced to screen readers; empty when all is well."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, str] = {}

    def say(self, source: str, sentence: str) -> None:
        """Show a sentence until its source clears it; "" clears."""
        if sentence:
            self._said[source] = sentence
        else:
            self._said.pop(source, None)
        lines = dict.fromkeys(self._said.values())
        self.value = "".join(f'<p class="sauron-alert" role="alert">{esc(line)}</p>' for line in lines)

    def guard(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Wrap a callback: exceptions in callbacks are swallowed by the kernel, so they must become words here."""
        source = getattr(function, "__qualname__", repr(function))

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except SauronError as error:
                self.say(source, str(error))
            except MemoryError:
                logger().exception("in %s", source)
                self.say(source, _TOO_MUCH)
            except Exception:
                logger().exception("in %s", source)
                self.say(source, f"Something went wrong in this view; {log_file()} says what.")
            else:
                if source in self._said:
                    self.say(source, "")

        return guarded

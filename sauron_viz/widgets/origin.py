"""Where a run came from that was not trained, and what may be done with one that was made here and is not saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sauron_train.errors import RunError
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Actions, Field
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.viewer import Viewer
from sauron_viz.worker import folder_name


class Keeping:
    """Names a run that was made here and saves it, or throws it away.

    Args:
        viewer: what shows it.
        told: hears in a sentence what was done.
        back: whether there is a button that leads to where it came from.
    """

    def __init__(self, viewer: Viewer, told: Callable[[str], None], back: bool = False) -> None:
        self.viewer = viewer
        self.guest = ""
        self._told, self._back = told, back
        self.name = Field(label="Save as a run named")
        self.actions = Actions(viewer.guard(self._pressed))
        self.widget = box(self.name, self.actions, css="sauron-row sauron-close")

    def offer(self, guest: str, name: str) -> None:
        """A guest, and the name that is proposed for it; what the reader has typed for the same one stays."""
        folder = self.viewer.folder
        origin = folder.trained(guest)
        back = [["back", f"Back to {folder.title(origin)}"]] if self._back and folder.has(origin) else []
        self.actions.options = [["save", "Save"], ["discard", "Throw away"], *back]
        if guest != self.guest:
            self.guest, self.name.value = guest, name

    def _pressed(self, what: str) -> None:
        if self.guest not in self.viewer.folder.guests:
            return  # pressed twice
        if what == "save":
            # Said beside the button: the top of the page may be out of sight.
            try:
                self._told(f"Saved as {self.viewer.save(self.guest, self.name.value.strip())}.")
            except RunError as error:
                self._told(str(error))
        elif what == "discard":
            self.viewer.dismiss(self.guest)
            self._told("Thrown away.")
        else:
            self.viewer.state.run = self.viewer.folder.trained(self.guest)


class Origin(Panel):
    """A line below the header; nothing for a run that was trained."""

    watches: ClassVar[tuple[str, ...]] = ("version", "runs")

    def build(self) -> None:
        """Make the line and the buttons."""
        self.line = text("")
        self.keeping = Keeping(self.viewer, self._tell, back=True)
        self.card = box(self.line, self.keeping.widget, css="sauron-toolbar sauron-origin")
        self.told = text("")
        self._told_of = ""
        self.children = (self.card, self.told)

    def update(self) -> None:
        """Say what the open run is."""
        view = self.viewer.view
        derived = view.info.derived_from if view else None
        guest = view is not None and view.name in self.viewer.folder.guests
        if self.viewer.state.run != self._told_of:
            self.told.value = ""
        show(self, derived is not None or bool(self.told.value))
        show(self.card, derived is not None)
        show(self.keeping.widget, guest)
        if view is None or derived is None:
            return
        told = f"Made from the network of <b>{esc(derived.run)}</b> at epoch {esc(derived.epoch)}: {esc(derived.how)}."
        then = "It was trained on from there." if derived.trained else "Nothing was trained, so it has this one epoch."
        kept = " <b>Not saved</b>: it goes with this page, in a notebook with its kernel." if guest else ""
        self.line.value = f'<p class="sauron-note">{told} {then}{kept}</p>'
        if guest:
            self.keeping.offer(view.name, folder_name(view.name))

    def _tell(self, sentence: str) -> None:
        self._told_of = self.viewer.state.run
        self.told.value = f'<p class="sauron-note" role="status">{esc(sentence)}</p>'
        show(self, True)

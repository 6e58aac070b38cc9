"""Where a run came from that was not trained, and what may be done with one that was made here and is not saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

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
        self.actions.options = [
            ["save", "Save"],
            ["discard", "Throw away"],
            *([["back", f"Back to {self.viewer.folder.guests[guest].origin}"]] if self._back else []),
        ]
        if guest != self.guest:
            self.guest, self.name.value = guest, name

    def _pressed(self, what: str) -> None:
        if what == "save":
            self._told(f"Saved as {self.viewer.save(self.guest, self.name.value.strip())}.")
        elif what == "discard":
            self.viewer.dismiss(self.guest)
            self._told("Thrown away.")
        else:
            self.viewer.state.run = self.viewer.folder.guests[self.guest].origin


class Origin(Panel):
    """A line below the header; nothing for a run that was trained."""

    watches: ClassVar[tuple[str, ...]] = ("version", "runs")

    def build(self) -> None:
        """Make the line and the buttons."""
        self.line = text("")
        # What was done shows in the header itself: another run is open then.
        self.keeping = Keeping(self.viewer, lambda _: None, back=True)
        self.card = box(self.line, self.keeping.widget, css="sauron-toolbar sauron-origin")
        self.children = (self.card,)

    def update(self) -> None:
        """Say what the open run is."""
        view = self.viewer.view
        derived = view.info.derived_from if view else None
        guest = view is not None and view.name in self.viewer.folder.guests
        show(self, derived is not None)
        show(self.keeping.widget, guest)
        if view is None or derived is None:
            return
        told = f"Made from the network of <b>{esc(derived.run)}</b> at epoch {esc(derived.epoch)}: {esc(derived.how)}."
        kept = " <b>Not saved</b>: it goes when this page is closed." if guest else ""
        self.line.value = f'<p class="sauron-note">{told} Nothing was trained, so it has this one epoch.{kept}</p>'
        if guest:
            self.keeping.offer(view.name, folder_name(view.name))

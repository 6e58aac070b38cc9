"""What every panel is: a column of widgets that follows the shared state while it is seen."""

from __future__ import annotations

from typing import Any, ClassVar

import ipywidgets

from sauron_viz.widgets.viewer import Viewer


class Panel(ipywidgets.Box):
    """Follows the state traits it `watches`; what happens while it is hidden is drawn when it is shown."""

    watches: ClassVar[tuple[str, ...]] = ("version", "epoch", "layer")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.add_class("sauron-stack")
        self.viewer = viewer
        self._seen = True
        self._stale = False
        self.build()
        viewer.guard(self.update)()
        viewer.state.observe(viewer.guard(self._changed), list(self.watches))

    def build(self) -> None:
        """Make the widgets once and set `children`."""
        raise NotImplementedError

    def update(self) -> None:
        """Bring the widgets in line with the state."""
        raise NotImplementedError

    def seen(self, yes: bool) -> None:
        """Tell the panel whether it is on screen."""
        self._seen = yes
        self.layout.display = None if yes else "none"
        if yes and self._stale:
            self._stale = False
            self.viewer.guard(self.update)()

    def _changed(self, _change: Any) -> None:
        if self._seen:
            self.update()
        else:
            self._stale = True

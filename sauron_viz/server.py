"""Voila behind a gate, with a pool that is filled again once the opened page has been drawn. Slow to import."""

from __future__ import annotations

import asyncio
import os
import secrets
from functools import partial
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from voila.app import Voila

from sauron_viz.access import Access
from sauron_viz.gate import Gate, pages
from sauron_viz.visit import KEY, SERVER

_DRAWN_AFTER_S = 4.0


class Visitors(IdentityProvider):
    """Everybody whom the gate let in; Jupyter's own login and its cookies are not used."""

    def get_user(self, _handler: Any) -> User:
        """The same for all: they share a token."""
        return User("visitor")

    def get_handlers(self) -> list[Any]:
        """None: the gate answers."""
        return []


class Server(Voila):  # type: ignore[misc]
    """Serves one notebook.

    Voila prepares the page for the next visitor while that of this one is still being drawn, and on two processors
    both take twice as long. Its own `fill_delay` is no way out: who comes meanwhile would wait until it is over.
    """

    app: Any
    access = Access()

    def init_settings(self) -> dict[str, Any]:
        """Voila's settings; the kernel manager is made by them."""
        # Kernels inherit the environment; those that wait for a visitor find the server by it, and are let in.
        self.key = secrets.token_urlsafe()
        os.environ |= {SERVER: f"ws{self.access.from_here(self.port)}", KEY: self.key}
        settings: dict[str, Any] = super().init_settings()
        settings["jinja2_env"] = pages()
        if not self.voila_configuration.preheat_kernel:
            return settings
        fill = self.kernel_manager.fill_if_needed

        def fill_later(delay: float | None = None, **kwargs: Any) -> None:
            wait = _DRAWN_AFTER_S if delay is None else delay
            asyncio.get_event_loop().call_later(wait, partial(fill, delay=0, **kwargs))

        self.kernel_manager.fill_if_needed = fill_later
        return settings

    def listen(self) -> None:
        """Let everything pass the gate."""
        self.app = Gate(self.app, self.access, self.key)
        super().listen()

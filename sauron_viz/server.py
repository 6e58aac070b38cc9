"""Voila, with a pool that is filled again when the page that was opened has been drawn. Slow to import."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from voila.app import Voila

_DRAWN_AFTER_S = 4.0


class Server(Voila):  # type: ignore[misc]
    """Serves one notebook.

    Voila prepares the page for the next visitor while that of this one is still being drawn, and on two processors
    both take twice as long. Its own `fill_delay` is no way out: who comes meanwhile would wait until it is over.
    """

    def init_settings(self) -> dict[str, Any]:
        """Voila's settings; the kernel manager is made by them."""
        settings: dict[str, Any] = super().init_settings()
        if not self.voila_configuration.preheat_kernel:
            return settings
        fill = self.kernel_manager.fill_if_needed

        def fill_later(delay: float | None = None, **kwargs: Any) -> None:
            wait = _DRAWN_AFTER_S if delay is None else delay
            asyncio.get_event_loop().call_later(wait, partial(fill, delay=0, **kwargs))

        self.kernel_manager.fill_if_needed = fill_later
        return settings

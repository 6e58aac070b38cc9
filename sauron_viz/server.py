"""Voila behind a gate, with a pool that is filled again once the opened page has been drawn. Slow to import."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClosedError
from traitlets import Int, Set
from voila.app import Voila
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler
from voila.utils import ENV_VARIABLE

from sauron_viz import prefork
from sauron_viz.access import Access
from sauron_viz.gate import Gate, handed_out, pages
from sauron_viz.limits import give_back_memory
from sauron_viz.scripts import ScriptsHandler, gather
from sauron_viz.sockets import KernelSocket
from sauron_viz.visit import KEY, SERVER

_DRAWN_AFTER_S = 4.0
_TIDY_AFTER_S = 5.0


class Visitors(IdentityProvider):
    """Everybody whom the gate let in; Jupyter's own login and its cookies are not used."""

    def get_user(self, _handler: Any) -> User:
        """The same for all: they share a token."""
        return User("visitor")

    def get_handlers(self) -> list[Any]:
        """None: the gate answers."""
        return []


class Kernels(AsyncMappingKernelManager):
    """Kernels, none of which outlives its page for long.

    One whose page never came ends sooner than others: somebody left or reloaded while it was loading, or a probe asked.
    """

    unseen_timeout = Int(60, help="Seconds that a kernel waits for its page, once it has nothing to do.").tag(
        config=True
    )
    refill_delay = Int(60, help="Seconds until a prepared page whose kernel died is prepared again.").tag(config=True)
    _seen = Set()
    _visited = Set()
    _tidying: asyncio.TimerHandle | None = None

    def notify_connect(self, kernel_id: str) -> None:
        """A page has come."""
        super().notify_connect(kernel_id)  # type: ignore[no-untyped-call]
        self._seen.add(kernel_id)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Called again and again for every kernel that does not wait in the pool."""
        if kernel_id not in self:
            # It ended while others were looked at.
            return
        kernel = self.get_kernel(kernel_id)
        idle = (datetime.now(UTC) - kernel.last_activity).total_seconds() if kernel.execution_state == "idle" else 0.0
        if kernel_id not in self._seen and idle > self.unseen_timeout:
            await self.shutdown_kernel(kernel_id)
        else:
            await super().cull_kernel_if_idle(kernel_id)  # type: ignore[no-untyped-call]

    async def shutdown_kernel(  # type: ignore[override]
        self, kernel_id: str, now: bool = False, restart: bool = False
    ) -> None:
        """End a kernel; the page of one that died says goodbye to it all the same."""
        self._seen.discard(kernel_id)
        self._visited.discard(kernel_id)
        self.clear_pool()
        if kernel_id in self:
            await super().shutdown_kernel(kernel_id, now, restart)  # type: ignore[no-untyped-call]
        self._tidy_soon()

    def _tidy_soon(self) -> None:
        """Voila leaves objects that refer to each other in circles; Python would let those of many visits gather."""
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY_AFTER_S, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        gc.collect()
        give_back_memory()

    def _handle_kernel_died(self, kernel_id: str) -> None:
        super()._handle_kernel_died(kernel_id)  # type: ignore[no-untyped-call]
        self.clear_pool()

    async def start_kernel(self, *arguments: Any, **keywords: Any) -> str:  # type: ignore[override]
        """Start a kernel, for the pool or for somebody who waits for it."""
        kernel_id: str = await super().start_kernel(*arguments, **keywords)
        if keywords.get("env", {}).get(ENV_VARIABLE.VOILA_PREHEAT) == "False":
            self.hand_out(kernel_id)
        return kernel_id

    def hand_out(self, kernel_id: str) -> None:
        """A visitor gets it, whose request is being answered."""
        self._visited.add(kernel_id)
        handed_out.get(lambda: None)()

    def visited(self) -> int:
        """How many kernels have a visitor; the others wait for one, or are made ready."""
        return sum(kernel_id in self for kernel_id in self._visited)

    def clear_pool(self) -> None:
        """Nobody must be given the page of a dead kernel, or one that could not be prepared."""
        for notebook, pool in getattr(self, "_pools", {}).items():
            left = [page for page in pool if not self._is_lost(page)]
            if len(left) < len(pool):
                pool[:] = left
                self.fill_if_needed(delay=self.refill_delay, notebook_name=notebook)

    def _is_lost(self, page: asyncio.Task[Any]) -> bool:
        if not page.done():
            return False
        if page.cancelled() or page.exception() is not None:
            return True
        kernel_id = page.result()["kernel_id"]
        if kernel_id not in self:
            return True
        # Asked of the process itself: that it died is told by its silence, seconds later.
        process = getattr(self.get_kernel(kernel_id).provisioner, "process", None)
        return process is None or process.poll() is not None


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
        os.environ |= {SERVER: self.access.from_here(self.port), KEY: self.key}
        if prefork.available():
            self.config.KernelProvisionerFactory.default_provisioner_name = prefork.NAME
            prefork.NURSERY.start()
        settings: dict[str, Any] = super().init_settings()
        settings["jinja2_env"] = pages()
        if self.voila_configuration.preheat_kernel:
            self._tend_pool(self.kernel_manager)
        return settings

    def _tend_pool(self, kernels: Any) -> None:
        """Voila makes the class that has the pool of ours, so what it does with it is changed in the one object."""
        fill, taken, size = kernels.fill_if_needed, kernels.get_rendered_notebook, kernels.get_pool_size

        def fill_later(delay: float | None = None, **kwargs: Any) -> None:
            wait = _DRAWN_AFTER_S if delay is None else delay
            asyncio.get_event_loop().call_later(wait, partial(fill, delay=0, **kwargs))

        async def hand_out(**kwargs: Any) -> Any:
            page = await taken(**kwargs)
            kernels.hand_out(page[-1])
            return page

        def size_of_living(notebook_name: str) -> int:
            kernels.clear_pool()
            return int(size(notebook_name))

        kernels.fill_if_needed, kernels.get_rendered_notebook = fill_later, hand_out
        kernels.get_pool_size = size_of_living

    def init_handlers(self) -> list[Any]:
        """Voila's with sockets of our own, and the scripts of a page in one."""
        scripts = gather()
        self.config.VoilaConfiguration.resources = {"scripts": f"sauron.js?v={scripts.version}"}
        ours = (f"{self.access.base_url}voila/sauron.js", ScriptsHandler, {"scripts": scripts})
        voilas = [
            (place, KernelSocket if handler is VoilaKernelWebsocketHandler else handler, *more)
            for place, handler, *more in super().init_handlers()
        ]
        return [ours, *voilas]

    def listen(self) -> None:
        """Let everything pass the gate."""
        self.app = Gate(self.app, self.access, self.key)
        # What is there by now stays; looking for what visitors left behind is quicker without it.
        gc.collect()
        gc.freeze()
        IOLoop.current().asyncio_loop.set_exception_handler(_pass_over_leaving)  # type: ignore[attr-defined]
        super().listen()


def _pass_over_leaving(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A page may be closed while something is on its way to it; tornado waits for nobody to say so to."""
    if not isinstance(context.get("exception"), WebSocketClosedError):
        loop.default_exception_handler(context)

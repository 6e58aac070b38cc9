"""The web sockets between pages and their kernels: what is no message of a page ends its socket, and not the server.

A message of the protocol that pages speak begins with how many parts it has and where each of them is. Both Voila and
jupyter_server believe that number, whatever it is: 2⁶⁴ parts would take all memory, and the only thread, of the server.
"""

from __future__ import annotations

import json
from typing import Any

from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

PROTOCOL = "v1.kernel.websocket.jupyter.org"
_NUMBER_BYTES = 8
# Where the channel, the header, its parent, metadata and content begin, and where the last of them ends.
_FEWEST = 6
_NOT_UNDERSTOOD = 1007


class KernelSocket(VoilaKernelWebsocketHandler):  # type: ignore[misc]
    """One page's line to its kernel."""

    async def get(self, kernel_id: str) -> None:
        """Refuse who speaks the older protocol, whose answers Voila reads as if they were of the newer one."""
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if PROTOCOL not in [each.strip() for each in offered.split(",")]:
            self.set_status(400)
            self.finish(f"This web socket speaks {PROTOCOL} only.\n")
            return
        await super().get(kernel_id)

    def on_message(self, ws_message: str | bytes) -> None:
        """Pass a message on to the kernel, if it is one."""
        if isinstance(ws_message, bytes) and is_whole(ws_message):
            super().on_message(ws_message)
        else:
            self.close(_NOT_UNDERSTOOD, "no message of a page")


def is_whole(message: bytes) -> bool:
    """Whether the parts of a message lie one after the other within it, and its header can be read."""
    count = int.from_bytes(message[:_NUMBER_BYTES], "little")
    begins = _NUMBER_BYTES * (count + 1)
    if count < _FEWEST or begins > len(message):
        return False
    places = [
        int.from_bytes(message[at : at + _NUMBER_BYTES], "little") for at in range(_NUMBER_BYTES, begins, _NUMBER_BYTES)
    ]
    if sorted(places) != places or places[0] < begins or places[-1] > len(message):
        return False
    try:
        message[places[0] : places[1]].decode()
        header: Any = json.loads(message[places[1] : places[2]])
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and isinstance(header.get("msg_type"), str)

"""The web sockets between pages and their kernels: what is no message of a page ends its socket, and not the server.

A message of the protocol that pages speak begins with how many parts it has and where each of them is. Both Voila and
jupyter_server believe that number, whatever it is: 2⁶⁴ parts would take all memory, and the only thread, of the server.
What is sent to a kernel that does not answer gathers in the server too, whose memory everybody shares.
"""

from __future__ import annotations

import json
from typing import Any

from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

PROTOCOL = "v1.kernel.websocket.jupyter.org"
_NUMBER_BYTES = 8
# Where the channel, the header, its parent, metadata and content begin, and where the last of them ends.
_FEWEST = 6
# Pages send no more than a few arrays at a time; a million empty ones would hold the server up for seconds.
_MOST = 1000
_MOST_UNANSWERED = 64 << 20
_NOT_UNDERSTOOD, _TOO_MUCH = 1007, 1009


class KernelSocket(VoilaKernelWebsocketHandler):  # type: ignore[misc]
    """One page's line to its kernel."""

    _unanswered = 0

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
        if not isinstance(ws_message, bytes) or not is_whole(ws_message):
            self.close(_NOT_UNDERSTOOD, "no message of a page")
            return
        self._unanswered += len(ws_message)
        if self._unanswered > _MOST_UNANSWERED:
            self.close(_TOO_MUCH, "the kernel does not answer")
            return
        super().on_message(ws_message)

    def write_message(self, message: bytes | dict[str, Any], binary: bool = False) -> Any:
        """Pass on what the kernel says, which shows that it listens."""
        self._unanswered = 0
        return super().write_message(message, binary)


def is_whole(message: bytes) -> bool:
    """Whether the parts of a message lie one after the other within it, and its header can be read."""
    count = int.from_bytes(message[:_NUMBER_BYTES], "little")
    begins = _NUMBER_BYTES * (count + 1)
    if not _FEWEST <= count <= _MOST or begins > len(message):
        return False
    places = [
        int.from_bytes(message[at : at + _NUMBER_BYTES], "little") for at in range(_NUMBER_BYTES, begins, _NUMBER_BYTES)
    ]
    if sorted(places) != places or places[0] < begins or places[-1] > len(message):
        return False
    try:
        message[places[0] : places[1]].decode()
        header: Any = json.loads(message[places[1] : places[2]].decode())
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and isinstance(header.get("msg_type"), str)

"""A visitor of a served dashboard without a browser: it says what a page says, and understands enough of the answers.

What a browser computes is done on the visitors' own machines; a server has to answer, send, and keep a kernel for each.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

PROTOCOL = Subprotocol("v1.kernel.websocket.jupyter.org")
PATIENCE_S = 120.0
_BEAT_S = 1.0
_NUMBER_BYTES = 8


class VisitError(Exception):
    """A page was not answered as it should have been."""


@contextmanager
def visit(url: str, query: str, goodbye: bool = True) -> Iterator[Page]:
    """Open the dashboard, and leave it; without a goodbye as by a lost connection.

    Raises:
        VisitError: no page comes, or not whole.
    """
    found = re.search(r'"kernelId": ?"([^"]+)"', ask(url, "GET", f"/?{query}"))
    if found is None:
        raise VisitError("the page has no kernel")
    kernel = found[1]
    address = f"ws{url.removeprefix('http')}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    origin = Origin(url.rstrip("/"))
    with connect(address, origin=origin, subprotocols=[PROTOCOL], max_size=None, ping_interval=None) as line:
        yield Page(line)
    if goodbye:
        ask(url, "POST", f"/voila/api/shutdown/{kernel}")


class Page:
    """What a page knows: its widgets' states, by their ids, and which of its messages had an answer of any kind.

    Args:
        line: the socket to its kernel.
    """

    def __init__(self, line: ClientConnection) -> None:
        self.line = line
        self.states: dict[str, dict[str, Any]] = {}
        self.answered: set[str] = set()
        control = uuid.uuid4().hex
        self.send("comm_open", comm_id=control, target_name="jupyter.widget.control", data={})
        self.send("comm_msg", comm_id=control, data={"method": "request_states"})
        self._until(lambda kind, content, _: kind == "comm_msg" and content["data"].get("method") == "update_states")

    def choose(self, label: str, step: int) -> None:
        """Take another option of a drop-down list, and wait until all is as that wants it."""
        name, state = self._widget("options", label=label)
        values = [option[0] for option in state["options"]]
        value = values[(values.index(state["value"]) + step) % len(values)]
        state["value"] = value
        self.done(self.send("comm_msg", comm_id=name, data=_update({"value": value})))

    def look(self, epoch: int) -> int:
        """Ask for the maps of an epoch, as the page does when its slider is moved; returns how many bytes came."""
        name, state = self._widget("order", "base")
        wanted = {"want": epoch, "base": state["base"], "clusters": False}
        self.send("comm_msg", comm_id=name, data={"method": "custom", "content": wanted})
        got: list[int] = []

        def came(kind: str, content: dict[str, Any], size: int) -> bool:
            got[:] = [size]
            return kind == "comm_msg" and content["comm_id"] == name and content["data"].get("method") == "custom"

        self._until(came)
        return got[0]

    def stay(self, seconds: float) -> None:
        """Do nothing but what a page does by itself: ask every second whether its kernel is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.ping()
            time.sleep(_BEAT_S)

    def ping(self) -> None:
        """Ask whether the kernel is there, and wait for its answer."""
        name, _ = self._widget("query")
        self.done(self.send("comm_msg", comm_id=name, data={"method": "custom", "content": {"ping": 1}}))

    def _widget(self, *keys: str, **values: object) -> tuple[str, dict[str, Any]]:
        for name, state in self.states.items():
            if all(key in state for key in keys) and all(state.get(key) == value for key, value in values.items()):
                return name, state
        raise VisitError(f"the page has no widget with {', '.join([*keys, *values])}")

    def send(self, kind: str, **content: object) -> str:
        """Say something to the kernel; returns the message's number."""
        sent = uuid.uuid4().hex
        header = {"msg_id": sent, "msg_type": kind, "session": "", "username": "", "version": "5.3"}
        # Version of the protocol by which widgets are asked for.
        parts = ["shell", *map(json.dumps, (header, {}, {"version": "1.0.0"}, content))]
        self.line.send(packed([part.encode() for part in parts]))
        return sent

    def done(self, sent: str) -> None:
        """Wait until the kernel has nothing more to do about a message."""
        idle: dict[str, Any] = {"execution_state": "idle"}
        self._until(lambda kind, content, _: kind == "status" and content == idle, sent)

    def _until(self, wanted: Callable[[str, dict[str, Any], int], bool], sent: str = "") -> None:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                raw = self.line.recv(timeout=max(end - time.monotonic(), 0))
            except TimeoutError:
                raise VisitError("no answer came in time") from None
            if not isinstance(raw, bytes):
                raise VisitError("an answer is no message of the protocol")
            parts = _unpacked(raw)
            header, parent, content = (json.loads(parts[place]) for place in (1, 2, 4))
            self._learn(header["msg_type"], content)
            self.answered.add(parent.get("msg_id", ""))
            if (not sent or parent.get("msg_id") == sent) and wanted(header["msg_type"], content, len(raw)):
                return

    def _learn(self, kind: str, content: dict[str, Any]) -> None:
        data = content.get("data", {}) if kind in ("comm_msg", "comm_open") else {}
        if data.get("method") == "update_states":
            self.states |= {name: each["state"] for name, each in data["states"].items()}
        elif "state" in data:
            self.states.setdefault(content["comm_id"], {}).update(data["state"])


def ask(url: str, method: str, path: str) -> str:
    """What a request is answered.

    Raises:
        VisitError: with an error.
    """
    place = urlsplit(url)
    line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=PATIENCE_S)
    line.request(method, path)
    answer = line.getresponse()
    text = answer.read().decode()
    line.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise VisitError(f"{method} {path} was answered {answer.status}")
    return text


def _update(state: dict[str, Any]) -> dict[str, Any]:
    return {"method": "update", "state": state, "buffer_paths": []}


def packed(parts: list[bytes]) -> bytes:
    """A message of the protocol."""
    begins = [_NUMBER_BYTES * (len(parts) + 2)]
    for part in parts:
        begins.append(begins[-1] + len(part))
    return b"".join([each.to_bytes(_NUMBER_BYTES, "little") for each in (len(begins), *begins)] + parts)


def _unpacked(raw: bytes) -> list[bytes]:
    count = int.from_bytes(raw[:_NUMBER_BYTES], "little")
    at = [int.from_bytes(raw[_NUMBER_BYTES * n : _NUMBER_BYTES * (n + 1)], "little") for n in range(1, count + 1)]
    return [raw[begin:end] for begin, end in itertools.pairwise(at)]

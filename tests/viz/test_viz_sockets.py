"""What comes in by a page's web socket: messages go to its kernel, anything else ends the socket and nothing else."""

from __future__ import annotations

import json

import pytest
from browsing import Served
from hypothesis import given
from hypothesis import strategies as st
from visiting import packed, visit
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from sauron_viz.sockets import is_whole

HEADER = json.dumps({"msg_type": "comm_msg", "msg_id": "1"}).encode()
PARTS = [b"shell", HEADER, b"{}", b"{}", b"{}"]


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_messages_of_pages_are_whole(buffers: list[bytes]) -> None:
    assert is_whole(packed([*PARTS, *buffers]))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        number(2**64 - 1),
        number(2**63) + b"x" * 1000,
        number(6) + number(56),
        number(0) + packed(PARTS)[8:],
        packed(PARTS)[:-1],
        packed(PARTS[:4]),
        packed([b"shell", b"[]", b"{}", b"{}", b"{}"]),
        packed([b"shell", b"{", b"{}", b"{}", b"{}"]),
        packed([b"\xff", *PARTS[1:]]),
        packed([b"shell", b"[" * 100_000, b"{}", b"{}", b"{}"]),
        number(6) + number(2**60) * 6 + b"x" * 100,
        packed(PARTS + [b""] * 1000),
        packed([b"shell", HEADER.decode().encode("utf-16"), *PARTS[2:]]),
    ],
    ids=range(14),
)
def test_what_is_none_is_told_from_them(message: bytes) -> None:
    assert not is_whole(message)


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1))
def test_any_bytes_are_judged_at_once(rest: bytes, count: int) -> None:
    is_whole(number(count) + rest)
    is_whole(rest)


@pytest.mark.parametrize("message", [number(2**63) + b"x" * 100, "{}", b""], ids=["hostile", "text", "empty"])
def test_who_sends_anything_else_is_left_and_the_others_are_not(dashboard: Served, message: bytes | str) -> None:
    with visit(dashboard.url, "run=rats") as other:
        with visit(dashboard.url, "run=rats", goodbye=False) as page:
            page.line.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    page.line.recv(timeout=60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1007
        other.ping()


def test_who_sends_more_than_a_kernel_takes_is_left(dashboard: Served) -> None:
    """A kernel that does not read; what is sent to it would gather in the server."""
    large = packed([*PARTS, bytes(9 << 20)])
    with visit(dashboard.url, "run=rats", goodbye=False) as page:
        page.ping()
        asleep = dashboard.kernels()
        for kernel in asleep:
            kernel.suspend()
        try:
            with pytest.raises(ConnectionClosed) as closed:
                for _ in range(20):
                    page.line.send(large)
                while True:
                    page.line.recv(timeout=60)
        finally:
            for kernel in asleep:
                kernel.resume()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_the_older_protocol_is_refused(dashboard: Served) -> None:
    """Voila would read its answers as those of the newer one, and never come to an end."""
    address = f"ws{dashboard.url.removeprefix('http')}api/kernels/00000000-0000-0000-0000-000000000000/channels"
    with pytest.raises(InvalidStatus) as refused, connect(address, origin=Origin(dashboard.url.rstrip("/"))):
        pass
    assert refused.value.response.status_code == 400


def test_a_visitor_has_nothing_executed(dashboard: Served) -> None:
    with visit(dashboard.url, "run=rats") as page:
        asked = page.send("kernel_info_request")
        sent = page.send("execute_request", code="1 / 0", silent=False, store_history=False, allow_stdin=False)
        # A kernel answers in the order in which it is asked.
        page.ping()
        assert asked in page.answered
        assert sent not in page.answered

"""Who may be let in, from which address: what is asked for is checked before anything listens."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from sauron_viz.access import Access, ServeError, access, free, is_local, same_origin
from sauron_viz.serve import check

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "needs a token; make one with: export SAURON_TOKEN="),
        ({"host": "::"}, "needs a token"),
        ({"host": "no.such.host.invalid"}, "neither a name nor an address"),
        ({"token": ""}, "at least 16 characters"),
        ({"token": "short"}, "at least 16 characters"),
        ({"token": "sixteen characters\x07"}, "letters and digits"),
        ({"base_url": "https://example.org/sauron/"}, "is no path"),
        ({"base_url": "/../sauron"}, "is no path"),
        ({"base_url": "/a b/"}, "is no path"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, str], words: str) -> None:
    with pytest.raises(ServeError, match=re.escape(words)) as told:
        access(**options)
    assert "\n" not in str(told.value)
    assert options.get("token", "none") not in str(told.value) or options["token"] == ""


def test_paths_hosts_and_tokens_are_tidied() -> None:
    assert [access(base_url=path).base_url for path in ("/", "", "sauron", "/sauron", "a//b/")] == [
        "/",
        "/",
        "/sauron/",
        "/sauron/",
        "/a/b/",
    ]
    assert access(host="[::1]").host == "::1"
    assert access(token=f" {TOKEN}\n").token == TOKEN
    assert TOKEN not in repr(access(token=TOKEN))
    assert access(host="0.0.0.0", base_url="x", token=TOKEN).from_here(80) == "ws://127.0.0.1:80/x/"
    assert Access("::1").from_here(80) == "ws://[::1]:80/"
    assert Access("::1").shown(80) == "http://[::1]:80/"
    assert Access("0.0.0.0").shown(80) == f"http://{socket.gethostname()}:80/"


def test_which_hosts_and_origins_are_ones_own() -> None:
    assert [is_local(host) for host in ("localhost:1", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:1")] == [
        True
    ] * 5
    for host in ("", "example.org", "localhost.example.org", "127.0.0.1.example.org", "192.0.2.1:1", "[", "0.0.0.0"):
        assert not is_local(host)
    assert same_origin("https://Example.org", "example.org")
    assert not same_origin("https://example.org", "example.org:8443")
    assert not same_origin("null", "null")
    assert not same_origin("http://[", "[")
    assert not same_origin("", "")


def test_a_port_or_an_address_that_cannot_be_had_is_said(runs: Path) -> None:
    with pytest.raises(ServeError, match="is not an address of this machine"):
        free("192.0.2.1", 8866)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServeError, match="is in use; choose another with --port"):
            check(runs, "dashboard", port, "0.0.0.0")

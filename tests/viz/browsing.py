"""A served dashboard and a page that must stay clean."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """`sauron-viz serve` in a process of its own; `first` is Python that it runs before."""

    def __init__(self, root: Path, view: str = "dashboard", *options: str, first: str = "", **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        program = f"{first}\nfrom sauron_viz.cli import main; main()"
        command = [sys.executable, "-c", program, "serve", str(root)]
        # Not a pipe: nobody reads it meanwhile, and a server with much to say would wait for that.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server is
        self.process = subprocess.Popen(
            [*command, "--no-browser", "--view", view, "--port", str(self.port), *options],
            stdout=self._said,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | variables,
        )
        self._wait()

    def _wait(self) -> None:
        # Not a judgement on speed: only a limit after which nothing will come any more.
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the server did not come up: {self.stop()}")

    def kernels(self) -> list[psutil.Process]:
        """The kernels that it has started and that live."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if _is_kernel(process)]

    def stop(self) -> str:
        """End it; returns what it printed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._said.seek(0)
        return self._said.read()


def _is_kernel(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.name() == "sauron-kernel" or "ipykernel_launcher" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def wait_until(reached: Callable[[], bool], page: Any = None, seconds: float = 60) -> None:
    """Wait for a condition; a page that is open goes on meanwhile."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        if page is None:
            time.sleep(0.05)
        else:
            page.wait_for_timeout(50)


def barriers(page: Any, only: str = "") -> list[Any]:
    """What axe finds in the way of readers who cannot see or use a mouse, and where; `only` is one rule of it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    options = {"resultTypes": ["violations"]} | ({"runOnly": [only]} if only else {})
    found = axe.run(page, options=options).response["violations"]
    return [(v["id"], v["impact"], [n["html"] for n in v["nodes"]][:3]) for v in found]


@contextmanager
def clean_page(chromium: Any, wordless: bool = False, **options: Any) -> Iterator[Any]:
    """A page that must end without an error; a `wordless` one goes as if its browser had crashed."""
    opened = chromium.new_page(viewport={"width": 1440, "height": 900}, **options)
    opened.set_default_timeout(60_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
    opened.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    opened.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    ours = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    opened.on("request", lambda r: None if r.url.startswith(ours) else wrong.append(f"leaves the machine: {r.url}"))
    try:
        yield opened
    except Exception as failure:
        # What was wrong in the page is mostly why the test failed.
        for line in wrong:
            failure.add_note(line)
        raise
    finally:
        # A page that is only closed says no word to its kernel, which would stay to the end of all tests.
        if not wordless and not opened.is_closed():
            opened.goto("about:blank")
        opened.close()
    assert wrong == [], wrong

"""A served dashboard and a page that must stay clean."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Served:
    """`sauron-viz serve` in a process of its own."""

    def __init__(self, root: Path, view: str = "dashboard", *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        command = [sys.executable, "-c", "from sauron_viz.cli import main; main()", "serve", str(root)]
        self.process = subprocess.Popen(
            [*command, "--no-browser", "--view", view, "--port", str(self.port), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
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

    def stop(self) -> str:
        """End it; returns what it printed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()[0]


@contextmanager
def clean_page(chromium: Any, **options: Any) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 900}, **options)
    opened.set_default_timeout(60_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
    opened.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    opened.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    ours = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    opened.on("request", lambda r: None if r.url.startswith(ours) else wrong.append(f"leaves the machine: {r.url}"))
    yield opened
    opened.close()
    assert wrong == [], wrong

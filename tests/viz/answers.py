"""One request to a served dashboard, without a browser."""

from __future__ import annotations

import http.client

from browsing import Served


class Answer:
    """What one request got."""

    def __init__(
        self, served: Served, path: str, method: str = "GET", body: str = "", host: str = "127.0.0.1", **headers: str
    ) -> None:
        line = http.client.HTTPConnection(host, served.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body.encode() or None, sent)
        got = line.getresponse()
        self.status, self.headers = got.status, got.headers
        # A web socket stays open.
        self.text = "" if got.status == 101 else got.read().decode()
        line.close()

    @property
    def cookie(self) -> str:
        """The cookie as a browser would send it back."""
        return self.headers.get("Set-Cookie", "").split(";")[0]

"""Who is let in to a served page, and what is answered to the others: real requests to a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from answers import Answer
from browsing import Served, wait_until
from tornado.web import create_signed_value
from typer.testing import CliRunner

from sauron_viz.access import Access, ServeError
from sauron_viz.cli import app
from sauron_viz.gate import REMEMBERED_DAYS
from sauron_viz.widgets.base import Notice, log_file

TOKEN = "correct-horse-battery-staple"
KERNEL = "00000000-0000-0000-0000-000000000000"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "v1.kernel.websocket.jupyter.org",
}
# Every kind of route that Voila has, with a file behind it where there are files.
ROUTES = [
    ("GET", "voila/static/voila.js"),
    ("GET", "voila/templates/lab/static/voila-style.js"),
    ("GET", "voila/labextensions/@voila-dashboards/widgets-manager8/package.json"),
    ("GET", "voila/api/themes/none"),
    ("GET", "voila/files/dashboard.ipynb"),
    ("GET", f"api/kernels/{KERNEL}"),
    ("GET", f"api/kernels/{KERNEL}/channels"),
    ("DELETE", f"api/kernels/{KERNEL}"),
    ("POST", f"voila/api/shutdown/{KERNEL}"),
]


@pytest.fixture(scope="module")
def guarded(runs: Path) -> Iterator[Served]:
    """A server with a token, below a path."""
    served = Served(runs, "dashboard", "--base-url", "sauron", "--no-preload", SAURON_TOKEN=TOKEN)
    yield served
    served.stop()


def log_in(served: Served, token: str = TOKEN, **headers: str) -> Answer:
    return Answer(
        served,
        "/sauron/login?run=rats",
        "POST",
        urlencode({"token": token}),
        Content_Type="application/x-www-form-urlencoded",
        **headers,
    )


@pytest.fixture(scope="module")
def cookie(guarded: Served) -> str:
    return log_in(guarded).cookie


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_the_token(guarded: Served, cookie: str, method: str, path: str) -> None:
    without = Answer(guarded, f"/sauron/{path}", method)
    assert (without.status, without.text) == (403, "Log in first.\n")
    assert Answer(guarded, f"/sauron/{path}", method, Cookie=f"{cookie}0").status == 403
    inside = Answer(guarded, f"/sauron/{path}", method, Cookie=cookie)
    assert "Log in first" not in inside.text


def test_files_behind_the_login_are_the_pages_own(guarded: Served, cookie: str) -> None:
    answers = [Answer(guarded, f"/sauron/{path}", Cookie=cookie).status for _, path in ROUTES[:3]]
    assert answers == [200, 200, 200]
    for path in ("voila/files/dashboard.ipynb", "voila/files/serve.py", "voila/files/../serve.py"):
        assert Answer(guarded, f"/sauron/{path}", Cookie=cookie).status == (404 if ".." in path else 403)


def test_a_web_socket_asks_for_the_token_and_for_a_page_of_this_host(guarded: Served, cookie: str) -> None:
    path, own = f"/sauron/api/kernels/{KERNEL}/channels", f"http://127.0.0.1:{guarded.port}"
    assert Answer(guarded, path, Origin=own, **UPGRADE).status == 403
    for foreign in ("http://evil.example", "null", f"http://127.0.0.1:{guarded.port + 1}"):
        refused = Answer(guarded, path, Origin=foreign, Cookie=cookie, **UPGRADE)
        assert refused.status == 403
        assert "page of another host" in refused.text
    # Let through, to a kernel that there is not.
    assert Answer(guarded, path, Origin=own, Cookie=cookie, **UPGRADE).status == 404


def test_only_kernels_may_ask_for_their_visitor(guarded: Served, cookie: str) -> None:
    path = f"/sauron/voila/query/{KERNEL}"
    for headers in ({}, {"Cookie": cookie}, {"Authorization": f"Bearer {TOKEN}"}):
        assert Answer(guarded, path, **UPGRADE, **headers).status == 403


def test_the_token_is_typed_once_and_a_cookie_remembers(guarded: Served) -> None:
    page = Answer(guarded, "/sauron/?run=rats&with=%22%3E%3Cscript%3E")
    assert page.status == 200
    assert 'url=/sauron/login?run=rats&amp;with=%22%3E%3Cscript%3E"' in page.text
    form = Answer(guarded, "/sauron/login?run=rats")
    assert 'action="/sauron/login?run=rats"' in form.text
    assert 'type="password"' in form.text
    entered = log_in(guarded)
    assert (entered.status, entered.headers["Location"]) == (303, "/sauron/?run=rats")
    kept = entered.headers["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/sauron/"):
        assert word in kept
    assert "Secure" not in kept
    assert TOKEN not in kept
    assert "Secure" in log_in(guarded, X_Forwarded_Proto="https").headers["Set-Cookie"]
    back = Answer(guarded, "/sauron/login?run=rats", Cookie=entered.cookie)
    assert (back.status, back.headers["Location"]) == (303, "/sauron/?run=rats")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "ключ", TOKEN.upper()])
def test_a_wrong_token_is_said(guarded: Served, token: str) -> None:
    refused = log_in(guarded, token)
    assert refused.status == 403
    assert 'role="alert"' in refused.text
    assert refused.cookie == ""
    assert token == "" or token not in refused.text


def test_a_token_in_the_address_is_taken_out_of_it(guarded: Served) -> None:
    for path in ("/sauron/", "/sauron/login", "/sauron", "/"):
        entered = Answer(guarded, f"{path}?run=a%26b&token={TOKEN}&tab=pruning")
        assert entered.status == 303
        assert entered.headers["Location"] == "/sauron/?run=a%26b&tab=pruning"
    assert "sauron-" in Answer(guarded, f"/sauron/?token={TOKEN}").cookie
    wrong = Answer(guarded, "/sauron/?token=wrong&run=rats")
    assert (wrong.status, wrong.cookie) == (403, "")
    assert 'action="/sauron/login?run=rats"' in wrong.text


def test_a_proxy_may_show_the_token_for_its_users(guarded: Served) -> None:
    for kind in ("Bearer", "token"):
        assert Answer(guarded, "/sauron/voila/static/voila.js", Authorization=f"{kind} {TOKEN}").status == 200
    assert Answer(guarded, "/sauron/voila/static/voila.js", Authorization="Bearer wrong").status == 403


def test_cookies_end_and_cannot_be_made_without_the_token(guarded: Served) -> None:
    name = log_in(guarded).cookie.partition("=")[0]

    def status(token: str, days_ago: float) -> int:
        then = time.time() - 86400 * days_ago
        made = create_signed_value(Access(token=token).key, name, "inside", clock=lambda: then).decode()
        return Answer(guarded, "/sauron/voila/static/voila.js", Cookie=f"{name}={made}").status

    assert status(TOKEN, 1) == 200
    assert status(TOKEN, REMEMBERED_DAYS + 1) == 403
    assert status("another-token-entirely", 1) == 403


def test_who_guesses_waits_and_nobody_else(guarded: Served, cookie: str) -> None:
    ended: list[str] = []

    def guess() -> None:
        log_in(guarded, "a guess")
        ended.append("guess")

    guessing = [threading.Thread(target=guess) for _ in range(8)]
    for thread in guessing:
        thread.start()
    assert Answer(guarded, "/sauron/voila/static/voila.js", Cookie=cookie).status == 200
    ended.append("visitor")
    assert log_in(guarded).status == 303
    for thread in guessing:
        thread.join()
    assert "visitor" in ended[:2]
    assert len(ended) == 9


@pytest.mark.parametrize("path", ["/sauron/", "/sauron/login", "/sauron/voila/static/voila.js"])
def test_who_guesses_without_the_form_waits_too(guarded: Served, path: str) -> None:
    began = time.monotonic()
    assert Answer(guarded, path, Authorization="Bearer a guess").status == 403
    assert time.monotonic() - began >= 1


def test_while_many_guess_no_token_is_looked_at(runs: Path) -> None:
    """Few are many here, so that a slow machine has as many waiting at a time."""
    few = "import sauron_viz.gate as g; g._MOST_WAITING = 4; g._WRONG_TOKEN_DELAY_S = 5"
    served = Served(runs, "dashboard", "--base-url", "sauron", "--no-preload", first=few, SAURON_TOKEN=TOKEN)
    try:
        guessing = [threading.Thread(target=log_in, args=(served, "a guess")) for _ in range(8)]
        for thread in guessing:
            thread.start()
        wait_until(lambda: log_in(served).status == 429)
        right = Answer(served, "/sauron/voila/static/voila.js", Authorization=f"Bearer {TOKEN}")
        assert (right.status, "Too many wrong tokens" in right.text) == (429, True)
        for thread in guessing:
            thread.join()
        wait_until(lambda: log_in(served).status == 303)
    finally:
        served.stop()


def test_other_paths_lead_to_the_page_or_say_that_there_is_none(guarded: Served) -> None:
    for path in ("/", "/sauron"):
        sent = Answer(guarded, f"{path}?run=rats")
        assert (sent.status, sent.headers["Location"]) == (303, "/sauron/?run=rats")
    for path in (
        "/sauron/nothing",
        "/other/",
        "/sauronx/",
        "/voila/static/voila.js",
        "/sauron/api/kernels",
        "/sauron/voila/templates/lab/static/../../../../etc/passwd",
        "/sauron/voila/%2e%2e/x",
    ):
        missing = Answer(guarded, path)
        assert missing.status == 404
        assert 'href="/sauron/"' in missing.text


@pytest.mark.parametrize(
    "path", ["/sauron/", "/sauron/login", "/sauron/voila/static/voila.js", "/sauron/voila/files/x", "/none", "/"]
)
def test_every_answer_has_headers_that_keep_browsers_in_bounds(guarded: Served, cookie: str, path: str) -> None:
    for headers in ({}, {"Cookie": cookie}):
        if path == "/sauron/" and headers:
            continue  # starts a kernel; the browser tests look at that page
        got = Answer(guarded, path, **headers).headers
        policy = got["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors '" in policy
        assert "*" not in policy
        assert "http:" not in policy
        assert got["X-Content-Type-Options"] == "nosniff"
        assert got["Referrer-Policy"] == "same-origin"
        assert "Server" not in got


def test_pages_of_other_hosts_can_neither_change_nor_embed_anything(guarded: Served, cookie: str) -> None:
    shutdown = f"/sauron/voila/api/shutdown/{KERNEL}"
    assert "another host" in Answer(guarded, shutdown, "POST", Cookie=cookie, Origin="http://evil.example").text
    own = Answer(guarded, shutdown, "POST", Cookie=cookie, Origin=f"http://127.0.0.1:{guarded.port}")
    assert own.status == 204
    embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    assert Answer(guarded, "/sauron/", Cookie=cookie, **embedded).status == 403
    opened = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert Answer(guarded, "/sauron/", **opened).status == 200


def test_without_a_token_no_proxy_is_answered(dashboard: Served) -> None:
    refused = Answer(dashboard, "/voila/static/voila.js", X_Forwarded_For="192.0.2.1")
    assert refused.status == 403
    assert "start it with SAURON_TOKEN set" in refused.text
    assert Answer(dashboard, "/voila/static/voila.js").status == 200
    assert Answer(dashboard, "/login?run=rats").headers["Location"] == "/?run=rats"


def test_the_token_is_told_to_nobody(runs: Path) -> None:
    # Of a forked kernel, the system shows only what the process had that it was forked from.
    started = "import sauron_viz.prefork as p; p.available = lambda: False"
    served = Served(runs, "dashboard", "--no-preload", first=started, SAURON_TOKEN=TOKEN)
    try:
        cookie = Answer(served, f"/?token={TOKEN}").cookie
        log_in_failed = Answer(served, "/?token=a-wrong-one")
        page = Answer(served, f"/?run=rats&token={TOKEN}", Cookie=cookie)
        page = Answer(served, page.headers["Location"], Cookie=cookie)
        assert "jupyter-config-data" in page.text
        environments = [process.environ() for process in served.kernels()]
    finally:
        printed = served.stop()
    assert len(environments) == 1
    assert environments[0]["QUERY_STRING"] == "run=rats"
    for told in (page.text, log_in_failed.text, printed, json.dumps(environments)):
        assert TOKEN not in told
        assert "a-wrong-one" not in told
    assert "a wrong token from 127.0.0.1" in printed


def outer_address() -> str:
    """An address of this machine that others could reach, "" where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
        return "" if address.startswith("127.") else address


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses_are_listened_on_when_asked(runs: Path, host: str) -> None:
    address = outer_address()
    if not address:
        pytest.skip("this machine has no address besides its own")
    if host == "::" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    served = Served(runs, "dashboard", "--no-preload", "--host", host, SAURON_TOKEN=TOKEN)
    try:
        assert Answer(served, "/login", host=address).status == 200
        assert Answer(served, "/voila/static/voila.js", host=address).status == 403
        if host == "::":
            assert Answer(served, "/login", host="::1").status == 200
    finally:
        served.stop()


def test_an_empty_token_in_the_environment_is_not_taken_for_none(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("", "short"):
        monkeypatch.setenv("SAURON_TOKEN", given)
        done = CliRunner().invoke(app, ["serve", str(runs), "--no-browser"])
        assert isinstance(done.exception, ServeError)
        assert "at least 16 characters" in str(done.exception)


def test_help_teaches_tokens_proxies_and_where_more_is_said() -> None:
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    for word in ("--host", "--token", "SAURON_TOKEN", "--base-url", "docs/serving.md", "systemd", "https"):
        assert word in text


def test_a_failure_in_a_callback_is_a_sentence_and_a_traceback_in_a_file() -> None:
    def fail() -> None:
        raise ZeroDivisionError("of what nobody expected")

    notice = Notice()
    notice.guard(fail)()
    assert f"Something went wrong in this view; {log_file()} says what." in notice.value
    assert "nobody expected" not in notice.value
    written = log_file().read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in written
    assert "ZeroDivisionError: of what nobody expected" in written

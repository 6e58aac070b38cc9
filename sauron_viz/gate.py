"""The one way in: every request, to whatever route, passes the gate before Voila sees it. Slow to import."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, partial
from http.client import responses
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode
from weakref import WeakSet, ref

import jinja2
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, OutputTransform, RequestHandler, create_signed_value, decode_signed_value

from sauron_train.words import counted
from sauron_viz.access import TOKEN, Access, is_local, same, same_origin

REMEMBERED_DAYS = 30
_WRONG_TOKEN_DELAY_S = 1.0
_MOST_WAITING = 64
# Images that are uploaded come over the web socket, piece by piece.
_LARGEST_BODY = 2**20
# Kernels get it in their environment; one that names a hundred runs is a tenth of it.
_LONGEST_QUERY = 2**15
_POLICY = "Content-Security-Policy"
_log = logging.getLogger("sauron_viz.server")

handed_out: ContextVar[Callable[[], None]] = ContextVar("handed_out")
"""Called, while a request is answered, once its page has a kernel: from then on the kernel is what counts."""

Answer = tuple[type[RequestHandler], dict[str, Any]]

# What the page needs: Voila's scripts stand in the page, the widgets' are imported from blobs, plotly.js is compiled.
_PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    ]
)
_PLAIN_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# With "no-referrer" browsers would hide the origin of a form, too, which is how foreign ones are told.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def pages() -> jinja2.Environment:
    """The pages that are not Voila's: login and errors."""
    folder = Path(__file__).parent / "templates" / "pages"
    return jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True)


class Gate(Router):
    """Lets requests through to Voila or answers itself. Stands in for Voila's application where it listens.

    Args:
        app: Voila's application.
        access: who may come in.
        key: what kernels of this server show when they ask which visitor they were prepared for.
    """

    def __init__(self, app: Application, access: Access, key: str) -> None:
        self.app, self.access, self.key = app, access, key
        self.guesses = Guesses(access)
        self._own = Application(log_function=log_failure)
        self.settings = app.settings
        # Tornado tells of every request that has ended where it would write its log.
        self.settings["log_function"] = self._request_ended
        # Requests for pages that have no process yet, of which many may come in the same moment.
        self._opening: WeakSet[HTTPServerRequest] = WeakSet()
        for answering in (app, self._own):
            answering.add_transform(SafeHeaders)

    def listen(self, port: int, host: str) -> None:
        """Begin to answer. Behind a proxy, its headers say who asks, and whether over https."""
        server = HTTPServer(self, xheaders=True, max_body_size=_LARGEST_BODY)
        # "::" alone would leave out the addresses of the older kind.
        server.listen(port, "" if host == "::" else host)

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate | None:
        """Who answers a request."""
        given = _take_token(request)
        answer = self._misplaced(request) or self._asking(request, given) or self._crowded(request)
        return self._own.get_handler_delegate(request, *answer) if answer else self.app.find_handler(request)

    def _misplaced(self, request: HTTPServerRequest) -> Answer | None:
        """The answer to a request that should not have come here; None if it is well here."""
        why, base, path = self._foreign(request), self.access.base_url, request.path
        if why:
            return Refusal, {"sentence": why}
        if len(request.query) > _LONGEST_QUERY:
            return Refusal, {"status": 414, "sentence": "This address is too long. Open the page without its query."}
        if ".." in unquote(path).split("/"):
            return Nothing, {"base_url": base}
        if path in (base, self.access.login_path) or path.startswith((f"{base}voila/", f"{base}api/kernels/")):
            return None
        if path in ("/", base.rstrip("/")):
            return Elsewhere, {"target": base + _query(request)}
        return Nothing, {"base_url": base}

    def _asking(self, request: HTTPServerRequest, given: str | None) -> Answer | None:
        """The answer to somebody who has to log in, or just has; None to who may pass."""
        base, login = self.access.base_url, self.access.login_path
        inside, page = self._is_inside(request), request.path in (base, login)
        if inside and page and (given is not None or request.path == login):
            return Elsewhere, {"target": base + _query(request)}
        if inside:
            return None
        if _bearer(request) and self.guesses.too_many:
            return Refusal, {"status": 429, "sentence": "Too many wrong tokens were given just now; try again soon."}
        if not page or _bearer(request):
            return Refusal, {"guesses": self.guesses if _bearer(request) else None}
        if given is not None or request.path == login:
            return Login, {"access": self.access, "guesses": self.guesses, "given": given}
        return Ask, {"target": login + _query(request)}

    def _crowded(self, request: HTTPServerRequest) -> Answer | None:
        """The answer to a visitor for whom there is no room, because every page has a process of its own."""
        most = self.access.most_pages
        if not most or request.path != self.access.base_url:
            return None
        if self.settings["kernel_manager"].visited() + len(self._opening) < most:
            self._opening.add(request)
            # What answers the request runs in a copy of this context.
            handed_out.set(partial(self._discard, ref(request)))
            return None
        kept = f"at most {counted(most, 'page')} at a time"
        sentence = f"This server keeps {kept}, and none is free. Try again in a few minutes."
        return Nothing, {"base_url": request.path + _query(request), "status": 503, "sentence": sentence}

    def _discard(self, opening: ref[HTTPServerRequest]) -> None:
        # Held weakly: a request whose visitor left before it was answered is to be forgotten.
        if (request := opening()) is not None:
            self._opening.discard(request)

    def _request_ended(self, handler: RequestHandler) -> None:
        self._opening.discard(handler.request)
        log_failure(handler)

    def _is_inside(self, request: HTTPServerRequest) -> bool:
        if request.path.startswith(f"{self.access.base_url}voila/query/"):
            # Only kernels ask this; they are on this machine, and have no cookie.
            return same(_bearer(request), self.key)
        if not self.access.token or self.guesses.right(_bearer(request)):
            return True
        cookie = request.cookies.get(self.access.cookie)
        signed = decode_signed_value(
            self.access.key, self.access.cookie, cookie.value if cookie else "", max_age_days=REMEMBERED_DAYS
        )
        return signed is not None

    def _foreign(self, request: HTTPServerRequest) -> str:
        """Why a request is none of a visitor's, "" if it may be one."""
        headers = request.headers
        if not self.access.token:
            if not is_local(request.host):
                return f"Without a token, this server answers to localhost alone: start it with {TOKEN} set."
            if any(name in headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip")):
                return f"Without a token, this server answers to no proxy: start it with {TOKEN} set."
        changes = request.method not in ("GET", "HEAD") or headers.get("Upgrade", "").lower() == "websocket"
        if changes:
            own = "Origin" not in headers or same_origin(headers["Origin"], request.host)
            return (
                "" if own else "This came from a page of another host; a proxy must pass the Host header on as it came."
            )
        embeds = headers.get("Sec-Fetch-Dest", "document") != "document"
        if embeds and headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            return "This was asked for by a page of another host."
        return ""


class Guesses:
    """Makes who guesses tokens wait, and nobody else; while many wait already, no further token is looked at."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._waiting = 0

    def right(self, given: str) -> bool:
        """Whether it is the token."""
        return not self.too_many and self.access.opens(given)

    @property
    def too_many(self) -> bool:
        """Whether all wait."""
        return self._waiting >= _MOST_WAITING

    async def wrong(self, request: HTTPServerRequest) -> None:
        """Note a wrong token, and let its giver wait."""
        if self.too_many:
            return
        _log.warning("a wrong token from %s", request.remote_ip)
        self._waiting += 1
        try:
            await asyncio.sleep(_WRONG_TOKEN_DELAY_S)
        finally:
            self._waiting -= 1


class Refusal(RequestHandler):
    """Answers with one sentence."""

    def initialize(self, status: int = 403, sentence: str = "Log in first.", guesses: Guesses | None = None) -> None:
        """Keep what to say; `guesses` where a wrong token was given."""
        self.set_status(status)
        self.sentence, self.guesses = sentence, guesses

    async def prepare(self) -> None:
        """Say it, to whatever method."""
        if self.guesses:
            await self.guesses.wrong(self.request)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{self.sentence}\n")


class Nothing(RequestHandler):
    """Says that there is no such page, or none just now, and where there is one."""

    def initialize(self, base_url: str, status: int = 404, sentence: str = "") -> None:
        """Keep where the page is."""
        self.base_url, self.sentence = base_url, sentence
        self.set_status(status)

    def prepare(self) -> None:
        """Say it, to whatever method."""
        words = {
            "status_code": self.get_status(),
            "status_message": responses[self.get_status()],
            "base_url": self.base_url,
            "sentence": self.sentence,
        }
        self.set_header("Cache-Control", "no-store")
        self.finish(pages().get_template("error.html").render(words))


class Elsewhere(RequestHandler):
    """Sends the browser to an address below this server."""

    def initialize(self, target: str) -> None:
        """Keep where to."""
        self.target = target

    def prepare(self) -> None:
        """Go there with GET, whatever the method was."""
        self.set_header("Cache-Control", "no-store")
        self.redirect(self.target, status=303)


class Ask(RequestHandler):
    """Sends somebody without a cookie to the login page.

    By way of a page of its own: who comes by a link from another site has a cookie that the browser keeps back until
    a page of this one asks. The login page then sees it, and lets them pass.
    """

    def initialize(self, target: str) -> None:
        """Keep where to."""
        self.target = target

    def prepare(self) -> None:
        """Answer whatever the method was."""
        self.set_header(_POLICY, _PLAIN_POLICY)
        self.set_header("Cache-Control", "no-store")
        self.finish(pages().get_template("ask.html").render(target=self.target))


class Login(RequestHandler):
    """Asks for the token; who gives it, by form or in the address, is remembered and sent on to the page."""

    def initialize(self, access: Access, guesses: Guesses, given: str | None) -> None:
        """Keep what stood in the address."""
        self.access, self.guesses, self.given = access, guesses, given

    async def get(self) -> None:
        """Show the form, unless the address already held the token."""
        if self.given is None:
            self._form("")
        else:
            await self._try(self.given)

    async def post(self) -> None:
        """Try what was typed."""
        await self._try(self.get_body_argument("token", ""))

    async def _try(self, given: str) -> None:
        if self.guesses.too_many:
            self.set_status(429)
            self._form("Many wrong tokens were given just now. Try again in a few seconds.")
        elif self.guesses.right(given):
            self._remember()
            self.redirect(self.access.base_url + _query(self.request), status=303)
        else:
            await self.guesses.wrong(self.request)
            self.set_status(403)
            self._form("This is not the token.")

    def _remember(self) -> None:
        signed = create_signed_value(self.access.key, self.access.cookie, "inside").decode()
        self.set_cookie(
            self.access.cookie,
            signed,
            expires_days=REMEMBERED_DAYS,
            path=self.access.base_url,
            httponly=True,
            samesite="Strict",
            secure=self.request.protocol == "https",
        )

    def _form(self, problem: str) -> None:
        target = self.access.login_path + _query(self.request)
        self.set_header(_POLICY, _PLAIN_POLICY)
        self.set_header("Cache-Control", "no-store")
        form = pages().get_template("login.html")
        self.finish(form.render(problem=problem, target=target, days=REMEMBERED_DAYS))


class SafeHeaders(OutputTransform):
    """Puts on every answer, of whichever handler, what keeps a browser from doing more with it than it should."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Called by tornado before the headers are sent."""
        if not headers.get(_POLICY, "").startswith("default-src"):
            headers[_POLICY] = _PAGE_POLICY
        for name, value in _HEADERS.items():
            headers[name] = value
        headers.pop("Server", None)
        return status_code, headers, chunk


def log_failure(handler: RequestHandler) -> None:
    """Tell of answers that should not be, without the query: it says what somebody looked at."""
    if handler.get_status() >= 500:
        _log.error("%s %s answered %d", handler.request.method, handler.request.path, handler.get_status())


def _take_token(request: HTTPServerRequest) -> str | None:
    """The token in the address, None if there is none; it is taken out, so that nobody logs it or hands it on."""
    pairs = parse_qsl(request.query, keep_blank_values=True)
    found = [value for key, value in pairs if key == "token"]
    if not found:
        return None
    request.query = urlencode([pair for pair in pairs if pair[0] != "token"])
    request.uri = request.path + _query(request)
    for arguments in (request.arguments, request.query_arguments):
        arguments.pop("token", None)
    return found[-1].strip()


def _query(request: HTTPServerRequest) -> str:
    return f"?{request.query}" if request.query else ""


def _bearer(request: HTTPServerRequest) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() in ("bearer", "token") else ""

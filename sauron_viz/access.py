"""Who reaches a served page, and how: the address listened on, the path below it, and the token that opens it."""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

from sauron_train.errors import SauronError

HOST = "127.0.0.1"
TOKEN = "SAURON_TOKEN"
SHORTEST_TOKEN = 16
_MAKE_A_TOKEN = f"export {TOKEN}=$(python3 -c 'import secrets; print(secrets.token_urlsafe())'); echo ${TOKEN}"
_EVERY_ADDRESS = {"0.0.0.0": HOST, "::": "localhost"}


class ServeError(SauronError):
    """The views cannot be served as asked."""


@dataclass(frozen=True)
class Access:
    """Checked by `access`.

    `host` is a name or address of this machine, `base_url` begins and ends with a slash, `token` is "" where everybody
    on this machine may come in, and `most_pages` may be open at a time, 0 = as many as like.
    """

    host: str = HOST
    base_url: str = "/"
    token: str = field(default="", repr=False)
    most_pages: int = 0

    @property
    def login_path(self) -> str:
        """Where the token is asked for."""
        return f"{self.base_url}login"

    def from_here(self, port: int) -> str:
        """Where kernels find the server: its web sockets, from this machine."""
        host = _EVERY_ADDRESS.get(self.host, self.host)
        return f"ws://{_in_address(host)}:{port}{self.base_url}"

    def shown(self, port: int) -> str:
        """The address to tell people, as far as this machine knows it."""
        host = socket.gethostname() if self.host in _EVERY_ADDRESS else self.host
        return f"http://{_in_address(host)}:{port}{self.base_url}"

    @cached_property
    def key(self) -> bytes:
        """What cookies are signed with: the same after a restart, another with another token."""
        return hashlib.scrypt(self.token.encode(), salt=b"sauron-viz cookie", n=2**14, r=8, p=1)

    @cached_property
    def cookie(self) -> str:
        """The cookie's name: cookies know no ports, so two servers of one machine must not share it."""
        return f"sauron-{hmac.digest(self.key, self.base_url.encode(), 'sha256').hex()[:10]}"

    def opens(self, given: str) -> bool:
        """Whether this is the token, in a time that tells nothing about it."""
        return bool(self.token) and same(given, self.token)


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def same(given: str, secret: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing about the secret."""
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(secret.encode()).digest())


def access(host: str = HOST, base_url: str = "/", token: str | None = None) -> Access:
    """Who may come in, after looking whether it is safe.

    Raises:
        ServeError: a token that is none, none for a host beyond this machine, or a path that is none.
    """
    made = Access(host.strip("[] "), _base_url(base_url), _token(token))
    if not made.token and not all(ipaddress.ip_address(known).is_loopback for known in addresses(made.host)):
        raise ServeError(f"--host {host} lets other machines in, which needs a token; make one with: {_MAKE_A_TOKEN}")
    return made


def addresses(host: str) -> list[str]:
    """The addresses that a host stands for.

    Raises:
        ServeError: it stands for none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ServeError(
            f"--host {host} is neither a name nor an address; 0.0.0.0 stands for all addresses of this machine"
        ) from None
    return [str(place[0]).split("%")[0] for *_, place in found]


def is_local(host: str) -> bool:
    """Whether the `Host` of a request names this machine to itself, with a port or without."""
    name = host_name(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def host_name(host: str) -> str:
    """A host without its port, in small letters."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of that origin comes from that host; "null", which a page in a sandbox sends, does not."""
    try:
        return "://" in origin and urlsplit(origin.lower()).netloc == host.lower()
    except ValueError:
        return False


def free(host: str, port: int) -> None:
    """Look whether the port can be listened on.

    Raises:
        ServeError: it is taken, not allowed, or the host is another machine.
    """
    for address in addresses(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise ServeError(_why_not(error, host, port)) from None


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine; 0.0.0.0 stands for all that it has"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another with --port"
    return f"port {port} cannot be used ({error.strerror}); choose another with --port"


def _base_url(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if any(not re.fullmatch(r"[A-Za-z0-9_.~-]+", part) or set(part) == {"."} for part in parts):
        raise ServeError(
            f"--base-url {path} is no path; give what comes after the host, of letters, digits and - _ . ~, as /sauron/"
        )
    return "/".join(["", *parts, ""])


def _token(token: str | None) -> str:
    if token is None:
        return ""
    kept = token.strip()
    if len(kept) < SHORTEST_TOKEN or not kept.isprintable() or not kept.isascii():
        raise ServeError(
            f"the token must have at least {SHORTEST_TOKEN} characters, letters and digits best; "
            f"make one with: {_MAKE_A_TOKEN}"
        )
    return kept

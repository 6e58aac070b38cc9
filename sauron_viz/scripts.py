"""The scripts of Voila and its widgets in one file, which a page asks for at once instead of a hundred one by one.

Their bundler cut them into numbered parts. Each part only registers functions under their numbers, so that parts can
come in any order, and before what calls them. What a page needs and does not find it asks for by itself, as without us.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_core.paths import jupyter_path
from tornado.web import RequestHandler

# What a page of Voila 0.5.13 asked for; `python benchmarks/scripts_of_a_page.py` tells for another version.
_VOILA = """
73 143 225 431 457 614 630 1187 1601 1621 1670 1996 2121 2296 2772 2829 2930 3144 3249 3307 3311 3459 3649 3916 3989
3992 4041 4135 4173 4222 4371 4486 4653 4729 4875 4972 5044 5312 5688 5764 5767 5992 6008 6049 6074 6305 6382 6468 6573
7155 7245 7259 7393 7483 7556 7598 7770 7883 8017 8135 8487 8766 8773 8862 8925 9081 9151 9212 9582 9684 9890 9981
"""
_EXTENSIONS = {
    "anywidget": "2 528",
    "@jupyter-widgets/jupyterlab-manager": "7 32 84 121 160 170 452 704 718 967",
    "@voila-dashboards/widgets-manager8": "496 883",
}
# On a busy machine a page may need longer than its parts are willing to wait, and what they miss they miss for good:
# anywidget for the script of a widget, Jupyter's widgets for each other, and for the kernel's answer.
_PATIENCE = (
    (re.compile(rb"(AbortSignal\.timeout\()2000\b"), rb"\g<1>120000"),
    (re.compile(rb"(Date\.now\(\)-\w+<)2e3\b"), rb"\g<1>12e4"),
    (re.compile(rb'("Control comm did not respond in time"\),)4e3\b'), rb"\g<1>12e4"),
)
_REMEMBERED_S = 365 * 24 * 3600


@dataclass(frozen=True)
class Scripts:
    """All parts, one after the other."""

    source: bytes

    @property
    def version(self) -> str:
        """Part of their address, which a browser may therefore remember for good."""
        return hashlib.sha256(self.source).hexdigest()[:16]


def gather() -> Scripts:
    """Read the parts as they are installed; numbers that another version does not have are passed over."""
    parts = [*_parts(jupyter_path("voila", "templates", "base", "static"), _VOILA)]
    for name, numbers in _EXTENSIONS.items():
        places = [jupyter_path(*above, "labextensions", name, "static") for above in ((), ("voila",))]
        parts += _parts([*places[0], *places[1]], numbers)
    # Each in a function of its own, so that strictness stays where its author declared it.
    return Scripts(b"".join(b"(() => {%b\n})();\n" % _patient(part) for part in parts))


def _patient(part: bytes) -> bytes:
    for limit, longer in _PATIENCE:
        part = limit.sub(longer, part)
    return part


def _parts(folders: Iterable[str], numbers: str) -> Iterator[bytes]:
    for folder in [Path(folder) for folder in folders if Path(folder).is_dir()][:1]:
        for number in numbers.split():
            for path in sorted(folder.glob(f"{number}.*js")):
                yield path.read_bytes()


class ScriptsHandler(RequestHandler):
    """Hands them out."""

    def initialize(self, scripts: Scripts) -> None:
        """Keep them."""
        self.scripts = scripts

    def get(self) -> None:
        """The same for everybody, for ever: another version has another address."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.set_header("Cache-Control", f"private, max-age={_REMEMBERED_S}, immutable")
        self.finish(self.scripts.source)

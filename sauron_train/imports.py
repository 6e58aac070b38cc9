"""Imports without what they bring along for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERNATIONAL_ADDRESSES = "rfc3987_syntax"
"""Checks of international addresses in JSON schemas. Its import takes four seconds, and nothing here has such ones."""


@contextmanager
def as_if_missing(module: str) -> Iterator[None]:
    """A package is not there, for who tries to import it inside the block and goes on without; unless it is loaded."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]

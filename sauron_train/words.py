"""Numbers and lists of names as one says them."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED = 3


def counted(number: int, one: str, many: str = "") -> str:
    """How many of what: 1 case, 2 cases; `many` where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and a sign that there are more."""
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")

"""Sauron: U-Nets that lose their redundant filters while they train.

Training backend. Importing this package imports no torch, so that commands answer and views open at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sauron_train.pruning.policy import History as History
    from sauron_train.pruning.sauron import Sauron as Sauron

__all__ = ["History", "Sauron"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # These need torch, so they are imported when they are first asked for.
    if name == "Sauron":
        from sauron_train.pruning.sauron import Sauron  # noqa: PLC0415

        return Sauron
    if name == "History":
        from sauron_train.pruning.policy import History  # noqa: PLC0415

        return History
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

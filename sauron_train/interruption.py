"""What ends a command before its time: Ctrl-C, and the word of a scheduler, a shutdown or a dashboard (SIGTERM)."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

BY_CTRL_C = "interrupted by the user"
BY_SIGTERM = "ended by SIGTERM: by a scheduler, a shutdown, Stop in a dashboard, or what had started it"


class Terminated(KeyboardInterrupt):
    """SIGTERM came; what Ctrl-C would have saved is saved."""


def heed_sigterm() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does, and is told from it."""
    signal.signal(signal.SIGTERM, raised)


def raised(number: int, _frame: FrameType | None) -> NoReturn:
    """What a signal's handler raises.

    Raises:
        Terminated: it was SIGTERM.
        KeyboardInterrupt: it was another.
    """
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def words(error: KeyboardInterrupt) -> str:
    """What is said of it in a run folder."""
    return BY_SIGTERM if isinstance(error, Terminated) else BY_CTRL_C


def from_words(message: str) -> KeyboardInterrupt:
    """The inverse of `words`."""
    return Terminated() if message == BY_SIGTERM else KeyboardInterrupt()


def exit_code(error: KeyboardInterrupt) -> int:
    """As shells have it: 128 and the number of the signal."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)

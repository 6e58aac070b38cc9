"""Where both commands begin: Ctrl-C is answered already while Python reads the packages, which takes a second."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType


def begin(module: str) -> None:
    """Call `main` of a module, which is imported here.

    An import that is interrupted ends in a traceback of whichever library it was in, so until the command itself runs
    Ctrl-C ends the process at once; nothing is begun then that could be left half done. Where Ctrl-C is ignored, as
    by what a script starts with &, it stays so.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    main = import_module(module).main
    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os.write(2, b"stopped; nothing was written\n")
    os._exit(130)

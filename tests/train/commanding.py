"""The command line, run in this process through its real entry point."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sauron_train.cli import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def sauron(*arguments: str | Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as leaving,
    ):
        patch.setattr(sys, "argv", ["sauron-train", *map(str, arguments)])
        main()
    code = leaving.value.code
    return Done(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())

"""Which browser the tests use, and what it means that there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser(bundled: str) -> str:
    """The browser that is named, or one of the system, or playwright's own; "" where there is none."""
    named = os.environ.get("SAURON_CHROMIUM")
    if named:
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (bundled if Path(bundled).is_file() else "")


def without_browser(why: str) -> NoReturn:
    """Skip; but where tests run for everybody, a page that nobody opened must not pass for one that works."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(why)
    pytest.skip(f"NO BROWSER TESTS: {why}")

"""Fixtures that all tests share."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

Golden = Mapping[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    """The same inputs each time, unless other ones are asked for; and Ctrl-C is heard.

    Whoever starts the tests in the background has them, and all that they start, deaf to it.
    """
    settings.register_profile("anew", derandomize=False)
    settings.register_profile("repeatable", derandomize=True)
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("repeatable")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden() -> Any:
    """Reads a file of reference numbers by name; the test is skipped where they are not at hand."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"the reference numbers are not here ({folder} is missing)")

    def read(name: str) -> Golden:
        with np.load(folder / f"{name}.npz") as file:
            return dict(file)

    return read


@pytest.fixture(scope="session")
def real_data() -> Any:
    """Path of a real data set by name; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        folder = SHARED / "data" / name
        if not folder.is_dir():
            pytest.skip(f"the data set {name} is not here ({folder} is missing)")
        return folder

    return find

"""Libraries that only exported networks need; what to do where one is missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from sauron_train.errors import ConfigError


def library(name: str, extra: str = "export") -> Any:
    """Import one of the libraries of an extra.

    Raises:
        ConfigError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"does not load ({error})"
        raise ConfigError(f"this needs {name}, which {why}; pip install 'sauron-unet[{extra}]'") from None


def installed(*names: str) -> bool:
    """Whether all of these libraries are there, told without loading them."""
    return all(importlib.util.find_spec(name) is not None for name in names)

"""Recipes: one YAML file is one experiment. A path to a file of your own works wherever a name does."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from sauron_train.errors import ConfigError
from sauron_train.keys import load_yaml


def names() -> list[str]:
    """Recipes that come with Sauron."""
    folder = resources.files(__name__)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load(recipe: str) -> dict[str, Any]:
    """Read a recipe by name, or from a YAML file by path.

    Raises:
        ConfigError: no such recipe (the nearest one is named), or a file that cannot be read.
    """
    if recipe in names():
        text = resources.files(__name__).joinpath(f"{recipe}.yaml").read_text(encoding="utf-8")
        return load_yaml(text, f"recipe {recipe}")
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(recipe, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ConfigError(f"there is no recipe {recipe!r}; {hint}")
    try:
        return load_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(
            f"the recipe {path} is not there; `sauron-train recipes` lists those that come with Sauron"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from None

"""Recipes: one YAML file is one experiment. A path to a file of your own works wherever a name does.

`extends: NAME` or `extends: OTHER.yaml`, beside the file, lays a recipe over another and names only what differs.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from sauron_train.errors import ConfigError
from sauron_train.keys import load_yaml, overlaid


def names() -> list[str]:
    """Recipes that come with Sauron."""
    folder = resources.files(__name__)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load(recipe: str) -> dict[str, Any]:
    """Read a recipe by name, or from a YAML file by path, and whatever it extends.

    Raises:
        ConfigError: no such recipe (the nearest one is named), a file that cannot be read, or recipes that extend each
            other in a circle.
    """
    return _load(recipe, Path(), ())


def _load(recipe: str, folder: Path, above: tuple[str, ...]) -> dict[str, Any]:
    known = recipe in names()
    place = recipe if known else str((folder / recipe).resolve())
    if place in above:
        raise ConfigError(f"recipe {recipe} extends itself, by way of {' and '.join(above[above.index(place) :])}")
    values = _of_ours(recipe) if known else _of_file(folder / recipe, recipe)
    extended = values.pop("extends", None)
    if extended is None:
        return values
    if not isinstance(extended, str):
        raise ConfigError(f"recipe {recipe}: extends must be the name of a recipe or of a YAML file, not {extended!r}")
    return overlaid(_load(extended, folder if known else (folder / recipe).parent, (*above, place)), values)


def _of_ours(name: str) -> dict[str, Any]:
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return load_yaml(text, f"recipe {name}")


def _of_file(path: Path, named: str) -> dict[str, Any]:
    if path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(named, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ConfigError(f"there is no recipe {named!r}; {hint}")
    try:
        return load_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(
            f"the recipe {path} is not there; `sauron-train recipes` lists those that come with Sauron"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from None

"""From what somebody filled in to a configuration, and to the words that say at which field it goes wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.errors import DataError, SauronError
from sauron_train.keys import with_overrides
from sauron_train.mistakes import LISTS_KEYS
from sauron_viz.training.allowed import Allowed, DataFolder, look

LINES = "lines"
"""The field of free `key=value` lines."""

_LONGEST = 4000


@dataclass(frozen=True)
class Setting:
    """A field for one key; left empty it is as the recipe says. `words` are the values to choose from, by name."""

    key: str
    label: str
    hint: str = ""
    words: Mapping[str, str] = field(default_factory=dict)

    def assignment(self, value: str) -> str:
        """As `--set` takes it."""
        if self.key == "data.patch":
            # However it is typed: 96 96, 96 x 96, [96, 96].
            value = f"[{', '.join(filter(None, re.split(r'[][(),;×x ]+', value)))}]"
        return f"{self.key}={value}"


SETTINGS = (
    Setting("epochs", "Epochs"),
    Setting("seed", "Seed", "Of all random choices"),
    Setting("data.batch_size", "Batch size", "Patches per training step"),
    Setting("data.patch", "Patch", "Voxels, one number per dimension of the network"),
    Setting(
        "loss.normalization",
        "δ_opt",
        "How δ_opt is normalised: maps as in Sauron, distances as in δ_prune, none; off = no δ_opt at all",
        {"maps": "maps", "none": "none", "distances": "distances", "off": "off"},
    ),
    Setting("loss.lambda", "λ", "Weight of δ_opt in the loss; 0 only looks at it"),
    Setting("prune.enabled", "Pruning", "Whether filters are cut", {"true": "on", "false": "off"}),
)


@dataclass(frozen=True)
class Line:
    """A line of a configuration: `text` is YAML, `comment` what the key means, `was` what the recipe says instead."""

    text: str
    comment: str = ""
    was: str | None = None


@dataclass(frozen=True)
class Checked:
    """What came of it: the configuration, or the sentences by field; under "" what belongs to no field."""

    recipe: Config | None
    config: Config | None
    problems: Mapping[str, str]
    changes: tuple[str, ...] = ()


def assignments(values: Mapping[str, str], lines: str) -> list[tuple[str, str]]:
    """What was filled in as (field, `key=value`); keys that no field has come last, and win."""
    filled = [(s.key, s.assignment(values[s.key].strip())) for s in SETTINGS if values.get(s.key, "").strip()]
    free = [line.strip() for line in lines.splitlines()]
    return [*filled, *((LINES, line) for line in free if line and not line.startswith("#"))]


def check(recipe: str, values: Mapping[str, str], lines: str = "") -> Checked:
    """Read a recipe with changes.

    Args:
        recipe: as `--recipe` takes it.
        values: what stands in the fields, by key; what is empty is as in the recipe.
        lines: `key=value`, one a line.
    """
    try:
        base = recipes.load(recipe)
        plain = parse(base)
    except SauronError as error:
        return Checked(None, None, {"": str(error)})
    if len(lines) > _LONGEST:
        return Checked(plain, None, {LINES: f"more than {_LONGEST} characters; write a recipe of your own instead"})
    asked = assignments(values, lines)
    changes = tuple(change for _, change in asked)
    try:
        return Checked(plain, parse(with_overrides(base, changes)), {}, changes)
    except SauronError as error:
        sentence = str(error).removeprefix("--set ").replace(LISTS_KEYS, "the configuration beside this lists all keys")
        return Checked(plain, None, {_field_of(sentence, asked, base): sentence}, changes)


def require(recipe: str, data: Path, changes: Sequence[str]) -> Path:
    """Refuse what cannot be trained, as far as names tell.

    Returns:
        The data set's whole path.

    Raises:
        ConfigError, DataError: what is wrong.
    """
    config = parse(with_overrides(recipes.load(recipe), changes))
    folder = Allowed.of([data]).folders[0]
    if why := fit(look(folder.name, folder), config):
        raise DataError(why)
    return folder


def fit(data: DataFolder, config: Config) -> str:
    """Why a data set cannot be trained on with a configuration; "" where it can, as far as names tell."""
    from sauron_train.data.datasets import check_channels, refuse_broken, without  # noqa: PLC0415
    from sauron_train.data.split import split_cases  # noqa: PLC0415

    if data.dataset is None:
        return data.problem
    try:
        check_channels(data.dataset, config)
        kept = without(data.dataset, config.data.discard)
        refuse_broken(kept)
        split_cases(kept, config.data, config.seed)
    except SauronError as error:
        return str(error)
    return ""


def doubt(data: DataFolder, config: Config) -> str:
    """What is odd about a data set for a configuration, though it can be trained; "" where nothing is."""
    if config.network.dim == 3 and data.shape and min(data.shape) == 1:
        return "Its images are single slices, and the recipe's network is 3D; a 2D recipe fits better."
    if (
        config.network.dim == 3
        and data.shape
        and any(2 * s < p for s, p in zip(data.shape, config.data.patch, strict=True))
    ):
        sides = " × ".join(map(str, data.shape))
        return f"Its first image is {sides} voxels, far smaller than the patch; most of each patch would be empty."
    return ""


def explained(config: Config, recipe: Config) -> list[Line]:
    """The whole configuration line by line, with what the recipe says where that is something else."""
    now, before = _flat(config), _flat(recipe)
    lines: list[Line] = []
    section = ""
    for line in config.explained().splitlines():
        text, _, comment = line.partition("  # ")
        key = text.split(":", 1)[0]
        if not text.startswith(" "):
            section = key
        dotted = f"{section}.{key.strip()}" if text.startswith(" ") else key
        changed = dotted in now and now[dotted] != before.get(dotted)
        lines.append(Line(text, comment, as_yaml(before.get(dotted)) if changed else None))
    return lines


def differences(lines: Sequence[Line]) -> int:
    """How many keys are not as the recipe says."""
    return sum(line.was is not None for line in lines)


def value_of(config: Config, key: str) -> str:
    """The value of a key as one would type it."""
    return as_yaml(_flat(config).get(key))


def _field_of(sentence: str, asked: Sequence[tuple[str, str]], base: Mapping[str, Any]) -> str:
    """The field that a sentence speaks of: the one whose change is named first in it."""
    places: list[tuple[int, str]] = []
    for name, change in asked:
        key = change.partition("=")[0].strip()
        found = re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", sentence) if key else None
        if found:
            places.append((found.start(), name))
        elif name == LINES and repr(change) in sentence:
            places.append((0, name))
    if places:
        return min(places)[1]
    # A sentence that names no key: the one change without which it is another.
    for place, (name, _) in enumerate(asked):
        others = [change for i, (_, change) in enumerate(asked) if i != place]
        try:
            parse(with_overrides(base, others))
        except SauronError:
            continue
        return name
    return ""


def _flat(config: Config) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(by_alias=True, mode="json").items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def as_yaml(value: Any) -> str:
    """A value as one types it behind `key=`."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).strip()
    return text.removesuffix("...").strip()

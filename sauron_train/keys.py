"""Nested tables of keys and values: read from YAML, changed by `--set`, laid over each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from sauron_train.errors import ConfigError
from sauron_train.presets import PRESETS

_MOST_NODES = 100_000
_PASSING = ("name", "description", "probe", "maps", "hardware", "data.workers")


def load_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse YAML that must be a table of keys.

    Raises:
        ConfigError: not YAML, not a table, or a key is there twice; `source` is named in the message.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if _written_out(root, {}) > _MOST_NODES:
            raise ConfigError(f"{source} holds more than {_MOST_NODES} values, which no configuration does")
        double = _double(root)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source} is not valid YAML: {_where(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply, or refers to itself") from None
    if double is not None:
        line = double.start_mark.line + 1
        raise ConfigError(f"{source}: {double.value!r} is given twice (line {line}); leave one out")
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a table of keys and values")
    return values


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split())


def _written_out(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values there are when every alias is written out: a few lines of aliases may stand for billions."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        inner = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_written_out(each, known) for each in inner)
    return known[id(node)]


def _double(root: yaml.Node | None) -> yaml.ScalarNode | None:
    """A key that a table has already, of which YAML would quietly take the last; looked for as it is written."""
    left, seen = [root], set()
    while left:
        node = left.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        names = [(key.tag, key.value) for key in keys]
        for place, key in enumerate(keys):
            if names[place] in names[:place]:
                return key
        left += [value for _, value in node.value]
    return None


def with_overrides(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `section.key=value` assignments, as given to `--set`, to nested values; returns a new table.

    Values are read as YAML, so `prune.enabled=false` and `data.patch=[64, 64]` mean what they say. `preset=paper` puts
    the preset's keys over what is there; assignments after it change them again.

    Raises:
        ConfigError: an assignment without `=`, or one that reaches into a value that is no section.
    """
    result = _copy(values)
    for assignment in assignments:
        key, found, text = assignment.partition("=")
        if not found or not key.strip():
            raise ConfigError(f"--set {assignment!r} must have the form section.key=value")
        *path, last = key.strip().split(".")
        section = result
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {assignment!r} reaches into {part!r}, which is a value and no section")
        try:
            section[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment!r}: the value is not valid YAML") from None
        if key.strip() == "preset" and section[last] in PRESETS:
            result = overlaid(result, PRESETS[section[last]])
    return result


def overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one that shares nothing with them: keys of `over` win, tables inside are laid over each other."""
    result = _copy(under)
    for key, value in _copy(over).items():
        below = result.get(key)
        result[key] = overlaid(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def lasting(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of a whole configuration that make the network what it is, in dotted form.

    What only looks at the network, or says where it is trained, may be another when training goes on.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        dotted = prefix + key
        if dotted not in _PASSING:
            flat |= lasting(value, f"{dotted}.") if isinstance(value, Mapping) else {dotted: value}
    return flat


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}

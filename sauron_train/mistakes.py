"""What is wrong with a configuration, in a sentence that names the way out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

# What pydantic finds, as one would say it of a recipe.
_MUST = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a word",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "model_type": "must be a section with keys of its own",
    "dict_type": "must be a table of keys and values",
    "list_type": "must be a list in brackets",
    "too_short": "must have at least {min_length} of what it lists",
}
LISTS_KEYS = "`sauron-train describe RECIPE --config` lists all keys"


def sentence(
    error: ValidationError, known: Sequence[str], allowed: Sequence[str] | None = None, listing: str = LISTS_KEYS
) -> str:
    """The first thing that is wrong.

    Args:
        error: what pydantic found.
        known: all keys of a recipe in dotted form; the nearest one to an unknown key is named.
        allowed: the sections that may be given here, where a recipe has more.
        listing: what to say of an unknown key that is near to none.
    """
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(key, str(first["loc"][-1]), known, allowed, listing)
    if first["type"] == "missing":
        parent, _, last = key.rpartition(".")
        return f"{parent} has too few numbers" if last.isdigit() else f"the configuration lacks {key!r}"
    if first["type"] == "tuple_type":
        return f"{key} must be a list in brackets, as in [64, 64] or [enc_*] (it is {first['input']!r})"
    message = first["msg"].removeprefix("Value error, ")
    if not key or first["type"] == "value_error":
        return f"{key}: {message}" if key and not message.startswith(key) else message
    if must := _MUST.get(first["type"]):
        return f"{key} {must.format(**_context(first))} (it is {first['input']!r})"
    return f"{key}: {message[0].lower()}{message[1:]} (it is {first['input']!r})"


def _context(found: Mapping[str, Any]) -> dict[str, Any]:
    return dict(found.get("ctx", {}))


def _unknown(key: str, last: str, known: Sequence[str], allowed: Sequence[str] | None, listing: str) -> str:
    if "." in last:
        return f"unknown key {key!r}; write tables inside tables, such as {{'prune': {{'kappa': 3}}}}"
    if allowed is not None and key in _sections(known):
        return f"{key!r} belongs to a recipe; here the keys are {', '.join(allowed)}"
    return f"unknown key {key!r}{_suggestion(key, known, listing)}"


def _suggestion(key: str, known: Sequence[str], listing: str) -> str:
    if "." not in key and (near := difflib.get_close_matches(key, _sections(known), n=1)):
        return f"; did you mean {near[0]!r}?"
    by_last = {k.rsplit(".", 1)[-1]: k for k in known}
    near = difflib.get_close_matches(key, known, n=1) or [
        by_last[last] for last in difflib.get_close_matches(key.rsplit(".", 1)[-1], list(by_last), n=1)
    ]
    return f"; did you mean {near[0]!r}?" if near else f"; {listing}"


def _sections(known: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in known))

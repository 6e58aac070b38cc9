"""What the commands make of texts and files that name epochs and filters."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from sauron_train.errors import ConfigError


def named_epochs(text: str, stored: Collection[int]) -> set[int]:
    """Epochs that are named, and of ranges those that are stored.

    Raises:
        ConfigError: neither numbers nor ranges.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and not last:
            last = "?"
        if not first.isdigit() or (last and not (last.isdigit() and int(first) <= int(last))):
            raise ConfigError(f"--epochs {text!r} must be numbers and ranges, as in 1,5,10-20")
        within = {epoch for epoch in stored if last and int(first) <= epoch <= int(last)}
        found |= within if last else {int(first)}
    return found


def image_size(text: str, dim: int, multiple: int) -> tuple[int, ...]:
    """Sides of an image, as in 160x160.

    Raises:
        ConfigError: not as many numbers as the network has dimensions, or sides that it cannot halve often enough.
    """
    parts = text.lower().split("x")
    sides = tuple(int(part) for part in parts if part.strip().isdigit())
    if len(sides) != len(parts) or len(sides) != dim:
        raise ConfigError(
            f"--size {text!r} must be {dim} numbers with an x between them, as in {'x'.join(['128'] * dim)}"
        )
    if any(side % multiple or side < 2 * multiple for side in sides):
        raise ConfigError(f"--size {text} must have sides that are multiples of {multiple}, at least {2 * multiple}")
    return sides


def filter_table(path: Path) -> dict[str, list[int]]:
    """Filters by layer, from a JSON file.

    Raises:
        ConfigError: no such table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON ({error})") from None
    good = isinstance(table, dict) and all(
        isinstance(numbers, list) and all(isinstance(n, int) for n in numbers) for numbers in table.values()
    )
    if not good:
        raise ConfigError(f'{path} must hold a table of layers and filter numbers, as in {{"dec_conv_5": [0, 7]}}')
    return dict(table)

"""What of a network can be pruned, what cannot and why, in words."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from sauron_train.errors import ConfigError
from sauron_train.pruning.graph import ChannelGraph


def report(graph: ChannelGraph, exclude: Sequence[str] = ()) -> str:
    """Some lines: what can be pruned, which layers are decided as one, what is left whole and for which reason.

    Args:
        graph: the network.
        exclude: name patterns of the layers that a user leaves out.
    """
    lines = [f"{len(graph.layers)} layers with {sum(graph.widths().values()):,} filters can be pruned."]
    together = [" + ".join(group) for group in graph.groups() if len(group) > 1]
    if together:
        lines += ["Decided as one, because a sum or a group norm ties their maps:", *_indented(together)]
    if left_out := excluded(graph.layers, exclude):
        lines.append(f"Excluded, so never cut: {', '.join(left_out)}")
    if graph.reasons:
        by_reason: dict[str, list[str]] = {}
        for name, reason in graph.reasons.items():
            by_reason.setdefault(reason, []).append(name or "the network itself")
        lines.append("Left whole:")
        lines += _indented(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    if graph.not_understood:
        lines.append("Not understood, so what reaches it is left whole:")
        lines += _indented(f"{what} in {where}" for where, what in graph.not_understood.items())
    return "\n".join(lines)


def excluded(layers: Iterable[str], exclude: Sequence[str]) -> list[str]:
    """The layers that a user leaves out by patterns of their names."""
    return [name for name in layers if any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def refuse_exclude(graph: ChannelGraph, patterns: Sequence[str]) -> None:
    """Refuse patterns of `prune.exclude` that fit no layer, and such that leave none to be pruned.

    Raises:
        ConfigError: says which, and what was meant.
    """
    names = [*graph.layers, *graph.reasons]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            inside = [f"{pattern}.*"] if fnmatch.filter(names, f"{pattern}.*") else []
            near = inside or difflib.get_close_matches(pattern, names, n=1) or names[:1]
            raise ConfigError(f"prune.exclude names {pattern!r}, which fits no layer; did you mean {near[0]!r}?")
    if graph.layers and all(any(fnmatch.fnmatchcase(name, p) for p in patterns) for name in graph.layers):
        raise ConfigError("prune.exclude names every layer, so nothing would be pruned; leave some out")

"""Asks an app for a frame as its page does."""

from __future__ import annotations

from typing import Any

from sauron_viz.apps import Dashboard


def ask(app: Any, epoch: int) -> tuple[dict[str, Any], list[Any]]:
    """What the browser gets when it wants a frame."""
    grid = (app.panels["maps"] if isinstance(app, Dashboard) else app.panel).grid
    sent: list[tuple[dict[str, Any], list[Any]]] = []
    grid.send = lambda content, buffers=None: sent.append((content, buffers or []))
    grid._answer(grid, {"want": epoch, "base": grid.base}, [])
    return sent[0]

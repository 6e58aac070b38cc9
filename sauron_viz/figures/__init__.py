"""Pure functions from tables and maps to figures; no widget, no state, no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sauron_viz.figures.overview import dice_against_flops
from sauron_viz.figures.progress import cost_lines, dice_lines, loss_lines
from sauron_viz.figures.pruning import filter_bars, share_map
from sauron_viz.figures.trends import measure_by_layer, measure_lines, measures

if TYPE_CHECKING:
    from sauron_viz.figures.gallery import second_to_last

__all__ = [
    "cost_lines",
    "dice_against_flops",
    "dice_lines",
    "filter_bars",
    "loss_lines",
    "measure_by_layer",
    "measure_lines",
    "measures",
    "second_to_last",
    "share_map",
]


def __getattr__(name: str) -> Any:
    # Dashboards draw no galleries, and need not wait until what those need is loaded.
    if name == "second_to_last":
        from sauron_viz.figures.gallery import second_to_last  # noqa: PLC0415

        return second_to_last
    raise AttributeError(name)

"""Pure functions from tables and maps to figures; no widget, no state, no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sauron_viz.figures.decisions import decision_lines
from sauron_viz.figures.heat import layer_heat
from sauron_viz.figures.measures import Measure, grid_of, measure, measures
from sauron_viz.figures.overview import dice_against_flops
from sauron_viz.figures.progress import cost_lines, progress_lines
from sauron_viz.figures.trends import measure_by_layer, measure_lines, measure_multiples

if TYPE_CHECKING:
    from sauron_viz.figures.gallery import second_to_last

__all__ = [
    "Measure",
    "cost_lines",
    "decision_lines",
    "dice_against_flops",
    "grid_of",
    "layer_heat",
    "measure",
    "measure_by_layer",
    "measure_lines",
    "measure_multiples",
    "measures",
    "progress_lines",
    "second_to_last",
]


def __getattr__(name: str) -> Any:
    # Dashboards draw no galleries, and need not wait until what those need is loaded.
    if name == "second_to_last":
        from sauron_viz.figures.gallery import second_to_last  # noqa: PLC0415

        return second_to_last
    raise AttributeError(name)

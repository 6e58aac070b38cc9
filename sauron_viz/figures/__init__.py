"""Pure functions from tables to plotly figures; no widget, no state, no file."""

from sauron_viz.figures.progress import cost_lines, dice_lines, loss_lines
from sauron_viz.figures.pruning import filter_bars, share_map
from sauron_viz.figures.trends import measure_lines, measures

__all__ = ["cost_lines", "dice_lines", "filter_bars", "loss_lines", "measure_lines", "measures", "share_map"]

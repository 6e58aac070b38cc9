"""The feature-map explorer: which maps say the same thing, what went, and what would go."""

from sauron_viz.widgets.explorer.panel import ExplorerPanel

__all__ = ["ExplorerPanel"]

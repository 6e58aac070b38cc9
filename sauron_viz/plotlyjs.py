"""plotly.js as every page gets it: the build for charts with two axes, a third of the whole.

It is the file of the npm package plotly.js-cartesian-dist-min, unchanged (MIT). The whole, which the Python package
brings, also draws maps and solids; a browser takes more than twice as long to start it.
"""

from __future__ import annotations

import functools
import gzip
from importlib.resources import files

_SOURCE = files("sauron_viz").joinpath("templates/voila/templates/sauron/static/plotly-cartesian.min.js")


@functools.cache
def packed(level: int = 1) -> bytes:
    """Compressed by gzip, the same bytes each time."""
    return gzip.compress(_SOURCE.read_bytes(), compresslevel=level, mtime=0)

"""What is used of MONAI: scores and sliding windows.

`import monai` brings all of MONAI, which takes longer than torch; so it is asked for where something is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sauron_train.imports import INTERNATIONAL_ADDRESSES, as_if_missing


def sliding_windows() -> Callable[..., Any]:
    """`monai.inferers.sliding_window_inference`."""
    with as_if_missing(INTERNATIONAL_ADDRESSES):
        from monai.inferers.utils import sliding_window_inference  # noqa: PLC0415
    return cast("Callable[..., Any]", sliding_window_inference)


def surface_dice() -> Callable[..., Any]:
    """`monai.metrics.compute_surface_dice`."""
    with as_if_missing(INTERNATIONAL_ADDRESSES):
        from monai.metrics.surface_dice import compute_surface_dice  # noqa: PLC0415
    return cast("Callable[..., Any]", compute_surface_dice)


def surfaces() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`get_mask_edges` and `get_surface_distance` of `monai.metrics.utils`."""
    with as_if_missing(INTERNATIONAL_ADDRESSES):
        from monai.metrics.utils import get_mask_edges, get_surface_distance  # noqa: PLC0415
    return get_mask_edges, get_surface_distance

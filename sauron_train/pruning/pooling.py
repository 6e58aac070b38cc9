"""Average pooling of maps and the way back, on a CPU far faster than PyTorch's own pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Size, Tensor
from torch.nn import functional as F

_AVERAGING: dict[int, Callable[..., Tensor]] = {4: F.avg_pool2d, 5: F.avg_pool3d}
"""By the axes of maps; one kernel each, where a GPU takes longer to launch several than to compute them."""


def pool(maps: Tensor, window: int) -> Tensor:
    """Average pooling with stride = window over all spatial axes; what does not fill a window is left out.

    The window is clamped on an axis that is shorter (design choice).

    Args:
        maps: (B, C, *spatial).
        window: ω in voxels.
    """
    cells = math.prod(windows(maps.shape, window))
    return window_sums(maps, window) / cells if cells > 1 else maps


def window_sums(maps: Tensor, window: int) -> Tensor:
    """As `pool`, but sums in place of means."""
    if maps.is_cuda and maps.ndim in _AVERAGING:
        sides = windows(maps.shape, window)
        return maps if math.prod(sides) == 1 else _AVERAGING[maps.ndim](maps, sides, divisor_override=1)
    for axis, side in enumerate(windows(maps.shape, window), start=2):
        if side == 1:
            continue
        length = maps.shape[axis] // side * side
        # Adding strided slices axis by axis is several times faster on a CPU than the pooling kernels.
        parts = [_strided(maps, axis, start, length, side) for start in range(side)]
        maps = parts[0] + parts[1]
        for part in parts[2:]:
            maps += part
    return maps


def spread(pooled: Tensor, window: int, shape: Size) -> Tensor:
    """Backward of `window_sums`: each value in all voxels of its window; voxels outside all windows get 0.

    Args:
        pooled: gradient of what `window_sums` gave.
        window: ω.
        shape: of the maps that were pooled.
    """
    filled = [own * side for own, side in zip(pooled.shape[2:], windows(shape, window), strict=True)]
    if filled != list(pooled.shape[2:]):
        # "exact" asks for the middle of each voxel, where no rounding of the scale can reach the next cell.
        pooled = F.interpolate(pooled, size=filled, mode="nearest-exact")
    missing = [whole - own for own, whole in zip(filled, shape[2:], strict=True)]
    return F.pad(pooled, [edge for side in reversed(missing) for edge in (0, side)]) if any(missing) else pooled


def pooled_sides(shape: Size, window: int) -> tuple[int, ...]:
    """Spatial sides of maps (B, C, *spatial) when they are pooled."""
    return tuple(side // own for side, own in zip(shape[2:], windows(shape, window), strict=True))


def windows(shape: Sequence[int], window: int) -> tuple[int, ...]:
    """ω on each spatial axis of maps (B, C, *spatial), no longer than the axis."""
    return tuple(min(window, side) for side in shape[2:])


def _strided(maps: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    return maps[(slice(None),) * axis + (slice(start, stop, step),)]

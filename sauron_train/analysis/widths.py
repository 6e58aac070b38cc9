"""Widths that a layer may be cut to: multiples of the number of channels in which kernels work (design choice).

A kernel takes as long for 17 channels as for 24 or 32, because it works through them in blocks; the size of a block is
the machine's. So filters are better kept until a whole block can go.
"""

from __future__ import annotations


def next_width(filters: int, multiple: int) -> int:
    """The smallest width that a layer may be cut to which is no less than `filters`.

    Above the multiple those are its multiples. Below it they are halves of it, halves of those and so on, down to 1:
    a fraction of a block costs the kernel as much as a whole one, but not what comes after it, and so each half is
    worth its step.

    Args:
        filters: at least 1.
        multiple: 1 allows every width.
    """
    if filters > multiple:
        return -(-filters // multiple) * multiple
    while multiple // 2 >= filters:
        multiple //= 2
    return multiple


def widths_below(filters: int, multiple: int) -> list[int]:
    """The widths that a layer of `filters` may be cut to, from wide to narrow; its own is not among them."""
    return [width for width in range(filters - 1, 0, -1) if next_width(width, multiple) == width]


def told(multiple: int) -> str:
    """Which widths those are, in words, as in `cut to` ...; nothing where every width is allowed."""
    if multiple == 1:
        return ""
    below = ", ".join(str(width) for width in widths_below(multiple, multiple))
    return f"multiples of {multiple}, below that to {below}"

"""What can be done to a label map after the network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels belong together that share a face, an edge or a corner: 26 neighbours."""


def largest_components(labels: npt.NDArray[np.uint8], classes: Iterable[int]) -> npt.NDArray[np.uint8]:
    """Keep the largest connected component of each of some classes; the rest of them becomes background.

    Args:
        labels: (X, Y, Z) class numbers.
        classes: numbers of the classes, each looked at by itself.

    Returns:
        A new label map. Of components of the same size the one that begins first in memory stays.
    """
    from scipy import ndimage  # noqa: PLC0415 - needed only where it is asked for

    kept = labels.copy()
    boxes = ndimage.find_objects(labels)
    for number in classes:
        box = boxes[number - 1] if number <= len(boxes) else None
        if box is None:
            continue
        mask = labels[box] == number
        components, count = ndimage.label(mask, structure=TOUCHING)
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            kept[box][mask & (components != sizes.argmax())] = 0
    return kept

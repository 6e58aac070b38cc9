"""What is odd about a data set without being wrong for certain: it is trained on, and said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sauron_train.data.geometry import Affine, Geometry, millimetres
from sauron_train.data.nifti import Header
from sauron_train.data.types import Case, Volume

# By their headers, files of a case that are further apart than this are told of. Half a voxel is what two ways to count
# voxels differ by, from their corners or from their centres: design choice.
_APART_VOXELS = 0.75
_NAMED = 3


def apart(case: Case, headers: Sequence[Header]) -> float:
    """How many voxels a file of a case lies beside the first one by its header, at the corner where it is worst.

    0 where they agree within what is usual, where a header does not say how its file lies, and for layouts whose labels
    belong to the voxels whatever the headers say.
    """
    first = headers[0]
    if case.by_voxels or first.affine is None:
        return 0.0
    corners = np.stack(np.meshgrid(*([0, side - 1] for side in first.shape)), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(first.affine)
    worst = max((_shift(inverse @ h.affine, corners) for h in headers[1:] if h.affine is not None), default=0.0)
    return worst if worst > _APART_VOXELS else 0.0


def _shift(between: Affine, corners: np.ndarray) -> float:
    moved = corners @ between[:3, :3].T + between[:3, 3]
    return float(np.abs(moved - corners).max())


def of_headers(found: Iterable[tuple[Case, float]]) -> tuple[str, ...]:
    """A sentence about the cases whose files lie beside each other, with by how many voxels each does."""
    beside = [(case.name, voxels) for case, voxels in found if voxels]
    if not beside:
        return ()
    most = max(voxels for _, voxels in beside)
    return (
        f"{_cases([name for name, _ in beside])}: by their headers image and label lie up to {most:.3g} voxels beside "
        "each other; they were laid voxel on voxel, so look whether the label fits, or correct the wrong header",
    )


def of_volumes(train: Sequence[Volume], validation: Sequence[Volume]) -> tuple[str, ...]:
    """Sentences about preprocessed cases: one value everywhere, no structure, voxels of an unusual size."""
    typical = Geometry.of_volumes(train)
    volumes = (*train, *validation)
    flat = [v.name for v in volumes if any(bool(channel.min() == channel.max()) for channel in v.image)]
    bare = [v.name for v in volumes if v.label is not None and not bool(v.label.any())]
    odd = [v for v in volumes if typical.unusual(v.spacing)]
    said = []
    if flat:
        said.append(f"{_cases(flat)}: an image with one value everywhere; look at the file, or name it in data.discard")
    if bare:
        said.append(f"{_cases(bare)}: the label has no structure, only background")
    if odd:
        said.append(
            f"{_cases([v.name for v in odd])}: voxels of {millimetres(odd[0].spacing)} where "
            f"{millimetres(typical.spacing)} are usual in training; correct the header, or set preprocess.spacing so "
            "that all are alike"
        )
    return tuple(said)


def _cases(names: Sequence[str]) -> str:
    named = ", ".join(names[:_NAMED])
    if len(names) == 1:
        return f"case {named}"
    return f"{len(names)} cases ({named}{', …' if len(names) > _NAMED else ''})"

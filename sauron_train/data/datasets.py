"""Data sets on disk, in whichever of the known layouts.

Everything that can be told from names and headers is checked before a voxel is read, so that a data set fails in its
first second and not in its first night.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from sauron_train.config import Config
from sauron_train.data import remarks
from sauron_train.data.geometry import axes_of, is_turn, turn_onto
from sauron_train.data.layouts import names_of
from sauron_train.data.nifti import Header, read_header, times
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError
from sauron_train.words import counted, listed

_SPACING_TOLERANCE = 0.01


def read_dataset(root: Path, discarded: Collection[str] = ()) -> Dataset:
    """Read and check a data set in one of the layouts of `sauron_train.data.layouts`.

    Args:
        root: its folder.
        discarded: names of cases that will not be used, so that it does not matter what is wrong with them.

    Raises:
        DataError: anything that is missing, unreadable, contradictory or not supported; the file or case is named.
    """
    dataset = examine(root)
    refuse_broken(dataset, discarded)
    return dataset


def refuse_broken(dataset: Dataset, discarded: Collection[str] = ()) -> None:
    """Refuse cases that cannot be used, but those that will not be.

    Raises:
        DataError: what is wrong with the first, and which others there are.
    """
    broken = [name for name in dataset.broken if name not in discarded]
    if not broken:
        return
    first, *others = broken
    more = (
        f" ({counted(len(others), 'more case')} cannot be used either: {listed(others)}; `sauron-train preprocess` "
        "says what is wrong with each)"
    )
    raise DataError(dataset.broken[first] + (more if others else ""))


def examine(root: Path) -> Dataset:
    """Read and check a data set; of cases that cannot be used, `broken` says why.

    Raises:
        DataError: what is wrong with all of it, so that there are no cases to speak of.
    """
    root = Path(root)
    text, dataset = names_of(root)
    digest = hashlib.sha256(text)
    cases, beside, broken = [], [], dict(dataset.broken)
    for case in dataset.cases:
        try:
            checked = list(check_case(case))
        except DataError as error:
            broken[case.name] = str(error)
            continue
        cases.append(case)
        beside.append((case, remarks.apart(case, [header for _, header in checked])))
        for path, header in checked:
            digest.update(f"{path.relative_to(root).as_posix()}\0{header.size}\0".encode() + header.block)
    return replace(
        dataset,
        cases=tuple(cases),
        fingerprint=digest.hexdigest(),
        remarks=(*dataset.remarks, *remarks.of_headers(beside)),
        broken=broken,
    )


def read_names(root: Path) -> Dataset:
    """What the names of a data set's files tell, without opening them: it has no fingerprint yet.

    Raises:
        DataError: what is missing or contradictory by names, for all cases.
    """
    return names_of(Path(root))[1]


def without(dataset: Dataset, discarded: Iterable[str]) -> Dataset:
    """The data set without some cases; names that it does not have are remarked on, because a part of it will do.

    Raises:
        DataError: nothing would be left.
    """
    gone = list(dict.fromkeys(discarded))
    kept = tuple(case for case in dataset.cases if case.name not in gone)
    broken = {name: why for name, why in dataset.broken.items() if name not in gone}
    if not kept and not broken:
        raise DataError(f"data.discard names every case of {dataset.name}; leave some")
    known = [*(case.name for case in dataset.cases), *dataset.broken]
    said = remarks.of_discarded(gone, known)
    return replace(dataset, cases=kept, broken=broken, remarks=(*dataset.remarks, *said))


def check_channels(dataset: Dataset, config: Config) -> None:
    """Refuse a data set with another number of channels than the recipe is made for.

    Raises:
        DataError: it has.
    """
    wanted = config.data.channels
    if wanted is not None and wanted != len(dataset.channels):
        raise DataError(
            f"{dataset.name} has {len(dataset.channels)} channels but the recipe is made for {wanted}; "
            "choose another data set or change data.channels"
        )


def check_case(case: Case) -> Iterable[tuple[Path, Header]]:
    """Check the headers of a case's files, and that all lie on one grid.

    Raises:
        DataError: one that cannot be used, or other voxels, voxel sizes or axes than the first.
    """
    paths = [*case.images, *([case.label] if case.label else [])]
    headers = [read_header(path) for path in paths]
    first = headers[0]
    for path, header in zip(paths[1:], headers[1:], strict=True):
        if header.shape != first.shape:
            raise DataError(
                f"case {case.name}: {path.name} is {times(header.shape)} voxels but {paths[0].name} is "
                f"{times(first.shape)}; put them on one grid"
            )
        if any(abs(a - b) > _SPACING_TOLERANCE * b for a, b in zip(header.spacing, first.spacing, strict=True)):
            raise DataError(
                f"case {case.name}: {path.name} has voxels of {_mm(header)} but {paths[0].name} of {_mm(first)}; "
                "correct the header that is wrong"
            )
        _refuse_turned(case, path, header, paths[0], first)
    return zip(paths, headers, strict=True)


def _refuse_turned(case: Case, path: Path, header: Header, onto: Path, first: Header) -> None:
    """A label whose axes lead elsewhere would be laid on the wrong voxels, and nobody would see it in the loss."""
    if (
        case.by_voxels
        or header.affine is None
        or first.affine is None
        or not is_turn(turn_onto(header.affine, first.affine))
    ):
        return
    raise DataError(
        f"case {case.name}: the axes of {path.name} lead to {axes_of(header.affine)} but those of {onto.name} to "
        f"{axes_of(first.affine)}, so their voxels do not lie on each other; put them on one grid, or correct the "
        "header that is wrong"
    )


def _mm(header: Header) -> str:
    return " x ".join(f"{side:g}" for side in header.spacing) + " mm"

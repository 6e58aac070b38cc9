"""What the layouts share: looking into folders without stumbling over what others leave in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sauron_train.data.damage import no_file
from sauron_train.data.nifti import ENDINGS
from sauron_train.data.types import Case
from sauron_train.errors import DataError


def images_of(folder: Path, ending: str) -> list[Path]:
    """Files that end like images, in the order of their names."""
    # Finder and tar leave "._name" files behind that end like images.
    return sorted(file for file in folder.iterdir() if file.name.endswith(ending) and not file.name.startswith("."))


def folders_of(folder: Path) -> list[Path]:
    """Folders within one, in the order of their names, hidden ones left out."""
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def image_named(folder: Path, stem: str) -> Path | None:
    """The image with this name, packed or not; None if there is none."""
    return next((folder / f"{stem}{end}" for end in ENDINGS if (folder / f"{stem}{end}").is_file()), None)


def needed(folder: Path, stem: str, case: str) -> Path:
    """The image with this name.

    Raises:
        DataError: there is none; the case is named.
    """
    found = image_named(folder, stem)
    if found is None:
        for path in (folder / f"{stem}{end}" for end in ENDINGS):
            if instead := no_file(path):
                raise DataError(f"{path} {instead}")
        raise DataError(f"case {case} lacks {stem}.nii.gz in {folder}; add it or remove the case's folder")
    return found


def sorted_out(makers: Iterable[tuple[str, Callable[[], Case]]]) -> tuple[tuple[Case, ...], dict[str, str]]:
    """The cases that can be made, and of the others why not, by name; `makers` are names with what makes each case."""
    cases, broken = [], {}
    for name, make in makers:
        try:
            cases.append(make())
        except DataError as error:
            broken[name] = str(error)
    return tuple(cases), broken


def outermost(root: Path, inner: Sequence[str]) -> Path:
    """The folder that holds the cases, where a data set was unpacked with one or two folders around it."""
    for name in inner:
        if (root / name).is_dir():
            root = root / name
    return root

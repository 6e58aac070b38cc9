"""What a view may train: recipes that come with Sauron, and what lies in folders that were named at its start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sauron_train import recipes
from sauron_train.data.types import Dataset
from sauron_train.errors import ConfigError, DataError, SauronError
from sauron_train.runlog import RunInfo
from sauron_train.words import counted

ENVIRONMENT = "SAURON_TRAINING"
"""Folders, separated as in PATH; a served view learns from it what it may train. Without it nothing."""

_DEEPEST = 3
_MOST = 200


@dataclass(frozen=True)
class DataFolder:
    """A data set that was found: `key` names it among all, `dataset` is what names tell, or `problem` why nothing."""

    key: str
    path: Path
    dataset: Dataset | None
    problem: str = ""
    shape: tuple[int, ...] = ()
    """Voxels of the first image; empty where it cannot be read."""

    @property
    def title(self) -> str:
        """Where it lies, and its name if the folder does not say it already, as Dataset004_Hippocampus does."""
        name = self.dataset.name if self.dataset else self.key
        return self.key if name.casefold() in self.key.casefold() else f"{name} ({self.key})"

    @property
    def about(self) -> str:
        """How many cases, which channels, which labels."""
        if self.dataset is None:
            return self.problem
        cases, channels = len(self.dataset.cases), self.dataset.channels
        structures = [name for name, value in self.dataset.labels.items() if value]
        return (
            f"{counted(cases, 'case')}; {counted(len(channels), 'channel')}: {', '.join(channels)}; "
            f"{counted(len(structures), 'structure')}: {', '.join(structures)}"
        )


@dataclass
class Allowed:
    """Folders that hold data sets and, as YAML files at their top, recipes; a folder may be a data set itself."""

    folders: tuple[Path, ...]
    _known: dict[Path, tuple[object, DataFolder]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, folders: Sequence[Path | str]) -> Allowed:
        """Check what a user names.

        Raises:
            DataError: no such folder.
        """
        paths = [Path(folder).expanduser().resolve() for folder in folders]
        for path in paths:
            if not path.is_dir():
                raise DataError(f"{path} is not a folder; give the folder that holds your data sets, or one data set")
        return cls(tuple(dict.fromkeys(paths)))

    @classmethod
    def from_environment(cls) -> Allowed | None:
        """What this process was told when it was started; None where nothing may be trained."""
        named = [part for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part]
        return cls(tuple(Path(part) for part in named)) if named else None

    def datasets(self) -> dict[str, DataFolder]:
        """Data sets by key: the path below the folder that was named. What is read of one is kept until it changes."""
        found: dict[str, DataFolder] = {}
        for folder in self.folders:
            for path in _walk(folder, _DEEPEST):
                key = folder.name if path == folder else path.relative_to(folder).as_posix()
                if key in found:
                    key = path.as_posix()
                found[key] = self._read(key, path)
                if len(found) == _MOST:
                    return found
        return found

    def dataset(self, key: str) -> DataFolder:
        """The data set of a key.

        Raises:
            DataError: none of those that may be trained on.
        """
        found = self.datasets().get(key)
        if found is None:
            raise DataError(f"{key!r} is no data set that may be trained on here")
        return found

    def holds(self, path: Path) -> bool:
        """Whether a data set lies in one of the folders."""
        place = path.resolve()
        return any(place.is_relative_to(folder) for folder in self.folders)

    def data_of(self, info: RunInfo) -> Path | None:
        """The data set that a run goes on with; None = where it was, if that may be trained on.

        Raises:
            DataError: it lies elsewhere, or is gone and no data set of that name is here.
        """
        root = Path(info.data_root)
        if root.is_dir():
            if self.holds(root):
                return None
            raise DataError(
                f"its data set lies in {root}, which may not be trained on from here; resume it in a terminal"
            )
        same = [data.path for data in self.datasets().values() if data.dataset and data.dataset.name == info.dataset]
        if not same:
            raise DataError(f"its data set, {info.dataset}, is not in {root} any more, and none of that name is here")
        return same[0]

    def recipes(self) -> dict[str, str]:
        """What `--recipe` is given for each recipe, by the name it is shown under."""
        known = {name: name for name in recipes.names()}
        for folder in self.folders:
            for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
                if path.is_file() and path.resolve().is_relative_to(folder):
                    known.setdefault(path.name, str(path))
        return known

    def recipe(self, key: str) -> str:
        """What `--recipe` is given.

        Raises:
            ConfigError: none of those that may be trained.
        """
        known = self.recipes()
        if key not in known:
            raise ConfigError(f"{key!r} is no recipe that may be trained here")
        return known[key]

    def _read(self, key: str, path: Path) -> DataFolder:
        stamp = (key, *(_stamp(path / part) for part in ("", "dataset.json", "imagesTr", "labelsTr")))
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            self._known[path] = known = (stamp, look(key, path))
        return known[1]


def permit(folders: Sequence[Path], runs: Path) -> None:
    """Let the views that this process serves train, or take care that they do not.

    Args:
        folders: what they may train on; none = they train nothing, whatever the environment says.
        runs: the folder that runs go into; made if training may be the first thing that happens in it.

    Raises:
        DataError: no such folder.
    """
    os.environ.pop(ENVIRONMENT, None)
    if folders:
        os.environ[ENVIRONMENT] = os.pathsep.join(map(str, Allowed.of(folders).folders))
        runs.mkdir(parents=True, exist_ok=True)


def _walk(folder: Path, deeper: int) -> Iterator[Path]:
    """Data sets in a folder, by name; a link is looked at but not followed."""
    # nibabel, which only they need who train.
    from sauron_train.data.layouts import is_dataset  # noqa: PLC0415

    try:
        found = is_dataset(folder)
    except OSError:
        return
    if found:
        yield folder
        return
    if not deeper:
        return
    try:
        with os.scandir(folder) as entries:
            inner = sorted((e.name, e.is_symlink()) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return
    for name, link in inner:
        yield from _walk(folder / name, 0 if link else deeper - 1)


def look(key: str, path: Path) -> DataFolder:
    """What can be told of a data set without reading its images; `problem` says why it is none."""
    from sauron_train.data.datasets import read_names  # noqa: PLC0415
    from sauron_train.data.nifti import read_header  # noqa: PLC0415

    try:
        dataset = read_names(path)
    except SauronError as error:
        return DataFolder(key, path, None, str(error))
    try:
        shape = read_header(dataset.cases[0].images[0]).shape if dataset.cases else ()
    except SauronError:
        shape = ()
    return DataFolder(key, path, dataset, shape=shape)


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0

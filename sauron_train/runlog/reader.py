"""Reads run folders, also while they are written, without torch and without touching what is not asked for."""

from __future__ import annotations

import io
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from sauron_train.analysis.distances import squared
from sauron_train.config import Config, parse
from sauron_train.errors import RunError
from sauron_train.keys import load_yaml
from sauron_train.runlog import files
from sauron_train.runlog.process import is_running
from sauron_train.runlog.schema import Array, LayerDistances, Probe, Pruning, RunInfo, refuse_unsound

SeenStatus = Literal["running", "finished", "stopped", "failed", "lost"]

_EPOCH_FOLDER = re.compile(r"epoch_(\d+)")
_EPOCH_FILE = re.compile(r"epoch_(\d+)\.safetensors")


class Run:
    """One run folder. Tables are read anew at every call, so a run that is still training is seen as it grows."""

    def __init__(self, path: Path | str) -> None:
        """Open a run folder.

        Raises:
            RunError: no run folder there.
        """
        self.path = Path(path)
        if not self.path.exists():
            raise RunError(f"{self.path} is not there; give a run folder")
        if not (self.path / files.INFO).is_file():
            raise RunError(f"{self.path} is not a run folder: it has no {files.INFO}")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config(self) -> Config:
        """The configuration as it is now, defaults included.

        Raises:
            RunError, ConfigError: the file is missing or damaged.
        """
        path = self.path / files.CONFIG
        try:
            text = _read(path).decode()
        except UnicodeDecodeError:
            raise RunError(f"{path} is damaged: it is no UTF-8 text") from None
        return parse(load_yaml(text, str(path)))

    @property
    def info(self) -> RunInfo:
        """What `run.json` says now.

        Raises:
            RunError: missing, damaged or of a newer format.
        """
        path = self.path / files.INFO
        return RunInfo.from_json(_read(path), str(path))

    @property
    def status(self) -> SeenStatus:
        """Like `info.status`, but "lost" for a run whose process on this machine is gone."""
        info = self.info
        here = info.host == socket.gethostname()
        if info.status == "running" and here and not is_running(info.pid, info.process_identity):
            return "lost"
        return info.status

    def epochs(self) -> pd.DataFrame:
        """`epochs.csv`: one row per committed epoch."""
        return _read_table(self.path / files.EPOCHS)

    def layers(self) -> pd.DataFrame:
        """`layers.csv`: one row per committed epoch and layer."""
        return self._committed(_read_table(self.path / files.LAYERS))

    def prunings(self) -> list[Pruning]:
        """The decision records of committed epochs, in the order they were made.

        Raises:
            RunError: a line that is no record.
        """
        path = self.path / files.PRUNINGS
        last = self.last_epoch
        records = [Pruning.from_json(line, str(path)) for line in whole_lines(path).splitlines()]
        return [record for record in records if record.epoch <= last]

    @property
    def last_epoch(self) -> int:
        """The last committed epoch; 0 before the first."""
        epochs = self.epochs()
        return int(epochs["epoch"].iloc[-1]) if len(epochs) else 0

    def map_epochs(self) -> list[int]:
        """Committed epochs whose maps are stored."""
        last = self.last_epoch
        return [epoch for epoch in _numbered(self.path / files.MAPS, _EPOCH_FOLDER) if epoch <= last]

    def map_layers(self, epoch: int) -> list[str]:
        """Layers whose maps are stored at an epoch, in the order of the network."""
        folder = self.path / files.epoch_folder(epoch)
        return [layer.name for layer in self.info.layers if (folder / f"{layer.name}.safetensors").is_file()]

    def maps_folder(self, epoch: int) -> Path:
        """Where the maps of an epoch lie, if they are stored."""
        return self.path / files.epoch_folder(epoch)

    def maps(self, epoch: int, layer: str) -> MapsFile:
        """Open the maps of a layer at an epoch; arrays are read when asked for.

        Raises:
            RunError: not stored.
        """
        path = self.path / files.maps_file(epoch, layer)
        if not path.is_file():
            raise RunError(f"run {self.name} has no maps of {layer} at epoch {epoch}")
        return MapsFile(path)

    def distance_epochs(self) -> list[int]:
        """Committed epochs at which it is stored how the maps of every layer lie to each other."""
        last = self.last_epoch
        return [e for e in _numbered(self.path / files.DISTANCES, _EPOCH_FILE) if e <= last]

    def distances(self, epoch: int, layers: Iterable[str] | None = None) -> dict[str, LayerDistances]:
        """How the maps of each layer, or of some, lie to each other at an epoch, layer name to arrays.

        Raises:
            RunError: not stored or damaged.
        """
        path = self.path / files.distances_file(epoch)
        names = [field.name for field in fields(LayerDistances)]
        wanted = [layer.name for layer in self.info.layers] if layers is None else list(layers)
        tensors, _ = _read_tensors(path, tuple(f"{layer}/{name}" for layer in wanted for name in names))
        return {layer: LayerDistances(**{name: tensors[f"{layer}/{name}"] for name in names}) for layer in wanted}

    def probe(self) -> Probe:
        """The probe images and labels.

        Raises:
            RunError: not stored or damaged.
        """
        tensors, metadata = _read_tensors(self.path / files.MAPS / files.PROBE, ("images", "labels"))
        return Probe(
            images=tensors["images"].astype(np.float32),
            labels=tensors["labels"],
            names=tuple(metadata["names"]),
            spacing=tuple(metadata["spacing"]),
        )

    def prediction(self, epoch: int) -> Array:
        """Label maps (P, *spatial) predicted for the probe images at an epoch whose maps are stored.

        Raises:
            RunError: not stored or damaged.
        """
        path = self.path / files.epoch_folder(epoch) / files.PREDICTION
        return _read_tensors(path, ("labels",))[0]["labels"]

    def checkpoints(self) -> dict[int, Path]:
        """Committed epochs whose weights are stored, and where."""
        last = self.last_epoch
        epochs = _numbered(self.path / files.CHECKPOINTS, _EPOCH_FILE)
        return {epoch: self.path / files.checkpoint_file(epoch) for epoch in epochs if epoch <= last}

    def checkpoint(self, epoch: int | None = None) -> tuple[int, Path]:
        """An epoch whose weights are stored, the last if none is named, and where they are.

        Raises:
            RunError: no weights, or none of that epoch.
        """
        stored = self.checkpoints()
        if not stored:
            raise RunError(f"run {self.name} has no weights: its first epoch is not over, or its checkpoints are gone")
        if epoch is not None and epoch not in stored:
            raise RunError(f"run {self.name} keeps no weights of epoch {epoch}, only of {', '.join(map(str, stored))}")
        chosen = max(stored) if epoch is None else epoch
        return chosen, stored[chosen]

    def evaluation(self) -> dict[str, Any] | None:
        """The result of `sauron-train evaluate`, if it was run."""
        path = self.path / files.EVALUATION
        if not path.is_file():
            return None
        try:
            values = json.loads(_read(path))
        except (ValueError, RecursionError):
            raise RunError(f"{path} is damaged: it is not valid JSON") from None
        if not isinstance(values, dict):
            raise RunError(f"{path} is damaged: it holds no table")
        return values

    def _committed(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[table["epoch"] <= self.last_epoch].reset_index(drop=True)


@dataclass(frozen=True)
class MapsFile:
    """Maps of one layer at one epoch, on disk; only the image asked for is read."""

    path: Path

    @cached_property
    def filters(self) -> Array:
        """Original numbers (C,) of the filters that were left."""
        return self._tensor("filters")

    @cached_property
    def delta_prune(self) -> Array:
        """δ_prune (C,) as measured in that epoch before its cut; NaN where it was not."""
        return self._tensor("delta_prune")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(P, C, *spatial) of the stored maps."""
        with self._open() as file:
            return tuple(file.get_slice("maps").get_shape())

    @cached_property
    def pooling(self) -> int:
        """Side of the average pooling between the layer's own resolution and what is stored."""
        with self._open() as file:
            return int(json.loads(file.metadata()["pooling"]))

    def image(self, index: int) -> Array:
        """Maps (C, *spatial) float16 of one probe image."""
        with self._open() as file:
            return np.asarray(file.get_slice("maps")[index])

    def distances(self, index: int | None = None) -> Array:
        """Distances (C, C) float32 between all maps of one probe image; None = mean over the images."""
        with self._open() as file:
            if index is not None:
                pairs = np.asarray(file.get_slice("pairs")[index])
            else:
                pairs = np.asarray(file.get_tensor("pairs").mean(axis=0))
        return squared(pairs, self.shape[1])

    def _tensor(self, name: str) -> Array:
        with self._open() as file:
            return np.asarray(file.get_tensor(name))

    def _open(self) -> Any:
        try:
            return safe_open(self.path, framework="np")
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.path, error) from None


def find_runs(root: Path | str) -> list[Run]:
    """All runs in a folder, however deep, sorted by path. The folder may be a run itself.

    Folders inside a run and links are not followed.

    Raises:
        RunError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder; give the folder that holds your runs")
    return sorted(_walk(root), key=lambda run: str(run.path))


def _walk(folder: Path) -> Iterator[Run]:
    if (folder / files.INFO).is_file():
        yield Run(folder)
        return
    try:
        with os.scandir(folder) as entries:
            inner = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except OSError:
        # Not ours to read, or gone since its parent was listed: the runs beside it are shown all the same.
        return
    for child in inner:
        yield from _walk(child)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    if not folder.is_dir():
        return []
    matches = (pattern.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in matches if match)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None


def whole_lines(path: Path) -> bytes:
    """The content of a file up to the end of its last whole line.

    Raises:
        RunError: it cannot be read.
    """
    # A line without its end is still being written, or was torn by a crash: it does not count.
    content = _read(path)
    return content[: content.rfind(b"\n") + 1]


def _read_table(path: Path) -> pd.DataFrame:
    content = whole_lines(path)
    if not content:
        raise RunError(f"{path} is damaged: it has no header")
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None
    return refuse_unsound(table, path)


def _read_tensors(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: np.asarray(file.get_tensor(name)) for name in names}
            return tensors, {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    except FileNotFoundError:
        raise RunError(f"{path} is not there; this run has not stored it") from None
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> RunError:
    if not path.is_file():
        return RunError(f"{path} is not there; this run has not stored it")
    if isinstance(error, OSError):
        return RunError(f"{path} cannot be read: {error.strerror or error}")
    return RunError(
        f"{path} is damaged: it is not whole, or not what training wrote; sauron-train check tells what is left of the "
        "run"
    )

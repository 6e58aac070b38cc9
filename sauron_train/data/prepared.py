"""Preprocessed cases on disk: read and resampled once, and from then on mapped into memory by whoever trains on them.

A cache holds a folder for each data set and preprocessing. A case counts as there once its description is, which is
written last and says of which files, as they were, it was made; another version of a file, or of what resamples, makes
it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from sauron_train.config import Config
from sauron_train.data.types import Case, Dataset, Volume
from sauron_train.errors import DataError

FORMAT = 1
_BYTES_PER_VOXEL = 4


@dataclass(frozen=True)
class Store:
    """The preprocessed cases of one data set under one preprocessing."""

    folder: Path
    settings: str

    @classmethod
    def of(cls, cache: Path, dataset: Dataset, config: Config) -> Store:
        """The part of a cache that belongs to a data set and a configuration; nothing is made yet."""
        settings = json.dumps(
            {
                "format": FORMAT,
                "torchio": version("torchio"),
                "labels": dataset.labels,
                "preprocess": config.preprocess.model_dump(mode="json"),
            },
            sort_keys=True,
        )
        digest = hashlib.sha256(settings.encode()).hexdigest()
        return cls(Path(cache) / f"{quote(dataset.name, safe='')}-{digest[:12]}", digest)

    def get(self, case: Case) -> Volume | None:
        """A case as it was put, mapped into memory; None where it is not there, or its files have changed since."""
        try:
            told = json.loads(self._path(case, "json").read_text(encoding="utf-8"))
            if told["key"] != self._key(case):
                return None
            image = self._map(case, "image", np.float32)
            label = self._map(case, "label", np.uint8) if told["labelled"] else None
            affine = np.array(told["affine"], dtype=np.float64).reshape(4, 4)
            x, y, z = map(float, told["spacing"])
            return Volume(case.name, image, label, (x, y, z), affine)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            # Damaged or half gone: as good as not there.
            return None

    def put(self, case: Case, volume: Volume) -> Volume:
        """Keep a case.

        Returns:
            The same, mapped into memory.

        Raises:
            DataError: it cannot be written, as on a full disk; the cases that were kept before are not harmed.
        """
        told = {
            "case": case.name,
            "key": self._key(case),
            "labelled": volume.label is not None,
            "spacing": list(volume.spacing),
            "affine": np.asarray(volume.affine).ravel().tolist(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self._path(case, "image.npy"), volume.image.numpy())
            if volume.label is not None:
                _write(self._path(case, "label.npy"), volume.label.numpy())
            _write(self._path(case, "json"), json.dumps(told, indent=1) + "\n")
        except OSError as error:
            raise DataError(
                f"case {case.name} cannot be written to {self.folder} ({error.strerror or error}); the cases before it "
                "are kept, so make room and repeat the same command"
            ) from None
        return self.get(case) or volume

    def refuse_full(self, needed: int) -> None:
        """Refuse to begin what cannot end.

        Args:
            needed: bytes, as `size` tells.

        Raises:
            DataError: there is less room where the cache lies.
        """
        place = next(path for path in (self.folder, *self.folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise DataError(
                f"the preprocessed cases need about {needed / 1e9:.1f} GB in {self.folder}, but {free / 1e9:.1f} GB "
                "are free there; make room, or choose another --cache"
            )

    def _map(self, case: Case, what: str, kind: type[Any]) -> torch.Tensor:
        # Copy on write: pages are shared by all processes that read, and nobody can change the file.
        array = np.load(self._path(case, f"{what}.npy"), mmap_mode="c", allow_pickle=False)
        if array.dtype != kind:
            raise ValueError(what)
        return torch.from_numpy(array)

    def _path(self, case: Case, ending: str) -> Path:
        return self.folder / f"{quote(case.name, safe='')}.{ending}"

    def _key(self, case: Case) -> str:
        digest = hashlib.sha256(self.settings.encode())
        for path in (*case.images, *([case.label] if case.label else [])):
            found = path.stat()
            digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def size(shape: tuple[int, ...], spacing: tuple[float, ...], channels: int, config: Config) -> int:
    """Bytes that a case will take, from what its header says; `shape` in voxels, `spacing` in mm."""
    voxels = float(np.prod(shape))
    wanted = config.preprocess.spacing or (None, None, None)
    for old, new in zip(spacing, wanted, strict=True):
        voxels *= old / new if new else 1.0
    return int(voxels * (_BYTES_PER_VOXEL * channels + 1))


def _write(path: Path, content: Any) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                np.save(file, content, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise

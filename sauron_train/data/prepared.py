"""Preprocessed cases on disk: read and resampled once, and from then on mapped into memory by whoever trains on them.

A cache holds a folder for each data set and preprocessing. A case counts as there once its description is, which is
written last and says of which files, as they were, it was made; another version of a file, or of what resamples, makes
it anew.
"""

from __future__ import annotations

import errno
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
from sauron_train.runlog.files import write_json, write_whole

FORMAT = 1
_BYTES_PER_VOXEL = 4
_TELLING = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


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
            key = str(told["key"])
            if key != self.key(case):
                return None
            image = _mapped(self._array(case, key, "image"), np.dtype(np.float32), torch.float32)
            label = (
                _mapped(self._array(case, key, "label"), np.dtype(np.uint8), torch.uint8) if told["labelled"] else None
            )
            affine = np.array(told["affine"], dtype=np.float64).reshape(4, 4)
            x, y, z = map(float, told["spacing"])
            return Volume(case.name, image, label, (x, y, z), affine)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            # Damaged or half gone: as good as not there.
            return None

    def put(self, case: Case, volume: Volume, key: str) -> Volume:
        """Keep a case.

        Args:
            case: which.
            volume: what came of its files.
            key: what `key` said before these were read; if they were replaced meanwhile, they are read again next time.

        Returns:
            The same, mapped into memory.

        Raises:
            DataError: it cannot be written, as on a full disk; the cases that were kept before are not harmed.
        """
        told = {
            "case": case.name,
            "key": key,
            "labelled": volume.label is not None,
            "spacing": list(volume.spacing),
            "affine": np.asarray(volume.affine).ravel().tolist(),
        }
        try:
            old = self._stored_key(case)
            _write_array(self._array(case, key, "image"), volume.image)
            if volume.label is not None:
                _write_array(self._array(case, key, "label"), volume.label)
            write_json(self._path(case, "json"), told)
            if old not in ("", key):
                for what in ("image", "label"):
                    self._array(case, old, what).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"case {case.name} cannot be written to {self.folder} ({error.strerror or error}); the cases before it "
                "are kept, so make room there and repeat the same command"
            ) from None
        return self.get(case) or volume

    def hindrance(self) -> str:
        """Why nothing can be written into the folder, in a sentence; "" where it can."""
        place = self._nearest()
        if not place.is_dir():
            return f"{place} is a file, not a folder"
        try:
            with tempfile.TemporaryFile(dir=place):
                return ""
        except OSError as error:
            # A file system that only seems to be one, as /proc is, has other reasons, which say nothing to anybody.
            why = f" ({error.strerror})" if error.errno in _TELLING else ""
            return f"nothing can be written in {place}{why}"

    def refuse_unwritable(self) -> None:
        """Refuse to begin where nothing can be kept.

        Raises:
            DataError: the folder lies in a file, or nothing can be written there.
        """
        if why := self.hindrance():
            raise DataError(f"{why}; name a folder in which you may write with --cache")

    def refuse_full(self, needed: int) -> None:
        """Refuse to begin what cannot end.

        Args:
            needed: bytes, as `size` tells.

        Raises:
            DataError: there is less room where the cache lies.
        """
        free = shutil.disk_usage(self._nearest()).free
        if needed > free:
            raise DataError(
                f"the preprocessed cases need about {_amount(needed)} in {self.folder}, but {_amount(free)} "
                "are free there; make room, or choose another --cache"
            )

    def _nearest(self) -> Path:
        """The folder, or what there is on the way to it."""
        whole = self.folder.absolute()
        return next(path for path in (whole, *whole.parents) if os.path.exists(path))

    def _path(self, case: Case, ending: str) -> Path:
        return self.folder / f"{quote(case.name, safe='')}.{ending}"

    def _array(self, case: Case, key: str, what: str) -> Path:
        # The key in the name: who reads what another process replaces at this moment finds the old, or nothing.
        return self._path(case, f"{key[:16]}.{what}.npy")

    def _stored_key(self, case: Case) -> str:
        try:
            return str(json.loads(self._path(case, "json").read_text(encoding="utf-8"))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def key(self, case: Case) -> str:
        """What changes with the files of a case, and with the preprocessing."""
        digest = hashlib.sha256(self.settings.encode())
        for path in (*case.images, *([case.label] if case.label else [])):
            found = path.stat()
            digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def _mapped(path: Path, kind: np.dtype[Any], torch_kind: torch.dtype) -> torch.Tensor:
    """An array of a file, copied on write: all processes that read share its pages, and nobody can change the file.

    numpy's own mapping holds the file open, and a data set may have more files than a process may open.

    Raises:
        OSError, ValueError: it is not there, or is not such an array.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(path)
        shape, by_column, stored = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    length = int(np.prod(shape)) * kind.itemsize
    if stored != kind or by_column or path.stat().st_size != start + length:
        raise ValueError(path)
    whole = torch.from_file(str(path), shared=False, size=start + length, dtype=torch.uint8)
    return whole[start:].view(torch_kind).view(shape)


def size(shape: tuple[int, ...], spacing: tuple[float, ...], channels: int, config: Config) -> int:
    """Bytes that a case will take, from what its header says; `shape` in voxels, `spacing` in mm."""
    voxels = float(np.prod(shape))
    wanted = config.preprocess.spacing or (None, None, None)
    for old, new in zip(spacing, wanted, strict=True):
        voxels *= old / new if new else 1.0
    return int(voxels * (_BYTES_PER_VOXEL * channels + 1))


def _write_array(path: Path, tensor: torch.Tensor) -> None:
    write_whole(path, lambda file: np.save(file, tensor.numpy(), allow_pickle=False))


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

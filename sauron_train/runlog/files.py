"""Names of the files in a run folder, and writes that are whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from sauron_train.runlog.ledger import Sum
from sauron_train.runlog.schema import Array, safe_file_name

CONFIG = "config.yaml"
INFO = "run.json"
EPOCHS = "epochs.csv"
LAYERS = "layers.csv"
PRUNINGS = "prunings.jsonl"
EVALUATION = "evaluation.json"
EVALUATION_TABLE = "evaluation.csv"
CHECKPOINTS = "checkpoints"
MAPS = "maps"
DISTANCES = "distances"
PROBE = "probe.safetensors"
PREDICTION = "prediction.safetensors"
DAMAGED = "damaged"
"""Folder of what `repair` has put aside; nothing reads it."""

_TEMPORARY = re.compile(r"\..+\.(?:safetensors|pt|json|jsonl|yaml|csv)\.\w{8}")


def epoch_folder(epoch: int) -> str:
    """Folder of one epoch's maps, relative to the run: `maps/epoch_0005`."""
    return f"{MAPS}/epoch_{epoch:04d}"


def maps_file(epoch: int, layer: str) -> str:
    """File of one layer's maps, relative to the run."""
    return f"{epoch_folder(epoch)}/{safe_file_name(layer)}.safetensors"


def distances_file(epoch: int) -> str:
    """File of how all layers' maps lie to each other at an epoch, relative to the run."""
    return f"{DISTANCES}/epoch_{epoch:04d}.safetensors"


def checkpoint_file(epoch: int) -> str:
    """File of one epoch's weights, relative to the run."""
    return f"{CHECKPOINTS}/epoch_{epoch:04d}.safetensors"


def resume_file(epoch: int) -> str:
    """File of what training needs to go on after an epoch, relative to the run."""
    return f"{CHECKPOINTS}/resume_{epoch:04d}.pt"


def write_atomically(path: Path, content: bytes | str) -> Sum:
    """Write a file so that a reader, or a crash, sees the old content or the new and nothing between.

    Returns:
        The sum of what was written.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    write_whole(path, lambda file: file.write(data))
    return Sum.of(data)


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """The same for what is too large to be held in memory twice: `write` is given the file to write to.

    Raises:
        OSError: see `write_atomically`.
    """
    _make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_json(path: Path, values: Any) -> None:
    """Atomically write indented UTF-8 JSON."""
    write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> Sum:
    """Atomically write arrays as safetensors; metadata values are stored as JSON text. Returns the file's sum."""
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    # The library writes memory as it lies, whatever the strides.
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return write_atomically(path, to_safetensors(plain, metadata=texts))


def append(path: Path, text: str) -> None:
    """Append whole lines in one write and wait until they are on disk."""
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        data = text.encode()
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        sync_folder(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether a write left it that was killed before it could rename it."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


def sweep(folder: Path) -> None:
    """Remove what writes left that were killed before they could rename it."""
    for path in folder.rglob(".*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until what was made, renamed or removed in a folder is on disk."""
    # Without this the rename itself may be lost in a power cut; some network file systems refuse it.
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise

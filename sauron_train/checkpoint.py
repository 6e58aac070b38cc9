"""Weights as safetensors with all that is needed to rebuild the network, and the resume state apart.

Neither file can run code when it is read: safetensors holds numbers only, the resume state is loaded with
`weights_only=True`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from sauron_train.errors import RunError
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.runlog.files import DAMAGED, resume_file, write_atomically
from sauron_train.runlog.ledger import Sum

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself: its scores are those of exactly these weights.

    `filters` are the original numbers of the filters that each layer has left; `labels` maps class names to numbers.
    """

    epoch: int
    architecture: UNetSpec
    filters: Mapping[str, tuple[int, ...]]
    labels: Mapping[str, int]
    scores: Mapping[str, float]
    format_version: int = FORMAT_VERSION


def save_checkpoint(path: Path, model: UNet, info: CheckpointInfo) -> Sum:
    """Atomically write weights and description; returns the file's sum."""
    metadata = {key: json.dumps(value) for key, value in asdict(info).items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return write_atomically(path, save(tensors, metadata=metadata))


def read_info(path: Path) -> CheckpointInfo:
    """Read a checkpoint's description.

    Raises:
        RunError: missing, damaged, of a newer format or not a Sauron checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
        if int(values["format_version"]) > FORMAT_VERSION:
            raise RunError(f"{path} was written by a newer Sauron; install a newer one to read it")
        return CheckpointInfo(
            epoch=int(values["epoch"]),
            architecture=UNetSpec.from_json(values["architecture"]),
            filters={layer: tuple(numbers) for layer, numbers in values["filters"].items()},
            labels=values["labels"],
            scores=values["scores"],
        )
    except FileNotFoundError:
        raise RunError(f"{path} is not there") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is not a readable Sauron checkpoint ({error})") from None


def load_model(path: Path) -> tuple[UNet, CheckpointInfo]:
    """Rebuild the network of a checkpoint, in eval mode on the CPU.

    Raises:
        RunError: see `read_info`; also weights that do not fit the architecture.
    """
    info = read_info(path)
    try:
        model = UNet(info.architecture)
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, KeyError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[-1].strip()
        raise RunError(f"{path} is damaged: its weights do not fit its architecture ({first})") from None
    return model.eval(), info


def save_state(run: Path, epoch: int, state: Mapping[str, Any]) -> Sum:
    """Atomically write what a later process needs to go on after an epoch: optimizer, thresholds, generators.

    It is written before the epoch is committed, under the epoch's number: a crash between the two leaves the state of
    the epoch before in its place. Returns the file's sum.
    """
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, "epoch": epoch, **state}, buffer)
    return write_atomically(run / resume_file(epoch), buffer.getvalue())


def load_state(run: Path, epoch: int) -> dict[str, Any]:
    """Read the resume state of an epoch.

    Raises:
        RunError: missing, damaged, of another epoch or a newer format, or holding anything but plain values and
            tensors.
    """
    path = run / resume_file(epoch)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        aside = run / DAMAGED / resume_file(epoch)
        why = f": it was damaged, and lies in {aside}" if aside.is_file() else ""
        raise RunError(f"{path} is not there, so this run cannot go on{why}") from None
    except Exception as error:  # torch raises many kinds here; all mean the same to the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{path} cannot be read: {reason}") from None
    if not isinstance(state, dict) or not isinstance(state.get("format_version"), int):
        raise RunError(f"{path} holds no resume state")
    if state["format_version"] > FORMAT_VERSION:
        raise RunError(f"{path} was written by a newer Sauron; install a newer one to go on")
    if state.get("epoch") != epoch:
        raise RunError(f"{path} belongs to epoch {state.get('epoch')}, so this run cannot go on from it")
    return state

"""Weights and maps in eight bits for OpenVINO, and the Dice that this costs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sauron_train.checkpoint import load_model
from sauron_train.data.load import load_volumes
from sauron_train.data.types import Case, Dataset
from sauron_train.deploy.description import Described
from sauron_train.deploy.engines import Network, openvino_network
from sauron_train.deploy.export import free_paths, write_all
from sauron_train.deploy.formats import openvino_files
from sauron_train.deploy.libraries import library
from sauron_train.deploy.portable import portable
from sauron_train.deploy.timing import interleaved
from sauron_train.errors import RunError
from sauron_train.evaluate import dataset_of, validation_cases
from sauron_train.experiment import ValidationCase, validation_case
from sauron_train.inference import segment
from sauron_train.metrics import mean_over_classes
from sauron_train.progress import OnProgress
from sauron_train.runlog import Run
from sauron_train.validation import validate

PATCHES = 100
"""Training patches by which ranges of maps are found (design choice; NNCF's own default is 300)."""
_CASES = 10
_ROUNDS = 15


@dataclass(frozen=True)
class Quantized:
    """What was written: `files`, in bytes `size`; Dice per class on the validation cases in 32 and in 8 bits.

    `patches` are those of the training cases by which the ranges of maps were found, `size_float32` the bytes of the
    same files in 32 bits. `seconds` are those of one patch on this machine, the median of some rounds in turn with the
    network in 32 bits, whose are `seconds_float32`.
    """

    files: tuple[Path, ...]
    size: int
    size_float32: int
    patches: int
    dice: Mapping[str, float]
    dice_int8: Mapping[str, float]
    seconds: float
    seconds_float32: float

    @property
    def cost(self) -> float:
        """By how much the mean Dice changed."""
        return mean_over_classes(self.dice_int8) - mean_over_classes(self.dice)


def export_int8(run: Run, out: Path, data: Path | None, epoch: int | None, on_progress: OnProgress) -> Quantized:
    """Write the network of a run in eight bits, for OpenVINO.

    Ranges are found on patches of training cases (post-training quantization of NNCF: weights symmetric, maps not,
    because of the leaky ReLU); what it costs is measured on the validation cases, and stands in the file.

    Args:
        run: where the network comes from.
        out: the file, .xml; a .bin goes beside it.
        data: the data set of the run, if it is not where it was.
        epoch: which checkpoint; None = the last.
        on_progress: told how many of how many steps are done, and which is next.

    Raises:
        ConfigError, DataError, RunError: a library, the data or the checkpoint is missing, `out` cannot be written, or
            the network cannot be put into eight bits; nothing is written then.
    """
    paths = free_paths("openvino", out)
    openvino, nncf = library("openvino"), _nncf()
    model, checkpoint = load_model(run.checkpoint(epoch)[1])
    dataset = dataset_of(run, data)
    description = json.loads(Described(run, model, checkpoint).to_json())
    exact = openvino.Core().read_model(portable(model).onnx())
    threads = torch.get_num_threads()
    training = _read(run, dataset, _training_cases(run, dataset), on_progress, "training")
    patches = _patches(openvino_network(exact, threads), training, run.config.data.patch)
    on_progress(0, 1, "finding the ranges of maps")
    small = _quantized(nncf, exact, patches)
    cases = _read(run, dataset, validation_cases(run, dataset), on_progress, "validation")
    networks = [openvino_network(network, threads) for network in (exact, small)]
    dice, dice_int8 = (_dice(network, run, dataset, cases, on_progress) for network in networks)
    seconds_float32, seconds = _seconds(networks, patches[0], on_progress)
    description["quantization"] = {"bits": 8, "patches": len(patches), "val_dice": dice_int8, "val_dice_float32": dice}
    content = openvino_files(small, json.dumps(description))
    write_all({paths[ending]: of for ending, of in content.items()})
    names = tuple(reversed([paths[ending] for ending in content]))
    before = openvino_files(exact, json.dumps(description))
    size, size_float32 = (sum(map(len, files.values())) for files in (content, before))
    return Quantized(names, size, size_float32, len(patches), dice, dice_int8, seconds, seconds_float32)


def _nncf() -> Any:
    # It would tell its makers that it is used, unless it takes the machine for one that tests it.
    os.environ.setdefault("NNCF_CI", "1")
    nncf = library("nncf", extra="int8")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def _quantized(nncf: Any, network: Any, patches: Sequence[Tensor]) -> Any:
    dataset = nncf.Dataset([patch[None].numpy() for patch in patches])
    try:
        with _silent():
            return nncf.quantize(network, dataset, subset_size=len(patches), preset=nncf.QuantizationPreset.MIXED)
    except Exception as error:  # it raises kinds of its own; all mean the same to the user
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(f"NNCF cannot put this network into eight bits ({first}); export it without --int8") from None


@contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _training_cases(run: Run, dataset: Dataset) -> list[Case]:
    """Some, from first to last."""
    wanted = run.info.train_cases
    step = max(1, len(wanted) // _CASES)
    names = set(wanted[::step][:_CASES])
    return [case for case in dataset.cases if case.name in names]


def _read(
    run: Run, dataset: Dataset, cases: Sequence[Case], on_progress: OnProgress, which: str
) -> list[ValidationCase]:
    volumes = load_volumes(
        cases, dataset, run.config, lambda done, total: on_progress(done, total, f"reading {which} cases")
    )
    return [validation_case(volume, run.config) for volume in volumes]


def _patches(network: Network, cases: Sequence[ValidationCase], patch: Sequence[int]) -> list[Tensor]:
    """Patches as they come to a network that segments whole cases, as many of each case."""
    kept: list[Tensor] = []

    def heard(most: int, windows: Tensor) -> Sequence[Tensor]:
        kept.extend(windows[: max(0, most - len(kept))].clone().unbind())
        return network(windows)

    for done, case in enumerate(cases, start=1):
        segment(_Module(partial(heard, PATCHES * done // len(cases))), case.images, patch)
    return kept


def _dice(
    network: Network, run: Run, dataset: Dataset, cases: Sequence[ValidationCase], on_progress: OnProgress
) -> dict[str, float]:
    found = validate(
        _Module(network),
        cases,
        dataset.labels,
        run.config.data.patch,
        torch.device("cpu"),
        on_case=lambda done, total, case: on_progress(done, total, f"scoring {case}"),
    )
    return dict(found.dice)


def _seconds(networks: Sequence[Network], patch: Tensor, on_progress: OnProgress) -> list[float]:
    """Of one patch in each network."""
    on_progress(0, 1, "timing a patch")
    calls = {str(number): partial(network, patch[None]) for number, network in enumerate(networks)}
    return [spread.median for spread in interleaved(calls, _ROUNDS, torch.device("cpu")).values()]


class _Module(nn.Module):
    """An engine's network, where a module is expected."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Sequence[Tensor]:
        return self.network(images)

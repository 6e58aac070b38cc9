"""The words of a run folder: every row, record and file that training writes and views read.

docs/run-format.md says the same in prose. Filters are always named by their number in the network as it was before the
first cut, so that a number means the same filter in every epoch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from pydantic import TypeAdapter, ValidationError

from sauron_train.errors import RunError

FORMAT_VERSION = 1

Status = Literal["running", "finished", "stopped", "failed"]
Array = npt.NDArray[Any]

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class LayerInfo:
    """One prunable layer as it was before training. `level` counts from 1 at full resolution."""

    name: str
    kind: Literal["conv", "trans"]
    part: Literal["encoder", "decoder"]
    level: int
    filters: int


@dataclass(frozen=True)
class Derived:
    """Where a run's network came from: the run, the epoch of its network, and what was done to it.

    `trained` says whether it was trained on after that; without it the run has one epoch, and no training.
    """

    run: str
    epoch: int
    how: str
    trained: bool = False


@dataclass(frozen=True)
class RunInfo:
    """`run.json`: what a run is and how it stands.

    `mode` names how it was trained, as in Appendix A of the paper: see `Config.mode`. `flops` and `parameters` are
    those of the unpruned network; FLOPs are counted for one patch and one forward pass, a multiply-add as two.
    `analysed` is when the maps were measured again, if they were; `derived_from` is set in a run that was made from the
    network of another; `processes` is how many trained it together; `process_identity` tells `pid` from others that had
    or will have the same number ("" in runs of earlier versions). `orientation` says where the axes of all training
    images lead as the network saw them, such as "RAS", "" where they differ or it is not known; `spacing` is their
    median voxel size in mm. `remarks` are sentences on what is odd about the data; `extended` are the epochs after
    which it was finished and then given more. Times are UTC in ISO 8601.
    """

    status: Status
    created: str
    ended: str | None
    message: str
    host: str
    pid: int
    seed: int
    device: str
    versions: Mapping[str, str]
    dataset: str
    data_root: str
    fingerprint: str
    channels: tuple[str, ...]
    labels: Mapping[str, int]
    train_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    probe_images: tuple[str, ...]
    layers: tuple[LayerInfo, ...]
    parameters: int
    flops: int
    epochs_planned: int
    mode: str = ""
    processes: int = 1
    analysed: str | None = None
    derived_from: Derived | None = None
    orientation: str = ""
    spacing: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()
    extended: tuple[int, ...] = ()
    process_identity: str = ""
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, text: bytes, source: str) -> RunInfo:
        """Read the content of `run.json`; `source` is named in errors.

        Raises:
            RunError: not JSON, a newer format, a field that is missing or of another type.
        """
        _check_version(text, source)
        try:
            return _run_info().validate_json(text, strict=True)
        except ValidationError as error:
            raise RunError(f"{source} is incomplete or damaged ({_first(error)})") from None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dump`."""
        return asdict(self)


@dataclass(frozen=True)
class EpochRow:
    """One line of `epochs.csv`. `val_*` belong to the network that leaves the epoch, the one in the checkpoint.

    Where filters were cut, `*_before_cut` are the same scores before the cut; otherwise they are equal. Losses are
    means over steps, Dice lies in [0, 1], HD95 is in mm, seconds are wall-clock. A value that was not measured is None.
    """

    epoch: int
    train_loss: float
    train_segmentation_loss: float
    train_delta_opt: float
    val_loss: float
    val_dice: float
    val_loss_before_cut: float
    val_dice_before_cut: float
    lr: float
    filters: int
    filters_removed: int
    parameters: int
    flops: int
    seconds: float
    seconds_training: float
    memory_mb: float
    dice: Mapping[str, float] = field(default_factory=dict)
    hd95: Mapping[str, float] = field(default_factory=dict)

    def cells(self) -> dict[str, Any]:
        """Column name to value: the per-class tables become columns `dice_LABEL` and `hd95_LABEL`."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("dice", "hd95")}
        plain |= {f"dice_{label}": value for label, value in self.dice.items()}
        return plain | {f"hd95_{label}": value for label, value in self.hd95.items()}


@dataclass(frozen=True)
class LayerRow:
    """One line of `layers.csv`: a prunable layer at the end of an epoch.

    `filters` are those left after the cut. `delta_opt`, `dip` with p-value, sample size and method, and `neighbours`
    are measured on the probe images, for the network that leaves the epoch; where there is no dip `dip_reason` says
    why. The quantiles of δ_prune leave its reference out; they and what follows are None when pruning is off. The
    last four say whether each condition for a rising threshold held; None where it was not asked for.
    """

    epoch: int
    layer: str
    filters: int
    delta_opt: float | None = None
    dip: float | None = None
    dip_p: float | None = None
    dip_n: int | None = None
    dip_method: str | None = None
    dip_reason: str | None = None
    neighbours: float | None = None
    delta_prune_min: float | None = None
    delta_prune_q25: float | None = None
    delta_prune_median: float | None = None
    delta_prune_q75: float | None = None
    threshold: float | None = None
    patience: int | None = None
    raised: bool | None = None
    reference: int | None = None
    removed: int = 0
    enough_epochs: bool | None = None
    training_loss_settled: bool | None = None
    no_new_best_validation: bool | None = None
    few_filters_removed: bool | None = None

    def cells(self) -> dict[str, Any]:
        """Column name to value."""
        return asdict(self)


@dataclass(frozen=True)
class RemovedFilter:
    """A filter that went, and the survivor that says most nearly the same.

    `distance` is the RMS distance of the two maps on the probe images before the cut, in units of the maps' range.
    `reference` is the filter π that it was too near to, by `delta_prune`; None where a partner layer of a residual sum
    holds it.
    """

    filter: int
    delta_prune: float
    nearest: int
    distance: float
    reference: int | None = None


@dataclass(frozen=True)
class Pruning:
    """One line of `prunings.jsonl`: a layer that lost filters in an epoch; `reference` is the first π of it."""

    epoch: int
    layer: str
    threshold: float
    patience: int
    reference: int | None
    filters_before: int
    filters_after: int
    removed: tuple[RemovedFilter, ...]

    @classmethod
    def from_json(cls, line: bytes, source: str) -> Pruning:
        """Read one line of `prunings.jsonl`; `source` is named in errors.

        Raises:
            RunError: not a record.
        """
        try:
            return _pruning().validate_json(line, strict=True)
        except ValidationError as error:
            raise RunError(f"{source} is damaged ({_first(error)})") from None


@dataclass(frozen=True)
class Probe:
    """The fixed images on which maps are measured.

    `images` (P, channels, *spatial) float32 as the network sees them; `labels` (P, *spatial) uint8; `names` one per
    image; `spacing` voxel size in mm per spatial axis.
    """

    images: Array
    labels: Array
    names: tuple[str, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class LayerMaps:
    """The maps of one layer at one epoch for all P probe images.

    `maps` (P, C, *spatial) float16, average-pooled by `pooling` from the layer's own resolution; `distances` (P, C, C)
    float32, RMS between maps scaled to [0, 1] and pooled with ω; `filters` (C,) original numbers; `delta_prune` (C,)
    float32, NaN where not measured.
    """

    epoch: int
    layer: str
    maps: Array
    distances: Array
    filters: Array
    delta_prune: Array
    pooling: int


@dataclass(frozen=True)
class LayerDistances:
    """How the maps of one layer lie to each other at an epoch, kept for every epoch.

    All (C,) arrays are of the mean over probe images, and follow `filters`, the original numbers int32: `nearest` the
    number of the nearest other filter, -1 where there is none; `nearest_distance` float32, NaN there;
    `reference_distance` float32 to the first filter that is left. `histogram` (BINS,) float32: mean number of ordered
    pairs of maps per image whose distance lies in each of the bins of [0, 1], NaN where no image is all numbers.
    """

    filters: Array
    nearest: Array
    nearest_distance: Array
    reference_distance: Array
    histogram: Array


def epoch_columns(labels: Mapping[str, int]) -> list[str]:
    """Header of `epochs.csv` for a data set with these labels; background has no score."""
    plain = [f.name for f in fields(EpochRow) if f.name not in ("dice", "hd95")]
    foreground = [name for name, value in labels.items() if value != 0]
    return plain + [f"dice_{name}" for name in foreground] + [f"hd95_{name}" for name in foreground]


def layer_columns() -> list[str]:
    """Header of `layers.csv`."""
    return [f.name for f in fields(LayerRow)]


_WORDS = frozenset(
    {
        "layer",
        "dip_method",
        "dip_reason",
        "raised",
        "enough_epochs",
        "training_loss_settled",
        "no_new_best_validation",
        "few_filters_removed",
    }
)


def refuse_unsound(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """A table of a run as it was read, if its columns hold what they should.

    Raises:
        RunError: no column `epoch`, or words where numbers belong; `source` is named.
    """
    if "epoch" not in table:
        raise RunError(f"{source} is damaged: its heading lacks the column epoch")
    for name in table.columns if len(table) else ():
        sound = is_integer_dtype if name in ("epoch", "filters", "filters_removed") else is_numeric_dtype
        if name not in _WORDS and not sound(table[name]):
            raise RunError(f"{source} is damaged: its column {name} holds something other than numbers")
    return table


def safe_file_name(name: str) -> str:
    """A layer's name as a file name.

    Raises:
        RunError: a name that could leave the folder or does not fit every file system.
    """
    if not _SAFE_NAME.fullmatch(name) or name.startswith("."):
        raise RunError(
            f"{name!r} cannot be used as a file name in a run folder; use plain letters, digits, '_', '-' and '.'"
        )
    return name


def empty_delta_prune(filters: int) -> Array:
    """δ_prune of a layer for which it was not measured."""
    return np.full(filters, np.nan, dtype=np.float32)


# Made once: building a reader takes much longer than reading a record.
@cache
def _run_info() -> TypeAdapter[RunInfo]:
    return TypeAdapter(RunInfo)


@cache
def _pruning() -> TypeAdapter[Pruning]:
    return TypeAdapter(Pruning)


def _check_version(text: bytes, source: str) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise RunError(f"{source} is damaged: it is not valid JSON") from None
    if not isinstance(values, dict):
        raise RunError(f"{source} is damaged: it holds no table")
    version = values.get("format_version")
    if not isinstance(version, int):
        raise RunError(f"{source} has no format_version, so it is not the record of a Sauron run")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{source} has format version {version}, this Sauron reads up to {FORMAT_VERSION}; install a newer one"
        )


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: {message}" if where else message

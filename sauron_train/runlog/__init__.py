"""The contract between training and views: schema, writer and reader of run folders (docs/run-format.md)."""

from sauron_train.runlog.reader import MapsFile, Run, find_runs
from sauron_train.runlog.schema import (
    EpochRow,
    LayerDistances,
    LayerInfo,
    LayerMaps,
    LayerRow,
    Probe,
    Pruning,
    RemovedFilter,
    RunInfo,
)
from sauron_train.runlog.writer import RunWriter

__all__ = [
    "EpochRow",
    "LayerDistances",
    "LayerInfo",
    "LayerMaps",
    "LayerRow",
    "MapsFile",
    "Probe",
    "Pruning",
    "RemovedFilter",
    "Run",
    "RunInfo",
    "RunWriter",
    "find_runs",
]

"""What must be known of a network to run it elsewhere, as JSON that is kept inside its file (docs/export.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sauron_train import __version__
from sauron_train.checkpoint import CheckpointInfo
from sauron_train.complexity import complexity
from sauron_train.config import Config
from sauron_train.deploy.head import multiple_of
from sauron_train.deploy.onnx_graph import INPUT, OUTPUT
from sauron_train.models.unet import UNet
from sauron_train.runlog import Run, RunInfo

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Described:
    """A network of a run, and where it comes from."""

    run: Run
    model: UNet
    checkpoint: CheckpointInfo

    def to_json(self) -> str:
        """The whole description as one JSON text."""
        return json.dumps(self.values(), ensure_ascii=False, allow_nan=False)

    def values(self) -> dict[str, Any]:
        """The whole description as plain values."""
        config, info = self.run.config, self.run.info
        return {
            "format_version": FORMAT_VERSION,
            "sauron_version": __version__,
            "recipe": config.name,
            "run": self.run.name,
            "epoch": self.checkpoint.epoch,
            "dataset": info.dataset,
            "input": self._input(config, info),
            "output": {
                "name": OUTPUT,
                "values": "logits",
                "axes": ["batch", "class", *_axes(config)],
                "classes": dict(sorted(info.labels.items(), key=lambda item: item[1])),
            },
            "preprocessing": _preprocessing(config, info),
            "postprocessing": _postprocessing(config),
            "network": self._network(config, info),
            "scores": {name: _finite(value) for name, value in self.checkpoint.scores.items()},
        }

    def _input(self, config: Config, info: RunInfo) -> dict[str, Any]:
        spec = self.model.spec
        return {
            "name": INPUT,
            "type": "float32",
            "axes": ["batch", "channel", *_axes(config)],
            "channels": list(info.channels),
            "number_of_channels": spec.in_channels,
            "patch": list(config.data.patch),
            "multiple_of": multiple_of(self.model),
        }

    def _network(self, config: Config, info: RunInfo) -> dict[str, Any]:
        spec = self.model.spec
        cost = complexity(self.model, spec.in_channels, config.data.patch)
        return {
            "dimensions": spec.dim,
            "levels": spec.levels,
            "norm": spec.norm,
            "filters": dict(spec.filters),
            "filters_unpruned": {layer.name: layer.filters for layer in info.layers},
            "parameters": cost.parameters,
            "parameters_share": cost.parameters / info.parameters,
            "flops": cost.flops,
            "flops_share": cost.flops / info.flops,
        }


def _axes(config: Config) -> list[str]:
    """The axes of an image as the network takes them, by the axes of the volume that they are."""
    names = ["x", "y", "z"]
    if config.network.dim == 2:
        del names[config.data.slice_axis]
    return names


def _preprocessing(config: Config, info: RunInfo) -> list[dict[str, Any]]:
    """Steps in their order, from the file to the network."""
    preprocess = config.preprocess
    steps: list[dict[str, Any]] = []
    axes = "RAS" if preprocess.orientation == "canonical" else info.orientation
    steps.append({"step": "orient", "axes": axes or None})
    spacing = None if preprocess.spacing is None else list(preprocess.spacing)
    steps.append({"step": "resample", "spacing_mm": spacing, "spacing_of_training_mm": list(info.spacing) or None})
    if preprocess.clip is not None:
        steps.append({"step": "clip", "range": list(preprocess.clip)})
    if preprocess.shift_scale is not None:
        shift, scale = preprocess.shift_scale
        steps.append({"step": "shift_scale", "shift": shift, "scale": scale})
    if config.network.dim == 2:
        steps.append({"step": "slices", "axis": config.data.slice_axis})
    if config.augment.z_normalise:
        of = "slice" if config.network.dim == 2 else "volume"
        steps.append({"step": "z_normalise", "of": f"{of} and channel"})
    steps.append({"step": "pad", "value": 0.0, "to": list(config.data.patch), "where": "both sides"})
    return steps


def _postprocessing(config: Config) -> list[dict[str, Any]]:
    """Steps in their order, from the network to a label map."""
    blend: dict[str, Any] = {
        "step": "blend",
        "patch": list(config.data.patch),
        "overlap": 0.5,
        "weights": "gaussian",
        "sigma": 0.125,
    }
    back: dict[str, Any] = {"step": "stack", "axis": config.data.slice_axis}
    return [
        {"step": "softmax", "axis": 1},
        blend,
        {"step": "crop", "what": "padding"},
        *([back] if config.network.dim == 2 else []),
        {"step": "to_grid_of_file", "interpolation": "linear"},
        {"step": "argmax", "over": "class"},
    ]


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None

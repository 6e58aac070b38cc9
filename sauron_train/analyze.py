"""Measures a finished run again from its checkpoints: other probe images, another dip or radius, more epochs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sauron_train.analysis.clusterability import clusterability
from sauron_train.analysis.dip import Sample
from sauron_train.analysis.tables import neighbours
from sauron_train.checkpoint import load_model
from sauron_train.config import Config, parse
from sauron_train.data.load import load_volumes
from sauron_train.data.views import probe as choose_probe
from sauron_train.epoch_log import layer_distances
from sauron_train.errors import ConfigError, RunError
from sauron_train.keys import overlaid
from sauron_train.models.unet import UNet
from sauron_train.predict import dataset_of, validation_cases
from sauron_train.probe import ProbeResult, map_shapes, measure_probe
from sauron_train.pruning.channels import trace
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.runlog import LayerMaps, Probe, Run
from sauron_train.runlog.files import distances_file
from sauron_train.runlog.revise import Revision
from sauron_train.runlog.schema import empty_delta_prune
from sauron_train.storage import MapsPlan, plan_maps

OnProgress = Callable[[int, int, str], None]

_MEASURES = ("delta_opt", "dip", "dip_p", "dip_n", "dip_method", "dip_reason", "neighbours")
_DIP = tuple(name for name in _MEASURES if name.startswith("dip"))


@dataclass(frozen=True)
class Questions:
    """What is to be measured otherwise than the run did; None leaves it as it was.

    Attributes:
        images: number of probe images.
        seed: from which they are chosen among the validation cases.
        dip: of which values the dip is taken.
        radius: within which maps are neighbours.
        epochs: which epochs with a checkpoint; None = all.
        data: the data set, if it is not where it was.
    """

    images: int | None = None
    seed: int | None = None
    dip: Sample | None = None
    radius: float | None = None
    epochs: Collection[int] | None = None
    data: Path | None = None

    @property
    def new_probe(self) -> bool:
        """Whether the maps of other images are asked for."""
        return self.images is not None or self.seed is not None


def analyze(run: Run, questions: Questions, on_progress: OnProgress) -> tuple[int, ...]:
    """Measure a run's layers again, and let its log say so.

    At the epochs whose weights are kept everything is measured anew, and the maps are stored. At the others the
    neighbours follow from what is stored; a dip of other values, and every measure of other images, is emptied there.

    Args:
        run: a run that has ended.
        questions: what is asked.
        on_progress: told how many of how many epochs are done, and which is next.

    Returns:
        The epochs that were measured.

    Raises:
        RunError, ConfigError, DataError: something is missing or does not fit; nothing has been changed then.
    """
    config = _with_questions(run.config, questions)
    checkpoints = _chosen(run, questions.epochs)
    with Revision(run) as revision:
        probe = _new_probe(run, config, questions) if questions.new_probe else run.probe()
        table, plan = run.layers(), None
        for done, (epoch, path) in enumerate(checkpoints.items()):
            on_progress(done, len(checkpoints), f"epoch {epoch}")
            model, info = load_model(path)
            images = torch.from_numpy(probe.images)
            graph = trace(model, images[:1], UNet.layer_name).renumbered(info.filters)
            plan = plan or _plan(config, model, graph, images, tuple(checkpoints))
            found = measure_probe(model, graph, images, config.loss.window, plan)
            table = _write(revision, run, config, table, epoch, graph, found)
        if questions.new_probe:
            revision.writer.write_probe(probe)
        table, stale = _elsewhere(run, config, questions, table, checkpoints)
        revision.commit(table, config, probe.names, stale)
    on_progress(len(checkpoints), len(checkpoints), "")
    return tuple(checkpoints)


def _with_questions(config: Config, questions: Questions) -> Config:
    changes: dict[str, Any] = {"images": questions.images, "dip": questions.dip, "radius": questions.radius}
    asked = {key: value for key, value in changes.items() if value is not None}
    return parse(overlaid(config.model_dump(by_alias=True, mode="json"), {"probe": asked}))


def _chosen(run: Run, epochs: Collection[int] | None) -> dict[int, Path]:
    kept = run.checkpoints()
    if not kept:
        raise RunError(f"run {run.name} has no weights to analyse; its checkpoints are gone")
    missing = sorted(set(epochs or ()) - kept.keys())
    if missing:
        raise RunError(
            f"run {run.name} keeps no weights of epoch {missing[0]}, only of {', '.join(map(str, kept))}; "
            "maps.checkpoints keeps more of them in a new run"
        )
    return {epoch: path for epoch, path in kept.items() if epochs is None or epoch in epochs}


def _new_probe(run: Run, config: Config, questions: Questions) -> Probe:
    dataset = dataset_of(run, questions.data)
    volumes = load_volumes(validation_cases(run, dataset), dataset, config)
    return choose_probe(volumes, config, run.info.seed if questions.seed is None else questions.seed)


def _plan(config: Config, model: UNet, graph: ChannelGraph, images: torch.Tensor, epochs: tuple[int, ...]) -> MapsPlan:
    try:
        plan = plan_maps(config, map_shapes(model, graph, images[0]), len(images), epochs)
    except ConfigError as error:
        raise ConfigError(f"{error} (or analyse fewer --epochs)") from None
    return plan


def _write(
    revision: Revision,
    run: Run,
    config: Config,
    table: pd.DataFrame,
    epoch: int,
    graph: ChannelGraph,
    found: ProbeResult,
) -> pd.DataFrame:
    """Write an epoch aside, and put its measures into the table."""
    sample, radius = config.probe.dip, config.probe.radius
    measured = {layer: clusterability(on.distances, sample, radius) for layer, on in found.layers.items()}
    revision.writer.write_distances(epoch, layer_distances(graph, found.layers, measured))
    revision.writer.write_prediction(epoch, found.prediction)
    for layer, on in found.layers.items():
        if on.maps is not None:
            numbers = np.array(graph.filters(layer), dtype=np.int32)
            delta = _delta_prune(run, epoch, layer, numbers)
            maps = LayerMaps(epoch, layer, on.maps, on.distances, numbers, delta, on.pooling)
            revision.writer.write_maps(maps)
    return _replaced(table, epoch, {layer: value.cells() for layer, value in measured.items()})


def _replaced(table: pd.DataFrame, epoch: int, rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    table = table.astype(dict.fromkeys(_MEASURES, object))
    for position in table.index[table["epoch"] == epoch]:
        for name, value in rows[str(table.at[position, "layer"])].items():
            table.at[position, name] = value
    return table


def _delta_prune(run: Run, epoch: int, layer: str, numbers: Any) -> Any:
    """What was measured while training, where it was stored: it does not hang on the probe images."""
    if layer in run.map_layers(epoch):
        stored = run.maps(epoch, layer)
        if stored.filters.tolist() == numbers.tolist():
            return stored.delta_prune
    return empty_delta_prune(len(numbers))


def _elsewhere(
    run: Run, config: Config, questions: Questions, table: pd.DataFrame, measured: Collection[int]
) -> tuple[pd.DataFrame, list[str]]:
    """The table with what still holds at epochs that were not measured, and the files that do not."""
    others = ~table["epoch"].isin(list(measured))
    if questions.new_probe:
        gone = [epoch for epoch in run.distance_epochs() if epoch not in measured]
        left = [e for e in run.map_epochs() if e not in measured]
        stale = [distances_file(epoch) for epoch in gone]
        stale += [str(p.relative_to(run.path)) for e in left for p in run.maps_folder(e).glob("*.safetensors")]
        table.loc[others, list(_MEASURES)] = None
        return table, stale
    if config.probe.dip != run.config.probe.dip:
        table.loc[others, list(_DIP)] = None
    if config.probe.radius != run.config.probe.radius:
        known = neighbours(run, config.probe.radius).set_index(["epoch", "layer"])["neighbours"]
        keys = pd.MultiIndex.from_frame(table.loc[others, ["epoch", "layer"]])
        table.loc[others, "neighbours"] = known.reindex(keys).to_numpy()
    return table, []

"""Measures a finished run again from its checkpoints: other probe images, another dip or radius, more epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sauron_train.analysis.clusterability import clusterability
from sauron_train.analysis.dip import Sample
from sauron_train.analysis.tables import DIP_COLUMNS, dips, neighbours
from sauron_train.checkpoint import load_model
from sauron_train.config import Config, parse
from sauron_train.data.load import load_volumes
from sauron_train.data.views import probe as choose_probe
from sauron_train.epoch_log import layer_distances, layer_maps
from sauron_train.errors import ConfigError, RunError
from sauron_train.keys import overlaid
from sauron_train.models.unet import UNet
from sauron_train.predict import dataset_of, validation_cases
from sauron_train.probe import ProbeResult, map_shapes, measure_probe
from sauron_train.progress import OnProgress
from sauron_train.pruning.channels import trace
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.runlog import Probe, Run
from sauron_train.runlog.files import distances_file
from sauron_train.runlog.revise import Revision
from sauron_train.storage import MapsPlan, plan_maps

_MEASURES = (*DIP_COLUMNS, "delta_opt", "neighbours")


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
        maps: store the maps of all these epochs, not only where they are stored already.
        force: measures of other epochs may be lost.

    With a radius alone nothing is measured: neighbours are told from what is stored.
    """

    images: int | None = None
    seed: int | None = None
    dip: Sample | None = None
    radius: float | None = None
    epochs: Collection[int] | None = None
    data: Path | None = None
    maps: bool = False
    force: bool = False

    @property
    def other_images(self) -> bool:
        """Whether probe images are asked for."""
        return self.images is not None or self.seed is not None

    @property
    def only_radius(self) -> bool:
        """Whether the radius is all that is asked for."""
        return self.radius is not None and replace(self, radius=None, force=False) == Questions()


@dataclass(frozen=True)
class Analysed:
    """The epochs that were measured, and which maps the run holds now; None where nothing had to be measured."""

    epochs: tuple[int, ...]
    plan: MapsPlan | None


@dataclass(frozen=True)
class _Work:
    """What an analysis does, decided before anything is measured.

    `table` is `layers.csv` as it will be at the epochs that are not measured; `stale` are files that hold no longer.
    """

    config: Config
    checkpoints: Mapping[int, Path]
    probe: Probe
    new_probe: bool
    table: pd.DataFrame
    stale: tuple[str, ...]
    with_maps: tuple[int, ...]
    """Epochs whose maps are stored when it is done."""


def analyze(run: Run, questions: Questions, on_progress: OnProgress) -> Analysed:
    """Measure a run's layers again, and let its log say so.

    At the epochs whose weights are kept everything is measured anew, and their maps are stored again where they were
    stored before. At the others neighbours follow from what is stored, and so does a dip of other values where all
    distances are; where they are not, and for other images, there is nothing to tell it from.

    Args:
        run: a run that has ended.
        questions: what is asked.
        on_progress: told how many of how many epochs are done, and which is next.

    Raises:
        RunError, ConfigError, DataError: something is missing or does not fit, or measures would be lost that cannot be
            made again, and `force` is not set; nothing has been changed then.
    """
    with Revision(run) as revision:
        work = _decide(run, questions)
        table, plan = work.table, _plan(run, work) if work.checkpoints else None
        for done, (epoch, path) in enumerate(work.checkpoints.items()):
            on_progress(done, len(work.checkpoints), f"epoch {epoch}")
            model, info = load_model(path)
            images = torch.from_numpy(work.probe.images)
            graph = trace(model, images[:1], UNet.layer_name).renumbered(info.filters)
            keep = plan if plan and epoch in plan.epochs else None
            found = measure_probe(model, graph, images, work.config.loss.window, keep)
            table = _write(revision, run, work.config, table, epoch, graph, found)
        if work.new_probe:
            revision.writer.write_probe(work.probe)
        revision.commit(table, work.config, work.probe.names, work.stale)
    on_progress(len(work.checkpoints), len(work.checkpoints), "")
    return Analysed(tuple(work.checkpoints), plan)


def _decide(run: Run, questions: Questions) -> _Work:
    config = _with_questions(run.config, questions)
    if questions.data is not None and not questions.other_images:
        raise ConfigError("the data set is read for other probe images only; leave --data out, or give --images")
    checkpoints = {} if questions.only_radius else _chosen(run, questions.epochs)
    before = run.probe()
    probe = _new_probe(run, config, questions) if questions.other_images else before
    new = probe.names != before.names
    table = _elsewhere(run, config, new, checkpoints)
    if not questions.force:
        _refuse_losses(run, table, checkpoints)
    stored = set(run.map_epochs())
    gone = stored - checkpoints.keys() if new else set()
    maps = (checkpoints.keys() if questions.maps else checkpoints.keys() & stored) | (stored - gone)
    stale = [distances_file(epoch) for epoch in run.distance_epochs() if new and epoch not in checkpoints]
    stale += [str(p.relative_to(run.path)) for e in gone for p in run.maps_folder(e).glob("*.safetensors")]
    return _Work(config, checkpoints, probe, new, table, tuple(stale), tuple(sorted(maps)))


def _with_questions(config: Config, questions: Questions) -> Config:
    changes: dict[str, Any] = {
        "images": questions.images,
        "seed": questions.seed,
        "dip": questions.dip,
        "radius": questions.radius,
    }
    asked = {key: value for key, value in changes.items() if value is not None}
    return parse(overlaid(config.model_dump(by_alias=True, mode="json"), {"probe": asked}))


def _chosen(run: Run, epochs: Collection[int] | None) -> dict[int, Path]:
    kept = run.checkpoints()
    if not kept:
        raise RunError(f"run {run.name} has no weights to analyse; its checkpoints are gone")
    if epochs is not None and not epochs:
        raise RunError(f"no epoch is named to analyse; run {run.name} keeps weights of {', '.join(map(str, kept))}")
    missing = sorted(set(epochs or ()) - kept.keys())
    if missing:
        raise RunError(
            f"run {run.name} keeps no weights of epoch {missing[0]}, only of {', '.join(map(str, kept))}; "
            "maps.checkpoints keeps more of them in a new run"
        )
    return {epoch: path for epoch, path in kept.items() if epochs is None or epoch in epochs}


def _new_probe(run: Run, config: Config, questions: Questions) -> Probe:
    dataset = dataset_of(run, questions.data)
    cases = validation_cases(run, dataset)
    if config.probe.images > len(cases):
        raise ConfigError(f"--images {config.probe.images} is more than the {len(cases)} validation cases of the run")
    volumes = load_volumes(cases, dataset, config)
    return choose_probe(volumes, config)


def _elsewhere(run: Run, config: Config, new_probe: bool, measured: Collection[int]) -> pd.DataFrame:
    """`layers.csv` with what still holds at epochs that are not measured."""
    table = run.layers()
    table = table.reindex(columns=[*table.columns, *(name for name in _MEASURES if name not in table)])
    table = table.astype(dict.fromkeys(_MEASURES, object))
    others = ~table["epoch"].isin(list(measured))
    if new_probe:
        table.loc[others, list(_MEASURES)] = None
        return table
    keys = pd.MultiIndex.from_frame(table.loc[others, ["epoch", "layer"]])
    if config.probe.dip != run.config.probe.dip:
        known = dips(run, config.probe.dip).set_index(["epoch", "layer"]).reindex(keys).astype(object)
        table.loc[others, list(DIP_COLUMNS)] = known[list(DIP_COLUMNS)].to_numpy()
    if config.probe.radius != run.config.probe.radius:
        near = neighbours(run, config.probe.radius).set_index(["epoch", "layer"])["neighbours"]
        table.loc[others, "neighbours"] = near.reindex(keys).to_numpy()
    return table


def _refuse_losses(run: Run, table: pd.DataFrame, measured: Collection[int]) -> None:
    """Refuse to empty cells that cannot be filled again."""
    before = run.layers()
    lost = pd.Series(data=False, index=before.index)
    for name in ("dip", "delta_opt", "neighbours"):
        if name in before:
            lost |= before[name].notna() & table[name].isna()
    epochs = sorted(set(before.loc[lost, "epoch"]) - set(measured))
    if epochs:
        raise RunError(
            f"{len(epochs)} epochs of run {run.name} would lose measures that cannot be made again, the first is epoch "
            f"{epochs[0]}: what is asked cannot be told from what is stored there; --force does it all the same"
        )


def _plan(run: Run, work: _Work) -> MapsPlan:
    model, _ = load_model(next(iter(work.checkpoints.values())))
    images = torch.from_numpy(work.probe.images)
    graph = trace(model, images[:1], UNet.layer_name)
    # As before the first cut, like the plan of training: the budget then holds for every epoch.
    widths = {layer.name: layer.filters for layer in run.info.layers}
    shapes = {name: (widths[name], *s[1:]) for name, s in map_shapes(model, graph, images[0]).items()}
    try:
        return plan_maps(work.config, shapes, len(images), work.with_maps)
    except ConfigError as error:
        raise ConfigError(f"{error} (or analyse fewer --epochs)") from None


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
    stored = [layer_maps(epoch, layer, graph, on, None) for layer, on in found.layers.items()]
    for maps in filter(None, stored):
        revision.writer.write_maps(replace(maps, delta_prune=_delta_prune(run, epoch, maps.layer, maps)))
    if any(stored):
        revision.writer.write_prediction(epoch, found.prediction)
    for position in table.index[table["epoch"] == epoch]:
        for name, value in measured[str(table.at[position, "layer"])].cells().items():
            table.at[position, name] = value
    return table


def _delta_prune(run: Run, epoch: int, layer: str, maps: Any) -> Any:
    """What was measured while training, where it was stored: it does not hang on the probe images."""
    if layer in run.map_layers(epoch):
        stored = run.maps(epoch, layer)
        if stored.filters.tolist() == maps.filters.tolist():
            return stored.delta_prune
    return maps.delta_prune

"""Makes a run of another's network: filters are cut out of it, and it is scored before and after, without training.

What is made is a run folder of one epoch, so whatever shows runs shows it too. It is written beside its place and moved
there when it is whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sauron_train.analysis.clusterability import clusterability
from sauron_train.checkpoint import CheckpointInfo, load_model, save_checkpoint
from sauron_train.complexity import complexity
from sauron_train.config import Config
from sauron_train.data.load import load_volumes
from sauron_train.data.loader import training_loader
from sauron_train.data.patches import TrainingPatches
from sauron_train.data.types import Dataset
from sauron_train.epoch_log import layer_distances, layer_maps, layer_rows
from sauron_train.errors import PruningError
from sauron_train.experiment import ValidationCase, validation_case
from sauron_train.models.unet import UNet
from sauron_train.predict import dataset_of, validation_cases
from sauron_train.probe import map_shapes, measure_probe, pruning_records
from sauron_train.progress import OnProgress
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.policy import Measure, removable
from sauron_train.pruning.records import PruneRecord, chosen_record, with_nearest
from sauron_train.pruning.sauron import Sauron
from sauron_train.runlog import EpochRow, Probe, Pruning, Run, RunInfo, RunWriter
from sauron_train.runlog.aside import aside, refuse_existing
from sauron_train.runlog.files import checkpoint_file
from sauron_train.runlog.schema import Derived
from sauron_train.runlog.writer import now
from sauron_train.storage import plan_maps
from sauron_train.validation import Validation, validate


@dataclass(frozen=True)
class CutQuestion:
    """What is cut, out of which network.

    Attributes:
        epoch: of the checkpoint; None = the last.
        filters: layer to the original numbers of the filters that go; None = those below the threshold.
        threshold: τ; δ_prune is measured on training batches, as while training.
        layers: those that the threshold holds for; empty = all.
        compensate: whether survivors take over what readers did with what goes; None = as the run did.
        width_multiple: of the filters below the threshold only so many go that multiples of this are left; None = as
            the run did. Filters that are named go as named.
        data: the data set, if it is not where it was.
    """

    epoch: int | None = None
    filters: Mapping[str, Sequence[int]] | None = None
    threshold: float | None = None
    layers: tuple[str, ...] = ()
    compensate: Literal["merge", "none"] | None = None
    data: Path | None = None
    width_multiple: int | None = None


def cut_run(run: Run, question: CutQuestion, out: Path, on_progress: OnProgress) -> Run:
    """Cut a copy of a run's network, and make a run of it.

    Its one epoch is that of the checkpoint; the scores before the cut are those of the network as it was.

    Args:
        run: where the network comes from.
        question: what is cut.
        out: run folder to make; it must not exist.
        on_progress: told how many of how many steps are done, and which is next.

    Raises:
        RunError, DataError, PruningError: something is missing or cannot be cut; nothing is left behind then.
    """
    refuse_existing(out)
    work = _Cutting(run, question, on_progress)
    record = work.decide()
    if not record.cut:
        if question.filters is not None:
            raise PruningError("no filter is named, so there is nothing to cut; name those that go")
        raise PruningError(_why_nothing(work.config.prune.width_multiple))
    cases = work.cases()
    before = work.score(cases, "scoring as it is")
    cuts = work.cut(record)
    after = work.score(cases, "scoring after the cut")
    with aside(out) as folder:
        work.write(folder, record, cuts, before, after)
    return Run(out)


class _Cutting:
    """The steps of `cut_run`, in the order in which they stand."""

    def __init__(self, run: Run, question: CutQuestion, on_progress: OnProgress) -> None:
        self.started = time.perf_counter()
        self.run, self.question, self.on_progress = run, question, on_progress
        self.epoch, path = run.checkpoint(question.epoch)
        self.config = _config(run.config, question)
        self.model, self.described = load_model(path)
        self.dataset: Dataset = dataset_of(run, question.data)
        self.probe = run.probe()
        self.images = torch.from_numpy(self.probe.images)
        self.sauron = Sauron(self.model, self.images[:1], self.config, UNet.layer_name)
        self.sauron.graph = self.sauron.graph.renumbered(self.described.filters)

    def decide(self) -> PruneRecord:
        """Measure δ_prune on training batches, and say what goes."""
        measures = self.sauron.measure(self._batches())
        graph = self.sauron.graph
        unknown = sorted({*self.question.layers, *(self.question.filters or {})} - set(graph.layers))
        if unknown:
            raise PruningError(
                f"{unknown[0]} is no layer of this network that can be cut; it has {', '.join(graph.layers)}"
            )
        chosen = {layer: self._removed(layer, measure) for layer, measure in measures.items()}
        return chosen_record(graph, measures, chosen, self.question.threshold or 0.0)

    def cases(self) -> list[ValidationCase]:
        """The validation cases of the run."""
        self.on_progress(0, 1, "reading the validation cases")
        volumes = load_volumes(validation_cases(self.run, self.dataset), self.dataset, self.config, self._reading)
        return [validation_case(volume, self.config) for volume in volumes]

    def score(self, cases: Sequence[ValidationCase], what: str) -> Validation:
        """Score the network as it is now."""
        told = lambda done, total, _case: self.on_progress(done, total, what)  # noqa: E731
        device = torch.device("cpu")
        return validate(self.model, cases, self.dataset.labels, self.config.data.patch, device, on_case=told)

    def cut(self, record: PruneRecord) -> list[Pruning]:
        """Cut, and say which survivor is nearest to each filter that goes, by the maps as they were."""
        self.on_progress(0, 1, "cutting")
        maps = measure_probe(self.model, self.sauron.graph, self.images, self.config.loss.window)
        cuts = pruning_records(self.epoch, record, self.sauron.graph, maps)
        self.sauron.apply(record.cut, ())
        return cuts

    def write(
        self, folder: Path, record: PruneRecord, cuts: list[Pruning], before: Validation, after: Validation
    ) -> None:
        """Write the whole run folder."""
        self.on_progress(0, 1, "writing")
        row = self._row(before, after, sum(len(cut.removed) for cut in cuts))
        network = Network(self.model, self.sauron.graph, self._described(row))
        write_run(folder, self.config, self._info(cuts), self.probe, network, row, record, cuts)

    def _removed(self, layer: str, measure: Measure) -> dict[int, int]:
        """Channels that go, each with its π."""
        question = self.question
        if question.filters is None:
            wanted = not question.layers or layer in question.layers
            multiple = self.config.prune.width_multiple
            return removable(measure, question.threshold or 0.0, multiple) if wanted else {}
        gone = self.sauron.graph.resolve({layer: question.filters.get(layer, ())})
        return with_nearest(measure, gone.ids)

    def _batches(self) -> Iterator[Tensor]:
        """Training batches of this epoch, of as many cases as fill them."""
        config, names = self.config, set(self.run.info.train_cases)
        cases = [case for case in self.dataset.cases if case.name in names]
        wanted = config.prune.batches * config.data.batch_size
        chosen = np.random.default_rng(config.seed).permutation(len(cases))[:wanted]
        volumes = load_volumes([cases[i] for i in sorted(chosen)], self.dataset, config, self._reading)
        patches = TrainingPatches(volumes, config, config.seed)
        for done, batch in enumerate(training_loader(patches, config, self.epoch)):
            if done == config.prune.batches:
                return
            self.on_progress(done, config.prune.batches, "measuring on training batches")
            yield batch.image

    def _reading(self, done: int, total: int) -> None:
        self.on_progress(done, total, "reading cases")

    def _row(self, before: Validation, after: Validation, removed: int) -> EpochRow:
        cost = complexity(self.model, self.model.spec.in_channels, self.config.data.patch)
        return EpochRow(
            epoch=self.epoch,
            train_loss=math.nan,
            train_segmentation_loss=math.nan,
            train_delta_opt=math.nan,
            val_loss=after.loss,
            val_dice=after.mean_dice,
            val_loss_before_cut=before.loss,
            val_dice_before_cut=before.mean_dice,
            lr=math.nan,
            filters=sum(self.sauron.layers.values()),
            filters_removed=removed,
            parameters=cost.parameters,
            flops=cost.flops,
            seconds=time.perf_counter() - self.started,
            seconds_training=0.0,
            memory_mb=math.nan,
            dice=after.dice,
        )

    def _info(self, cuts: Sequence[Pruning]) -> RunInfo:
        return replace(
            self.run.info,
            status="running",
            created=now(),
            ended=None,
            message="",
            epochs_planned=self.epoch,
            derived_from=Derived(self.run.name, self.epoch, _how(self.question, cuts, self.config)),
            analysed=None,
        )

    def _described(self, row: EpochRow) -> CheckpointInfo:
        graph = self.sauron.graph
        return replace(
            self.described,
            architecture=self.model.spec.with_filters(graph.widths()),
            filters={layer: graph.filters(layer) for layer in graph.layers},
            scores={"val_loss": row.val_loss, "val_dice": row.val_dice},
        )


@dataclass(frozen=True)
class Network:
    """A network, its prunable layers, and what its checkpoint says of it."""

    model: UNet
    graph: ChannelGraph
    described: CheckpointInfo


def write_run(
    folder: Path,
    config: Config,
    info: RunInfo,
    probe: Probe,
    network: Network,
    row: EpochRow,
    record: PruneRecord | None = None,
    cuts: Sequence[Pruning] = (),
) -> None:
    """Write a finished run of one epoch: the network, its maps of the probe images, and their measures."""
    model, graph, epoch = network.model, network.graph, row.epoch
    writer = RunWriter.create(folder, config, info)
    writer.write_probe(probe)
    images = torch.from_numpy(probe.images)
    plan = plan_maps(config, map_shapes(model, graph, images[0]), len(images), (epoch,))
    found = measure_probe(model, graph, images, config.loss.window, plan)
    sample, radius = config.probe.dip, config.probe.radius
    measured = {layer: clusterability(on.distances, sample, radius) for layer, on in found.layers.items()}
    decided = record.layers if record else {}
    writer.write_distances(epoch, layer_distances(graph, found.layers, measured))
    for layer, on in found.layers.items():
        if maps := layer_maps(epoch, layer, graph, on, decided.get(layer)):
            writer.write_maps(maps)
    writer.write_prediction(epoch, found.prediction)
    writer.wrote(
        epoch, checkpoint_file(epoch), save_checkpoint(folder / checkpoint_file(epoch), model, network.described)
    )
    writer.commit_epoch(row, layer_rows(epoch, graph, measured, decided, cuts), cuts)
    writer.finish("finished")


def _config(config: Config, question: CutQuestion) -> Config:
    if question.filters is None and question.threshold is None:
        raise PruningError("say what goes: a threshold, or filters by their layer and number")
    changes: dict[str, object] = {"references": "all", "enabled": True, "first_epoch": 1, "last_epoch": None}
    if question.compensate is not None:
        changes["compensate"] = question.compensate
    if question.width_multiple is not None:
        changes["width_multiple"] = question.width_multiple
    prune = config.prune.model_copy(update=changes)
    data = config.data.model_copy(update={"workers": 0})
    return config.model_copy(update={"prune": prune, "data": data})


def _how(question: CutQuestion, cuts: Sequence[Pruning], config: Config) -> str:
    filters = sum(len(cut.removed) for cut in cuts)
    of = f"{len(cuts)} {'layer' if len(cuts) == 1 else 'layers'}"
    what = f"{filters} {'filter' if filters == 1 else 'filters'} of {of} cut"
    at = f" at τ {question.threshold:g}" if question.threshold is not None else ""
    if question.filters is None and config.prune.width_multiple > 1:
        at += f" to multiples of {config.prune.width_multiple}"
    return f"{what}{at}, {'merged' if config.prune.compensate == 'merge' else 'not compensated'}"


def _why_nothing(multiple: int) -> str:
    if multiple == 1:
        return "no filter lies below the threshold, so there is nothing to cut; raise it"
    return (
        f"in no layer enough filters lie below the threshold to cut it to the next multiple of {multiple}, so there is "
        "nothing to cut; raise it, or give --width-multiple 1"
    )

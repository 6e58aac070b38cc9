"""Prunes a run's trained network as others do, and trains it on: what Sauron is to be measured against.

What is made is a run folder like any other. Its first epoch is the cut, without training: scored before and after. The
others are the fine-tuning, and go on with `sauron-train resume` when they are interrupted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch import Tensor

from sauron_train.analysis.cost import network_cost
from sauron_train.checkpoint import load_model, load_state
from sauron_train.errors import RunError
from sauron_train.experiment import Experiment
from sauron_train.models.unet import UNet
from sauron_train.predict import dataset_of
from sauron_train.probe import pruning_records
from sauron_train.progress import Observer
from sauron_train.pruning.records import chosen_record, with_nearest
from sauron_train.pruning.report import excluded
from sauron_train.pruning.rivals import Method, one_shot, uniform_widths
from sauron_train.rival_config import rival_config
from sauron_train.runlog import EpochRow, Run, RunInfo, files
from sauron_train.runlog.aside import aside, refuse_existing
from sauron_train.runlog.schema import Derived
from sauron_train.trainer import PruneOutcome, Trainer, TrainLosses


@dataclass(frozen=True)
class RivalQuestion:
    """How a network is pruned, and for how long it is trained on.

    Attributes:
        method: the criterion.
        flops: share of the unpruned network's FLOPs that may be left.
        fine_tune: epochs of training after the cut.
        changes: `section.key=value`, of how it is trained on.
        epoch: of the checkpoint; None = the last.
        data: the data set, if it is not where it was.
    """

    method: Method
    flops: float
    fine_tune: int
    changes: tuple[str, ...] = ()
    epoch: int | None = None
    data: Path | None = None


def rival_run(run: Run, question: RivalQuestion, out: Path, observer: Observer | None = None) -> Run:
    """Cut a copy of a run's network once, and fine-tune it.

    The cut network is the largest that uniform pruning leaves without exceeding the FLOPs. Nothing is done for what
    goes: no compensation, no δ_opt. The optimizer begins anew, with the learning rate of `rival_config`.

    Args:
        run: a run whose network has all its filters.
        question: how it is pruned.
        out: run folder to make; it must not exist. It is there when the cut is made, and whole.
        observer: told how it goes.

    Raises:
        RunError, DataError, ConfigError, PruningError: something is missing or cannot be done; nothing is left behind.
    """
    refuse_existing(out)
    observer = observer or Observer()
    config = rival_config(run.config, question.method, question.flops, question.fine_tune, question.changes)
    experiment = Experiment.prepare(config, dataset_of(run, question.data), observer.loading)
    relay = _Relay(observer)
    with aside(out) as folder:
        _Cutting(experiment, folder, relay, run, question, derived_name(run.path, out)).run_epoch(1)
    Trainer(experiment, out, relay, load_state(out, 1)).run()
    return Run(out)


def final_flops(run: Run) -> float:
    """Share of its unpruned network's FLOPs that a finished run has left, to be matched by others.

    Raises:
        RunError: it is not finished, or has lost nothing.
    """
    info, epochs = run.info, run.epochs()
    if info.status != "finished" or epochs.empty:
        raise RunError(f"run {run.name} is not finished, so its final FLOPs are not known; finish it first")
    left = float(epochs["flops"].iloc[-1]) / info.flops
    if left >= 1:
        raise RunError(
            f"run {run.name} has lost no filter, so there are no FLOPs to match; let it train for longer, or raise "
            "prune.threshold_max"
        )
    return left


def derived_name(run: Path, out: Path) -> str:
    """What a run is called beside another one: its path as seen from there, without the way up."""
    parts = Path(os.path.relpath(run.resolve(), out.absolute().parent)).parts
    return "/".join(part for part in parts if part != "..") or run.resolve().name


class _Relay(Observer):
    """Tells of an epoch that is over before training begins only when it begins."""

    def __init__(self, to: Observer) -> None:
        self._to = to
        self._waiting: list[EpochRow] | None = []
        self.step, self.stage, self.remark = to.step, to.stage, to.remark  # type: ignore[method-assign]

    def started(self, info: RunInfo, how: str = "", done: int = 0) -> None:
        """Training begins."""
        self._to.started(info, how, done)
        rows, self._waiting = self._waiting or [], None
        for row in rows:
            self._to.epoch(row)

    def epoch(self, row: EpochRow) -> None:
        """An epoch is over."""
        if self._waiting is None:
            self._to.epoch(row)
        else:
            self._waiting.append(row)


class _Cutting(Trainer):
    """Its first epoch is the cut of a network that was trained before; there is no other."""

    def __init__(
        self, experiment: Experiment, out: Path, observer: Observer, run: Run, question: RivalQuestion, origin: str
    ) -> None:
        super().__init__(experiment, out, observer)
        if self.writer is None:
            raise RunError("a rival is cut by one process; start it without torchrun")
        self.question = question
        epoch, path = run.checkpoint(question.epoch)
        model, _ = load_model(path)
        self._refuse_cut(run, model)
        self.network.load_state_dict(model.state_dict())
        made_from = Derived(origin, epoch, _how(question), trained=True)
        self._whole = self.writer.info.flops
        self.writer.info = replace(self.writer.info, derived_from=made_from)
        files.write_json(out / files.INFO, self.writer.info.to_json())

    def train(self, epoch: int) -> tuple[TrainLosses, list[Tensor]]:
        """No steps: only the batches on which it is measured how near to each other the maps are."""
        loader = self.fabric.setup_dataloaders(self.experiment.training_loader(epoch))
        images = [batch.image for batch in islice(loader, self.config.prune.batches)]
        return TrainLosses(math.nan, math.nan, math.nan), images

    def prune(self, epoch: int, batches: Sequence[Tensor]) -> PruneOutcome:
        """Choose by the weights, and cut; the records say what each filter that went leaves behind."""
        graph = self.sauron.graph
        measures = self.sauron.measure(batches)
        cut = graph.resolve(one_shot(self.network, graph, self.question.method, self._widths()))
        record = chosen_record(graph, measures, {layer: with_nearest(m, cut.ids) for layer, m in measures.items()})
        records = pruning_records(epoch, record, graph, self._measure_probe())
        self.sauron.apply(record.cut, self._optimizer)
        # Without gradients a step changes nothing; the schedule wants one before its own.
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.step()
        return PruneOutcome(record.layers, records)

    def _widths(self) -> dict[str, int]:
        network, dataset, widths = self.config.network, self.experiment.dataset, self.sauron.layers
        channels, classes, patch = len(dataset.channels), len(dataset.labels), self.config.data.patch
        whole = excluded(widths, self.config.prune.exclude)
        return uniform_widths(
            widths,
            lambda many: network_cost(network, channels, classes, patch, many).flops,
            self.question.flops * self._whole,
            whole,
            self.config.prune.width_multiple,
        )

    def _refuse_cut(self, run: Run, model: UNet) -> None:
        if model.spec != self.network.spec:
            raise RunError(
                f"the network of run {run.name} has lost filters already; a rival begins with a whole one, such as the "
                "unpruned baseline's"
            )


def _how(question: RivalQuestion) -> str:
    what = {"fpgm": "those nearest to the geometric median", "l1": "those of least L1 norm"}[question.method]
    return f"of each layer's filters {what} cut until {question.flops:.1%} of the FLOPs were left, then fine-tuned"

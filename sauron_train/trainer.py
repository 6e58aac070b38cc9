"""Trains a network and lets it shrink: train, validate, measure, decide, cut, log, checkpoint, once per epoch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from sauron_train import checkpoint
from sauron_train.analysis.clusterability import Clusterability, clusterability
from sauron_train.complexity import complexity
from sauron_train.config import Config
from sauron_train.describe import training_line
from sauron_train.distributed import Processes
from sauron_train.epoch_log import layer_distances, layer_maps, layer_rows
from sauron_train.errors import RunError, SauronError, TrainingError
from sauron_train.experiment import Experiment
from sauron_train.finite import Guard, Moment, refuse_validation
from sauron_train.graphs import Replayed, can_be_replayed
from sauron_train.losses import deep_supervision_loss
from sauron_train.machine import device_name, keep_freed_memory, peak_memory_mb, versions
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.optimizers import make_optimizer
from sauron_train.probe import ProbeResult, map_shapes, measure_probe, pruning_records
from sauron_train.progress import Observer
from sauron_train.pruning.compiled import prepare
from sauron_train.pruning.policy import History
from sauron_train.pruning.records import LayerRecord
from sauron_train.pruning.sauron import Sauron
from sauron_train.runlog import EpochRow, Pruning, Run, RunWriter
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.files import checkpoint_file, resume_file
from sauron_train.storage import MapsPlan, keeps_weights, plan_maps
from sauron_train.together import told
from sauron_train.validation import Validation, score_cases


@dataclass(frozen=True)
class TrainLosses:
    """Means over the steps of an epoch: the loss, its segmentation part, and δ_opt before λ (NaN if not taken)."""

    total: float
    segmentation: float
    delta_opt: float


@dataclass(frozen=True)
class PruneOutcome:
    """What one epoch's pruning measured, decided and removed; all empty when pruning is off.

    `records` are for the run folder, so only the process that writes it has them.
    """

    layers: Mapping[str, LayerRecord]
    records: Sequence[Pruning]

    @property
    def removed(self) -> int:
        """Filters that went."""
        return sum(len(layer.removed) for layer in self.layers.values())


NOTHING_PRUNED = PruneOutcome({}, ())


class Trainer:
    """Runs one experiment into one run folder, in one process or in each of several that torchrun started.

    Args:
        experiment: configuration and data, checked and read.
        out: the run folder to make, or with a `state` the one to go on with; only the first process writes there.
        observer: told how it goes, in the first process.
        state: what `checkpoint.load_state` read: go on from there, to the last bit as if it had never stopped; empty =
            no epoch was finished, so begin anew in the same folder.

    Raises:
        RunError: the folder exists, or the state is not that of this run.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        observer: Observer | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.experiment = experiment
        self.config: Config = experiment.config
        self.processes = Processes(self.config)
        self.fabric = self.processes.fabric
        if self.fabric.device.type == "cpu":
            keep_freed_memory()
        self.observer = observer if observer and self.processes.leads else Observer()
        torch.manual_seed(self.config.seed)
        spec = UNetSpec.unpruned(self.config.network, len(experiment.dataset.channels), len(experiment.dataset.labels))
        self.network = self.processes.prepared(UNet(spec, torch.Generator().manual_seed(self.config.seed)))
        self._optimizer = make_optimizer(self.network, self.config.optimizer)
        self.model: Any
        self.model, self.optimizer = self.fabric.setup(self.network, self._optimizer)
        self.scheduler = LambdaLR(self._optimizer, self._decay)
        self.probe_images = torch.from_numpy(experiment.probe.images).to(self.fabric.device)
        self.sauron = Sauron(
            self.network,
            self.probe_images[:1],
            self.config,
            UNet.layer_name,
        )
        self._replays = can_be_replayed(self.config, self.fabric.device, self.processes.count)
        self._replayed: Replayed | None = None
        self.history = History((), ())
        self.guard = Guard(self.network, self.config, self.processes)
        self.folder = out
        shapes = map_shapes(self.network, self.sauron.graph, self.probe_images[0])
        parameters = sum(p.numel() for p in self.network.parameters())
        self.maps_plan = plan_maps(self.config, shapes, len(self.probe_images), parameters=parameters)
        info = experiment.run_info(
            spec,
            self.sauron.graph,
            self._complexity(),
            device=device_name(self.fabric.device),
            versions=versions(),
            processes=self.processes.count,
        )
        # Plan and info are those of the whole network, so it is cut to what was left of it only now.
        if state:
            with self.processes.reshaping(self):
                self._restore(out, state)
        self.writer: RunWriter | None = None
        if self.processes.leads:
            self.writer = RunWriter.create(out, self.config, info) if state is None else RunWriter.reopen(out, info)
            if not state:
                self.writer.write_probe(experiment.probe)

    def run(self) -> None:
        """Train all epochs that are left; the run folder says how it ended, also when it is interrupted or fails."""
        if self.writer is None:
            with told(lambda _status, _message: None):
                self._run_epochs()
            return
        with claimed(self.writer.path):
            with told(self.writer.finish):
                self.observer.started(
                    self.writer.info,
                    f"{training_line(self.config)}\n{self.maps_plan}",
                    len(self.history.train_losses),
                )
                self._run_epochs()
            # Once more, for a run that was cut off between its last commit and this.
            self._drop_old(self.writer, self.config.epochs)
            self.writer.finish("finished")

    def _run_epochs(self) -> None:
        try:
            first = len(self.history.train_losses) + 1
            if self.sauron.measured and self.config.hardware.precision == "32-true":
                prepare(self.fabric.device, partial(self.observer.stage, first), self.observer.remark)
            for epoch in range(first, self.config.epochs + 1):
                self.run_epoch(epoch)
        except OSError as error:
            if self.writer is None:
                raise
            run, why = self.writer.path, error.strerror or str(error)
            raise RunError(
                f"run {run.name} cannot be written: {why} ({error.filename or run}); its finished epochs are whole, so "
                f"when that is mended, go on with: sauron-train resume {run}"
            ) from error

    def run_epoch(self, epoch: int) -> None:
        """One epoch, from the first step to its commit."""
        started = time.perf_counter()
        losses, recent = self.train(epoch)
        training_seconds = time.perf_counter() - started
        self.observer.stage(epoch, "validating")
        keep = epoch in self.maps_plan.epochs
        prunes = self.sauron.prunes_in(epoch)
        before = self.validate(hd95=keep and not prunes)
        self.history = History((*self.history.train_losses, losses.total), (*self.history.val_losses, before.loss))
        self.observer.stage(epoch, "measuring redundancy")
        outcome = self.prune(epoch, recent) if prunes else NOTHING_PRUNED
        after = self.validate(hd95=keep) if outcome.removed or (keep and prunes) else before
        lr = self._optimizer.param_groups[0]["lr"]
        self.scheduler.step()
        if self.writer is None:
            return
        probe = self._measure_probe(self.maps_plan if keep else None)
        measured = self._clusterability(probe)
        cost = self._complexity()
        row = EpochRow(
            epoch=epoch,
            train_loss=losses.total,
            train_segmentation_loss=losses.segmentation,
            train_delta_opt=losses.delta_opt,
            val_loss=after.loss,
            val_dice=after.mean_dice,
            val_loss_before_cut=before.loss,
            val_dice_before_cut=before.mean_dice,
            lr=lr,
            filters=sum(self.sauron.layers.values()),
            filters_removed=outcome.removed,
            parameters=cost.parameters,
            flops=cost.flops,
            seconds=0.0,
            seconds_training=training_seconds,
            memory_mb=peak_memory_mb(self.fabric.device),
            dice=after.dice,
            hd95=after.hd95,
        )
        self._save_measures(self.writer, epoch, probe, measured, outcome)
        self._save_weights(self.writer, row)
        self._save_state(self.writer, epoch)
        row = replace(row, seconds=time.perf_counter() - started)
        rows = layer_rows(epoch, self.sauron.graph, measured, outcome.layers, outcome.records)
        self.writer.commit_epoch(row, rows, outcome.records)
        self._drop_old(self.writer, epoch)
        self.observer.epoch(row)

    def train(self, epoch: int) -> tuple[TrainLosses, list[Tensor]]:
        """One epoch of steps.

        Returns:
            Mean losses, and the images of the last `prune.batches` batches for measuring δ_prune.
        """
        self.model.train()
        self.sauron.begin(epoch)
        share, sizes = self.processes.share, self.experiment.batch_sizes()
        loader = self.fabric.setup_dataloaders(
            self.experiment.training_loader(epoch, share), use_distributed_sampler=False
        )
        recent: deque[Tensor] = deque(maxlen=self.config.prune.batches)
        sums, taken = torch.zeros(3, dtype=torch.float64), 0
        if self._replays:
            self._replayed = Replayed(self._losses, self.network, len(sizes))
        for done, (batch, size) in enumerate(zip(loader, sizes, strict=True), start=1):
            kept = self.guard.before()
            own = self.backward(batch.image, batch.label, share.weight(size))
            losses = self.processes.mean(own, size)
            if wrong := self.guard.wrong(losses[0]):
                self.observer.remark(self.guard.skip(wrong, Moment(epoch, done, batch, own[0]), kept, self.folder))
                continue
            self.optimizer.step()
            sums += torch.tensor(losses, dtype=torch.float64)
            taken += 1
            recent.append(share.counted(batch.image, size))
            self.observer.step(epoch, done, len(sizes), losses[0])
        self._end_replays()
        if not taken:
            raise TrainingError(f"no step of epoch {epoch} could be taken; look at its batches, or lower optimizer.lr")
        total, segmentation, delta_opt = (sums / taken).tolist()
        return TrainLosses(total, segmentation, delta_opt), [images for images in recent if len(images)]

    def _end_replays(self) -> None:
        replayed, self._replayed = self._replayed, None
        if replayed is None:
            return
        replayed.close()
        if replayed.failure:
            self._replays = False
            self.observer.remark(f"steps are launched kernel by kernel: no CUDA graph of one ({replayed.failure})")

    def backward(self, images: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[float, float, float]:
        """Gradients of one step, which is not taken yet.

        Args:
            images: this process's part of the batch.
            labels: of the images.
            weight: what the loss of the part is taken times, so that the mean over the processes is that of the batch.

        Returns:
            The loss of the part, its segmentation part and δ_opt, NaN if not measured.
        """
        if self._replayed is None:
            self.optimizer.zero_grad(set_to_none=True)
            losses = self._losses(images, labels, None, weight)
        else:
            losses = self._replayed(images, labels, self.sauron.draw_images(len(images)))
        total, segmentation, delta_opt = losses.tolist()
        return total, segmentation, delta_opt if self.sauron.measured else math.nan

    def _losses(self, images: Tensor, labels: Tensor, chosen: Tensor | None, weight: float = 1.0) -> Tensor:
        """Gradients of one step, and what `backward` returns; nothing is read from the device."""
        outputs = self.model(images)
        delta_opt = self.sauron.delta_opt(chosen, with_loss=True)
        segmentation = deep_supervision_loss(outputs, labels)
        loss = segmentation + self.config.loss.lambda_ * delta_opt if self.sauron.penalised else segmentation
        self.fabric.backward(loss if weight == 1 else weight * loss)
        return torch.stack([loss.detach(), segmentation.detach(), delta_opt.detach()])

    def validate(self, hd95: bool = False) -> Validation:
        """Loss and scores on the whole validation cases, on the grid the network sees; each process takes some."""
        cases, labels = self.processes.mine(self.experiment.validation), self.experiment.dataset.labels
        results = score_cases(self.model, cases, labels, self.config.data.patch, self.fabric.device, hd95)
        return Validation.of(refuse_validation(self.processes.together(results)))

    def prune(self, epoch: int, batches: Sequence[Tensor]) -> PruneOutcome:
        """Measure, decide and cut; the records say what each filter that went leaves behind."""
        record = self.sauron.decide(self.sauron.measure(batches, self.processes.total), self.history)
        self.processes.agree(record.removed)
        if not record.cut:
            return PruneOutcome(record.layers, ())
        records = pruning_records(epoch, record, self.sauron.graph, self._measure_probe()) if self.writer else ()
        with self.processes.reshaping(self):
            self.sauron.apply(record.cut, self._optimizer)
        return PruneOutcome(record.layers, records)

    def _reschedule(self) -> None:
        """The rate as the schedule has it for so many epochs as are planned now, which may be more than before."""
        share = self._decay(self.scheduler.last_epoch)
        for group, base in zip(self._optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["lr"] = base * share

    def _decay(self, epoch: int) -> float:
        return float((1 - min(epoch, self.config.epochs - 1) / self.config.epochs) ** self.config.optimizer.power)

    def _measure_probe(self, keep: MapsPlan | None = None) -> ProbeResult:
        return measure_probe(self.network, self.sauron.graph, self.probe_images, self.config.loss.window, keep)

    def _clusterability(self, probe: ProbeResult) -> dict[str, Clusterability]:
        sample, radius = self.config.probe.dip, self.config.probe.radius
        return {layer: clusterability(found.distances, sample, radius) for layer, found in probe.layers.items()}

    def _complexity(self) -> Any:
        return complexity(self.network, self.network.spec.in_channels, self.config.data.patch)

    def _save_measures(
        self,
        writer: RunWriter,
        epoch: int,
        probe: ProbeResult,
        measured: Mapping[str, Clusterability],
        outcome: PruneOutcome,
    ) -> None:
        graph = self.sauron.graph
        writer.write_distances(epoch, layer_distances(graph, probe.layers, measured))
        if epoch not in self.maps_plan.epochs:
            return
        for layer, on_probe in probe.layers.items():
            maps = layer_maps(epoch, layer, graph, on_probe, outcome.layers.get(layer))
            if maps is not None:
                writer.write_maps(maps)
        writer.write_prediction(epoch, probe.prediction)

    def _save_weights(self, writer: RunWriter, row: EpochRow) -> None:
        graph = self.sauron.graph
        info = checkpoint.CheckpointInfo(
            epoch=row.epoch,
            architecture=self.network.spec.with_filters(graph.widths()),
            filters={layer: graph.filters(layer) for layer in graph.layers},
            labels=self.experiment.dataset.labels,
            scores={"val_loss": row.val_loss, "val_dice": row.val_dice},
        )
        name = checkpoint_file(row.epoch)
        writer.wrote(row.epoch, name, checkpoint.save_checkpoint(writer.path / name, self.network, info))

    def _drop_old(self, writer: RunWriter, epoch: int) -> None:
        # The weights of every epoch are written, so that a run that is stopped leaves its latest network; those between
        # epochs with maps are only kept until the next are there.
        for old in Run(writer.path).checkpoints():
            # A run that was given more epochs spaces its maps anew; what it has kept until then stays.
            begun_anew = max(writer.info.extended, default=0)
            if begun_anew < old < epoch and not keeps_weights(self.config, self.maps_plan.epochs, old):
                writer.drop_checkpoint(old)
        writer.drop_states(but=epoch)

    def _save_state(self, writer: RunWriter, epoch: int) -> None:
        state = {
            "config": self.config.model_dump(by_alias=True, mode="json"),
            "history": {"train": list(self.history.train_losses), "val": list(self.history.val_losses)},
            "model": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "sauron": self.sauron.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "skipped": self.guard.skipped,
        }
        writer.wrote(epoch, resume_file(epoch), checkpoint.save_state(writer.path, epoch, state))

    def _restore(self, run: Path, state: Mapping[str, Any]) -> None:
        try:
            self.sauron.load_state_dict(state["sauron"])
            self.network.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            self.history = History(tuple(state["history"]["train"]), tuple(state["history"]["val"]))
            torch.set_rng_state(state["torch_rng"])
            self.guard.skipped = int(state.get("skipped", 0))
            self._reschedule()
        except (SauronError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise RunError(f"what run {run.name} left to go on from does not fit it ({reason})") from None

"""Trains a network and lets it shrink: train, validate, measure, decide, cut, log, checkpoint, once per epoch."""

from __future__ import annotations

import math
import platform
import resource
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from sauron_train import checkpoint
from sauron_train.analysis.clusterability import Clusterability, clusterability
from sauron_train.complexity import complexity
from sauron_train.config import Config, HardwareConfig, OptimizerConfig
from sauron_train.describe import training_line
from sauron_train.epoch_log import layer_distances, layer_maps, layer_rows
from sauron_train.errors import ConfigError, RunError, SauronError
from sauron_train.experiment import Experiment
from sauron_train.losses import deep_supervision_loss
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.probe import ProbeResult, map_shapes, measure_probe, pruning_records
from sauron_train.progress import Observer
from sauron_train.pruning.policy import History
from sauron_train.pruning.records import LayerRecord
from sauron_train.pruning.sauron import Sauron
from sauron_train.runlog import EpochRow, Pruning, Run, RunWriter
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.files import checkpoint_file
from sauron_train.storage import MapsPlan, keeps_weights, plan_maps
from sauron_train.validation import Validation, validate


class TrainingError(SauronError):
    """Training cannot go on."""


@dataclass(frozen=True)
class TrainLosses:
    """Means over the steps of an epoch: the loss, its segmentation part, and δ_opt before λ (NaN if not taken)."""

    total: float
    segmentation: float
    delta_opt: float


@dataclass(frozen=True)
class PruneOutcome:
    """What one epoch's pruning measured, decided and removed; all empty when pruning is off."""

    layers: Mapping[str, LayerRecord]
    records: Sequence[Pruning]

    @property
    def removed(self) -> int:
        """Filters that went."""
        return sum(len(record.removed) for record in self.records)


NOTHING_PRUNED = PruneOutcome({}, ())


class Trainer:
    """Runs one experiment into one run folder.

    Args:
        experiment: configuration and data, checked and read.
        out: the run folder to make, or with a `state` the one to go on with.
        observer: told how it goes.
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
        self.observer = observer or Observer()
        self.fabric = make_fabric(self.config.hardware)
        torch.manual_seed(self.config.seed)
        spec = UNetSpec.unpruned(self.config.network, len(experiment.dataset.channels), len(experiment.dataset.labels))
        self.network = UNet(spec, torch.Generator().manual_seed(self.config.seed))
        self._optimizer = make_optimizer(self.network, self.config.optimizer)
        self.model, self.optimizer = self.fabric.setup(self.network, self._optimizer)
        self.scheduler = LambdaLR(self._optimizer, self._decay)
        self.probe_images = torch.from_numpy(experiment.probe.images).to(self.fabric.device)
        self.sauron = Sauron(
            self.network,
            self.probe_images[:1],
            self.config,
            UNet.layer_name,
        )
        self.history = History((), ())
        shapes = map_shapes(self.network, self.sauron.graph, self.probe_images[0])
        parameters = sum(p.numel() for p in self.network.parameters())
        self.maps_plan = plan_maps(self.config, shapes, len(self.probe_images), parameters=parameters)
        info = experiment.run_info(
            spec, self.sauron.graph, self._complexity(), device=device_name(self.fabric.device), versions=versions()
        )
        if state is None:
            self.writer = RunWriter.create(out, self.config, info)
            self.writer.write_probe(experiment.probe)
        else:
            # Plan and info are those of the whole network, so it is cut to what was left of it only now.
            if state:
                self._restore(out, state)
            self.writer = RunWriter.reopen(out, info)
            if not state:
                self.writer.write_probe(experiment.probe)

    def run(self) -> None:
        """Train all epochs that are left; the run folder says how it ended, also when it is interrupted or fails."""
        done = len(self.history.train_losses)
        with claimed(self.writer.path):
            try:
                self.observer.started(self.writer.info, f"{training_line(self.config)}\n{self.maps_plan}", done)
                for epoch in range(done + 1, self.config.epochs + 1):
                    self.run_epoch(epoch)
            except KeyboardInterrupt:
                self.writer.finish("stopped", "interrupted by the user")
                raise
            except BaseException as error:
                self.writer.finish("failed", str(error).split("\n")[0])
                raise
            self.writer.finish("finished")
            self.writer.drop_states()

    def run_epoch(self, epoch: int) -> None:
        """One epoch, from the first step to its commit."""
        started = time.perf_counter()
        losses, recent = self.train(epoch)
        training_seconds = time.perf_counter() - started
        self.observer.stage(epoch, "validating")
        before = self.validate()
        self.history = History((*self.history.train_losses, losses.total), (*self.history.val_losses, before.loss))
        self.observer.stage(epoch, "measuring redundancy")
        outcome = self.prune(epoch, recent) if self.sauron.prunes_in(epoch) else NOTHING_PRUNED
        keep = epoch in self.maps_plan.epochs
        after = self.validate(hd95=keep) if outcome.removed or keep else before
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
            lr=self._optimizer.param_groups[0]["lr"],
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
        self._save_measures(epoch, probe, measured, outcome)
        self._save_weights(row)
        self.scheduler.step()
        self._save_state(epoch)
        row = replace(row, seconds=time.perf_counter() - started)
        rows = layer_rows(epoch, self.sauron.graph, measured, outcome.layers, outcome.records)
        self.writer.commit_epoch(row, rows, outcome.records)
        self._drop_old(epoch)
        self.observer.epoch(row)

    def train(self, epoch: int) -> tuple[TrainLosses, list[Tensor]]:
        """One epoch of steps.

        Returns:
            Mean losses, and the images of the last `prune.batches` batches for measuring δ_prune.
        """
        self.model.train()
        loader = self.fabric.setup_dataloaders(self.experiment.training_loader(epoch))
        recent: deque[Tensor] = deque(maxlen=self.config.prune.batches)
        sums = torch.zeros(3, dtype=torch.float64)
        steps = len(loader)
        for done, batch in enumerate(loader, start=1):
            total, segmentation, delta_opt = self.step(batch.image, batch.label)
            if not math.isfinite(total):
                raise TrainingError(
                    f"the loss is {total} in epoch {epoch} at the cases {', '.join(batch.cases)}; "
                    "look at these images, or lower optimizer.lr"
                )
            sums += torch.tensor([total, segmentation, delta_opt], dtype=torch.float64)
            recent.append(batch.image)
            self.observer.step(epoch, done, steps, total)
        total, segmentation, delta_opt = (sums / steps).tolist()
        return TrainLosses(total, segmentation, delta_opt), list(recent)

    def step(self, images: Tensor, labels: Tensor) -> tuple[float, float, float]:
        """One optimisation step; returns the loss, its segmentation part and δ_opt, NaN if not measured."""
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self.model(images)
        delta_opt = self.sauron.delta_opt()
        segmentation = deep_supervision_loss(outputs, labels)
        loss = segmentation + self.config.loss.lambda_ * delta_opt
        self.fabric.backward(loss)
        self.optimizer.step()
        return loss.item(), segmentation.item(), delta_opt.item() if self.sauron.measured else math.nan

    def validate(self, hd95: bool = False) -> Validation:
        """Loss and scores on the whole validation cases, on the grid the network sees."""
        cases, labels = self.experiment.validation, self.experiment.dataset.labels
        return validate(self.model, cases, labels, self.config.data.patch, self.fabric.device, hd95)

    def prune(self, epoch: int, batches: Sequence[Tensor]) -> PruneOutcome:
        """Measure, decide and cut; the records say what each filter that went leaves behind."""
        record = self.sauron.decide(self.sauron.measure(batches), self.history)
        if not record.cut:
            return PruneOutcome(record.layers, ())
        records = pruning_records(epoch, record, self.sauron.graph, self._measure_probe())
        self.sauron.apply(record.cut, self._optimizer)
        return PruneOutcome(record.layers, records)

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
        self, epoch: int, probe: ProbeResult, measured: Mapping[str, Clusterability], outcome: PruneOutcome
    ) -> None:
        graph = self.sauron.graph
        self.writer.write_distances(epoch, layer_distances(graph, probe.layers, measured))
        if epoch not in self.maps_plan.epochs:
            return
        for layer, on_probe in probe.layers.items():
            maps = layer_maps(epoch, layer, graph, on_probe, outcome.layers.get(layer))
            if maps is not None:
                self.writer.write_maps(maps)
        self.writer.write_prediction(epoch, probe.prediction)

    def _save_weights(self, row: EpochRow) -> None:
        graph = self.sauron.graph
        info = checkpoint.CheckpointInfo(
            epoch=row.epoch,
            architecture=self.network.spec.with_filters(graph.widths()),
            filters={layer: graph.filters(layer) for layer in graph.layers},
            labels=self.experiment.dataset.labels,
            scores={"val_loss": row.val_loss, "val_dice": row.val_dice},
        )
        checkpoint.save_checkpoint(self.writer.path / checkpoint_file(row.epoch), self.network, info)

    def _drop_old(self, epoch: int) -> None:
        # The weights of every epoch are written, so that a run that is stopped leaves its latest network; those between
        # epochs with maps are only kept until the next are there.
        for old in Run(self.writer.path).checkpoints():
            if old < epoch and not keeps_weights(self.config, self.maps_plan.epochs, old):
                self.writer.drop_checkpoint(old)
        self.writer.drop_states(but=epoch)

    def _save_state(self, epoch: int) -> None:
        state = {
            "config": self.config.model_dump(by_alias=True, mode="json"),
            "history": {"train": list(self.history.train_losses), "val": list(self.history.val_losses)},
            "model": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "sauron": self.sauron.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        checkpoint.save_state(self.writer.path, epoch, state)

    def _restore(self, run: Path, state: Mapping[str, Any]) -> None:
        try:
            self.sauron.load_state_dict(state["sauron"])
            self.network.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            self.history = History(tuple(state["history"]["train"]), tuple(state["history"]["val"]))
            torch.set_rng_state(state["torch_rng"])
        except (SauronError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise RunError(f"what run {run.name} left to go on from does not fit it ({reason})") from None


def make_fabric(config: HardwareConfig) -> Fabric:
    """Lightning Fabric on the hardware that a configuration names.

    Raises:
        ConfigError: this machine does not have it.
    """
    try:
        return Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"hardware.accelerator={config.accelerator} with hardware.precision={config.precision} cannot be used here "
            f"({reason}); set them to auto and 32-true"
        ) from None


def make_optimizer(model: UNet, config: OptimizerConfig) -> Optimizer:
    """The optimizer that a configuration names."""
    parameters = model.parameters()
    decay, momentum = config.weight_decay, config.momentum
    if config.name == "sgd":
        return SGD(parameters, config.lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    if config.name == "rmsprop":
        return RMSprop(parameters, config.lr, momentum=momentum, weight_decay=decay)
    kind = Adam if config.name == "adam" else AdamW
    return kind(parameters, config.lr, weight_decay=decay, amsgrad=config.amsgrad)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    from importlib.metadata import version  # noqa: PLC0415

    packages = ("sauron-unet", "torch", "torchio", "monai", "lightning-fabric", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def device_name(device: torch.device) -> str:
    """The device in words a person knows."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

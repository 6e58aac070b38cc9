"""One experiment, checked and read into memory, before anything is written."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.utils.data import DataLoader

from sauron_train.complexity import Complexity
from sauron_train.config import Config
from sauron_train.data import remarks
from sauron_train.data.datasets import check_channels, read_dataset, without
from sauron_train.data.geometry import Geometry
from sauron_train.data.load import load_volumes
from sauron_train.data.loader import ALONE, Share, batch_sizes, training_loader
from sauron_train.data.patches import TrainingPatches
from sauron_train.data.split import split_cases
from sauron_train.data.types import Batch, Dataset, Split, Volume
from sauron_train.data.views import network_input, probe, stack_back
from sauron_train.errors import DataError
from sauron_train.models.unet import UNetSpec
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.runlog import LayerInfo, Probe, RunInfo
from sauron_train.runlog.process import identity
from sauron_train.runlog.writer import now

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ValidationCase:
    """A whole case as the network sees it: images (B, C, *spatial), labels (B, *spatial) uint8; B = slices in 2D.

    `spacing` is that of the volume, in mm; `as_volume` puts label maps (B, *spatial) back together as (X, Y, Z).
    """

    name: str
    images: Tensor
    labels: Tensor
    spacing: tuple[float, float, float]
    as_volume: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A configuration together with its data; `remarks` are sentences on what is odd about them."""

    config: Config
    dataset: Dataset
    split: Split
    patches: TrainingPatches
    validation: Sequence[ValidationCase]
    probe: Probe
    geometry: Geometry
    remarks: tuple[str, ...]

    @classmethod
    def prepare(
        cls,
        config: Config,
        data: Path | Dataset,
        on_progress: OnProgress | None = None,
        cache: Path | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Experiment:
        """Check a data set, split it and read it.

        Args:
            config: the whole configuration.
            data: folder of a data set in a layout that is known, or what was read of one.
            on_progress: told how many of how many cases are read.
            cache: folder of preprocessed cases; see `load_volumes`.
            tell: told what came from there.

        Raises:
            DataError: anything wrong with the data.
            ConfigError: a configuration that does not fit it.
        """
        discarded = config.data.discard
        dataset = without(data if isinstance(data, Dataset) else read_dataset(data, discarded), discarded)
        check_channels(dataset, config)
        split = split_cases(dataset, config.data, config.seed)
        cases = (*split.train, *split.validation)
        volumes = load_volumes(cases, dataset, config, on_progress, cache, tell)
        train, validation = volumes[: len(split.train)], volumes[len(split.train) :]
        for what, some in (("training", train), ("validation", validation)):
            _refuse_unlabelled(some, what, dataset)
        return cls(
            config=config,
            dataset=dataset,
            split=split,
            patches=TrainingPatches(train, config, config.seed),
            validation=tuple(validation_case(volume, config) for volume in validation),
            probe=probe(validation, config),
            geometry=Geometry.of_volumes(train),
            remarks=(
                *dataset.remarks,
                *remarks.of_volumes(train, validation),
                *remarks.of_classes(train, validation, dataset.labels),
                *remarks.of_patches(train, config),
            ),
        )

    def training_loader(self, epoch: int, share: Share = ALONE) -> DataLoader[Batch]:
        """Batches of an epoch, or a share of each; the same ones whatever the number of workers."""
        return training_loader(self.patches, self.config, epoch, share)

    def batch_sizes(self) -> list[int]:
        """How many patches each batch of an epoch has, whoever shares them."""
        return batch_sizes(self.patches, self.config.data.batch_size)

    def run_info(
        self,
        spec: UNetSpec,
        graph: ChannelGraph,
        cost: Complexity,
        device: str,
        versions: Mapping[str, str],
        processes: int = 1,
    ) -> RunInfo:
        """What `run.json` says when training starts."""
        return RunInfo(
            status="running",
            created=now(),
            ended=None,
            message="",
            host=socket.gethostname(),
            pid=os.getpid(),
            process_identity=identity(os.getpid()),
            seed=self.config.seed,
            device=device,
            versions=dict(versions),
            dataset=self.dataset.name,
            data_root=str(self.dataset.root.resolve()),
            fingerprint=self.dataset.fingerprint,
            channels=self.dataset.channels,
            labels=self.dataset.labels,
            train_cases=tuple(case.name for case in self.split.train),
            validation_cases=tuple(case.name for case in self.split.validation),
            probe_images=self.probe.names,
            layers=tuple(layer_info(name, spec, graph) for name in graph.layers),
            parameters=cost.parameters,
            flops=cost.flops,
            epochs_planned=self.config.epochs,
            mode=self.config.mode,
            processes=processes,
            orientation=self.geometry.axes,
            spacing=self.geometry.spacing,
            remarks=self.remarks,
        )


def _refuse_unlabelled(volumes: Sequence[Volume], what: str, dataset: Dataset) -> None:
    if not any(volume.label is not None and bool(volume.label.any()) for volume in volumes):
        raise DataError(
            f"no {what} case of {dataset.name} has a voxel of any structure, only background, so there is nothing to "
            "learn or to score; look at labelsTr"
        )


def validation_case(volume: Volume, config: Config) -> ValidationCase:
    """Prepare a labelled volume for validation."""
    images, labels = network_input(volume, config)
    if labels is None:
        raise DataError(f"case {volume.name} has no label, so it cannot be validated; add one or remove the case")
    return ValidationCase(volume.name, images, labels, volume.spacing, partial(stack_back, config=config))


def layer_info(name: str, spec: UNetSpec, graph: ChannelGraph) -> LayerInfo:
    """A prunable layer as it was before training."""
    part: Literal["encoder", "decoder"] = "encoder" if name.startswith("enc_") else "decoder"
    return LayerInfo(name, graph.layers[name].kind, part, spec.level(name), len(graph.filters(name)))

"""A network from a run, ready to segment: `predict` and `evaluate` share it, so what is scored is what is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sauron_train.checkpoint import CheckpointInfo, load_model
from sauron_train.complexity import complexity
from sauron_train.config import Config
from sauron_train.data.geometry import Geometry
from sauron_train.data.grid import all_classes, most_probable, to_original_grid
from sauron_train.data.load import load_image
from sauron_train.data.types import Volume
from sauron_train.data.views import classes_back, network_input
from sauron_train.deploy.choice import Choice, Wanted, choose, patches_of
from sauron_train.deploy.engines import EngineName, Network, available
from sauron_train.deploy.trial import example, fastest, ready
from sauron_train.errors import ConfigError, RunError
from sauron_train.inference import class_probabilities
from sauron_train.models.unet import UNet
from sauron_train.postprocess import largest_components
from sauron_train.runlog import Run

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Inference:
    """How images are segmented.

    Attributes:
        overlap: share of a patch by which neighbours overlap; where they do, they are blended with Gaussian weights.
        flips: whether class probabilities are averaged over flips of the image: both in-plane axes in 2D, all in 3D.
        largest_component: names of the classes of which only the largest connected component is kept.
        device: where the network runs; auto = on a GPU if there is one and the run was not told to keep off it.
        engine: what computes the network; auto = the fastest at hand where there is enough to do.
    """

    overlap: float = 0.5
    flips: bool = False
    largest_component: tuple[str, ...] = ()
    device: Device = "auto"
    engine: Wanted = "torch"

    def recorded(self) -> dict[str, object]:
        """What a result depends on, as plain values."""
        return {"overlap": self.overlap, "flips": self.flips, "largest_component": list(self.largest_component)}


def chosen_classes(labels: Mapping[str, int], every: bool, named: Collection[str]) -> tuple[str, ...]:
    """Names of the classes that `--largest-component` holds for.

    Raises:
        ConfigError: a name that is no class of the run.
    """
    known = [name for name, value in labels.items() if value != 0]
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ConfigError(f"--largest-of {unknown[0]!r} is no class of this run; it has {', '.join(known)}")
    return tuple(name for name in known if every or name in named)


def untrained_flips(config: Config) -> tuple[int, ...]:
    """Axes of the patch along which flips are averaged over, but were never seen in training."""
    trained = config.augment.flip_axes if config.augment.flip_p > 0 else ()
    return tuple(axis for axis in range(config.network.dim) if axis not in trained)


@dataclass(frozen=True)
class Segmentation:
    """A label map (X, Y, Z) uint8 on the grid of the image's file; class probabilities (K, X, Y, Z) if asked for."""

    labels: Tensor
    probabilities: Tensor | None = None


@dataclass(frozen=True)
class Predictor:
    """A network from a run, where it runs, and how."""

    model: UNet
    info: CheckpointInfo
    config: Config
    labels: Mapping[str, int]
    trained: Geometry
    device: torch.device
    how: Inference
    network: Network
    engine: EngineName = "torch"

    @classmethod
    def from_run(cls, run: Run, epoch: int | None = None, how: Inference | None = None) -> Predictor:
        """Load a checkpoint of a run, the last one if no epoch is named.

        Raises:
            RunError: no checkpoint, not of that epoch, or no GPU where one is asked for.
        """
        chosen = how or Inference()
        model, info = load_model(run.checkpoint(epoch)[1])
        device = chosen_device(chosen.device, run.config.hardware.accelerator)
        known, model = run.info, model.to(device)
        return cls(model, info, run.config, known.labels, Geometry.of_run(known), device, chosen, model)

    def ready_for(self, images: Sequence[Path]) -> tuple[Predictor, Choice]:
        """The same with the engine that is wanted for these examinations, and why it is that one.

        Args:
            images: one file of each examination.

        Raises:
            ConfigError, RunError: the engine that is wanted is not installed, or cannot run this network.
        """
        how, patch, threads = self.how, self.config.data.patch, torch.get_num_threads()
        patches = patches_of(images, self.config, how.overlap, how.flips) if how.engine == "auto" else 0
        flops = complexity(self.model, self.channels, patch).flops
        choice = choose(how.engine, self.device, patches, flops, threads)
        if choice is None:
            engines = [name for name in available() if name != "torch"]
            network, choice = fastest(self.model, engines, threads, patch)
        elif choice.engine == "torch":
            network = self.model
        else:
            network = ready(choice.engine, self.model, threads, example(self.model, patch))
        return replace(self, network=network, engine=choice.engine), choice

    @property
    def channels(self) -> int:
        """How many files make an image."""
        return self.info.architecture.in_channels

    def load(self, images: Sequence[Path], tell: Callable[[str], None] | None = None) -> Volume:
        """Read an examination, one file per channel, and preprocess it as those of the training were.

        Raises:
            DataError: one that cannot be used; see `load_image`.
        """
        return load_image(images, self.config, self.channels, self.trained, tell)

    def segment(self, volume: Volume, reference: Path, probabilities: bool = False) -> Segmentation:
        """Segment a volume that was loaded, on the grid of the file `reference`; on request keep the probabilities."""
        images, _ = network_input(volume, self.config)
        how = self.how
        found = class_probabilities(self.network, images, self.config.data.patch, self.device, how.overlap, how.flips)
        by_class = to_original_grid(classes_back(found, self.config), volume, reference)
        kept = all_classes(by_class) if probabilities else None
        labels = most_probable(by_class if kept is None else kept)
        if how.largest_component:
            numbers = [self.labels[name] for name in how.largest_component]
            labels = torch.from_numpy(largest_components(labels.numpy(), numbers))
        return Segmentation(labels, kept)


def chosen_device(wanted: Device, accelerator: str) -> torch.device:
    """Where a network runs: on the device that is wanted, or on a GPU if there is one and the run was not kept off it.

    Raises:
        RunError: no GPU where one is asked for.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise RunError("--device cuda: torch sees no GPU here; choose --device cpu, or install torch for your GPU")
    if wanted == "auto":
        wanted = "cuda" if there and accelerator not in ("cpu", "mps") else "cpu"
    return torch.device(wanted)

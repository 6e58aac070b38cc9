"""What an experiment is: one frozen object, read from YAML and written back whole.

A recipe names only what it changes; every other key has the default below. An unknown key is an error that names the
nearest known one, so that a typing mistake never trains the wrong experiment.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from sauron_train.config_data import AugmentConfig, DataConfig, PreprocessConfig, Probability, Section, key_line
from sauron_train.errors import ConfigError
from sauron_train.keys import overlaid
from sauron_train.mistakes import sentence
from sauron_train.presets import PRESETS

_TIMES_MAPS_ARE_STORED = 20


class NetworkConfig(Section):
    """The U-Net (paper, Appendices B and C.3)."""

    dim: Literal[2, 3]
    levels: int = Field(5, ge=2, le=8)
    init_filters: int = Field(32, ge=2)
    max_filters: int = Field(480, ge=2)
    norm: Literal["instance", "batch"] = "instance"


class LossConfig(Section):
    """Segmentation loss plus λ times the mean of δ_opt over the prunable layers (paper, Section 3)."""

    lambda_: float = Field(0.5, alias="lambda", ge=0.0, description="weight of δ_opt; 0 only looks at it")
    normalization: Literal["maps", "none", "distances", "off"] = Field(
        "maps", description="how δ_opt is normalised (paper, Appendix A); off = no δ_opt at all"
    )
    reference: Literal["first", "random"] = Field(
        "first",
        description="the map that the others of a layer are pulled to: channel 0, or another one drawn in each step",
    )
    window: int = Field(2, ge=1, description="ω: side and stride of the average pooling before distances are taken")
    samples: int | None = Field(
        None,
        ge=1,
        description="images of a batch of which δ_opt is taken, drawn anew in each step (of each process's part, where"
        " several train together); null = all. 1 costs far less and is the same on average (design choice)",
    )
    until_last_cut: bool = Field(
        False,
        description="δ_opt is in the loss only as long as filters may go, up to prune.last_epoch: what recovers"
        " afterwards has nothing to gain by maps that are alike (design choice); false = to the end, as published",
    )

    @field_validator("normalization", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        # YAML reads a bare `off` as false.
        return "off" if value is False else value


class OptimizerConfig(Section):
    """Adam with polynomial decay of the learning rate: lr · (1 - epoch / epochs) ** power (paper, Appendix C.4)."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    lr: float = Field(1e-3, gt=0.0)
    weight_decay: float = Field(1e-5, ge=0.0)
    amsgrad: bool = Field(
        False, description="adam and adamw only: the variant that remembers the largest second moment"
    )
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="sgd (Nesterov's, where above 0) and rmsprop only")
    power: float = Field(0.9, ge=0.0)
    skip_steps: int = Field(
        0,
        ge=0,
        description="steps of a run that may be left out because their loss or gradient is NaN or infinite, before"
        " training stops; their batches are stored in bad_batches",
    )


class PruneConfig(Section):
    """δ_prune and the thresholds that adjust themselves per layer (paper, Section 3.2)."""

    enabled: bool = True
    threshold_start: float = Field(0.001, ge=0.0, le=1.0)
    threshold_max: float = Field(0.3, ge=0.0, le=1.0, description="τ_max, in the unit of δ_prune")
    kappa: int = Field(15, ge=1, description="κ: number of steps from the first threshold to τ_max")
    patience: int = Field(5, ge=1, description="ρ: epochs a layer waits after its threshold rose")
    mu: Probability = Field(0.02, description="μ: a layer that lost this share of its filters has not converged")
    compensate: Literal["none", "merge"] = Field(
        "merge",
        description="merge = what readers did with a filter that goes is added to what they do with the survivor that"
        " explains it best (design choice); none = it is lost, as published",
    )
    references: Literal["one", "all"] = Field(
        "all",
        description="one = a layer's filters are compared with one π that is drawn each epoch, as published; all = each"
        " filter that stays is π in turn, in drawn order (design choice)",
    )
    width_multiple: int = Field(
        1,
        ge=1,
        le=64,
        description="layers are only cut to multiples of this, below it to halves of it: kernels work in blocks of 8 or"
        " 16 channels, so a network of other widths is no faster (design choice); 1 = to any width, as published",
    )
    exclude: tuple[str, ...] = Field(
        (), description="layers that are never cut, by name; * stands for anything, as in dec_trans_*"
    )
    batches: int = Field(4, ge=1, description="training batches over which δ_prune is averaged")
    first_epoch: int = Field(1, ge=1)
    last_epoch: int | None = Field(None, ge=1, description="no cut after this epoch; null = to the end, as published")
    converge_on: Literal["validation", "train", "always"] = Field(
        "validation",
        description="losses by which a layer has converged; always = thresholds rise every ρ + 1 epochs whatever the"
        " losses do, for runs too short to converge (design choice)",
    )
    validation_veto: bool = Field(True, description="a new best validation loss holds the thresholds")

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.threshold_max < self.threshold_start:
            raise ValueError("prune.threshold_max must not be below prune.threshold_start")
        if self.last_epoch is not None and self.last_epoch < self.first_epoch:
            raise ValueError("prune.last_epoch must not be before prune.first_epoch")
        return self


class RivalConfig(Section):
    """Another method by which filters were chosen, all at once in a trained network that was then trained on.

    Runs of `sauron-train rival` have it; their first epoch is the cut.
    """

    method: Literal["fpgm", "l1"] = Field(
        description="fpgm = those nearest to the geometric median of their layer go, l1 = those of least L1 norm"
    )
    flops: float = Field(gt=0.0, le=1.0, description="share of the FLOPs that were to be left")


Preset = Literal["paper"]


class _OverPreset(Section):
    @model_validator(mode="before")
    @classmethod
    def _over_preset(cls, values: Any) -> Any:
        """What was given, over the defaults that a preset puts in the place of ours."""
        preset = values.get("preset") if isinstance(values, Mapping) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return values
        return overlaid({key: value for key, value in PRESETS[preset].items() if key in cls.model_fields}, values)


class SauronConfig(_OverPreset):
    """What the method needs around any network: the penalty, the thresholds, and the seed of what is drawn."""

    preset: Preset | None = Field(None, description="paper = the published method wherever a key is not given")
    loss: LossConfig = LossConfig()
    prune: PruneConfig = PruneConfig()
    seed: int = Field(0, ge=0, lt=2**63)

    @classmethod
    def of(cls, config: SauronConfig | Config | Mapping[str, Any] | None) -> SauronConfig:
        """From a whole experiment's configuration, a table of keys, or nothing.

        Raises:
            ConfigError: an unknown key, or an impossible value.
        """
        if isinstance(config, SauronConfig):
            return config
        if config is not None and not isinstance(config, (Config, Mapping)):
            raise ConfigError(f'config must be a table of keys, such as {{"preset": "paper"}} (it is {config!r})')
        if isinstance(config, Config):
            return cls(preset=config.preset, loss=config.loss, prune=config.prune, seed=config.seed)
        try:
            return cls.model_validate({} if config is None else config)
        except ValidationError as error:
            raise ConfigError(sentence(error, known_keys(), tuple(cls.model_fields))) from None


class ProbeConfig(Section):
    """The fixed images on which maps are measured in every epoch (paper, Appendix D)."""

    images: int = Field(4, ge=1, description="validation cases with labelled voxels, chosen by the seed")
    seed: int | None = Field(None, ge=0, lt=2**63, description="from which they are chosen; null = the seed of the run")
    dip: Literal["pairs", "reference", "pca"] = Field(
        "pairs",
        description="of which values the dip is taken: all distances between two maps, those to channel 0, or scores on"
        " the first principal component",
    )
    radius: float = Field(
        0.1, gt=0.0, le=1.0, description="maps nearer than this are neighbours, in units of a map's range"
    )


class MapsConfig(Section):
    """Which maps are stored, with all distances between them, and how large they may become."""

    every: int | None = Field(
        None,
        ge=1,
        description="stored every so many epochs, and at the first and the last; null = about twenty times in a run",
    )
    epochs: tuple[int, ...] = Field((), description="and at these epochs")
    layers: tuple[str, ...] = Field(("*",), description="layers whose maps are stored; * stands for anything")
    max_side: int = Field(64, ge=4, description="maps are pooled until no side is longer, in voxels")
    checkpoints: int | None = Field(
        None, ge=1, description="weights are kept every so many epochs too, to be analysed later; null = with maps only"
    )
    budget_mb: int = Field(2000, ge=1, description="megabytes for all of them; maps are pooled further until they fit")


class HardwareConfig(Section):
    """Where it runs, in the words of Lightning Fabric."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int = Field(
        1,
        ge=1,
        description="GPUs of this machine that train together, each with its part of every batch; where torchrun starts"
        " the processes, it says how many",
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    cuda_graph: bool = Field(
        True,
        description="on one GPU, launch all kernels of a step at once, which is far faster",
    )


class Config(_OverPreset):
    """A whole experiment."""

    name: str = ""
    description: str = ""
    preset: Preset | None = Field(
        None,
        description="paper = the published method (no compensation, one π, thresholds up to 0.3, Adam at 0.001) where"
        " this file does not give a key; --set preset=paper wins over the file",
    )
    seed: int = Field(0, ge=0, lt=2**63)
    epochs: int = Field(ge=1)
    data: DataConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    prune: PruneConfig = PruneConfig()
    rival: RivalConfig | None = Field(
        None, description="filters were chosen by another method, as `sauron-train rival` does; null = by Sauron"
    )
    probe: ProbeConfig = ProbeConfig()
    maps: MapsConfig = MapsConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(self.data.patch) != self.network.dim:
            raise ValueError(
                f"data.patch has {len(self.data.patch)} numbers but network.dim is {self.network.dim}; "
                f"give {self.network.dim}"
            )
        if self.data.patches_per_volume > 1 and (self.network.dim == 2 or self.data.steps_per_epoch is not None):
            raise ValueError(
                f"data.patches_per_volume is {self.data.patches_per_volume}, but the length of an epoch is given by "
                + ("the slices in 2D" if self.network.dim == 2 else "data.steps_per_epoch")
                + "; set data.patches_per_volume to 1"
            )
        factor = 2 ** (self.network.levels - 1)
        if any(side < 1 or side % factor for side in self.data.patch):
            raise ValueError(
                f"data.patch {list(self.data.patch)} must be divisible by {factor}, "
                f"because {self.network.levels} levels halve it {self.network.levels - 1} times"
            )
        if self.prune.enabled and self.prune.first_epoch > self.epochs:
            raise ValueError(
                f"prune.first_epoch is {self.prune.first_epoch} but there are {self.epochs} epochs, so nothing would "
                "be pruned; lower it, or set prune.enabled to false"
            )
        if outside := [epoch for epoch in self.maps.epochs if not 1 <= epoch <= self.epochs]:
            raise ValueError(f"maps.epochs names epoch {outside[0]}, but there are epochs 1 to {self.epochs}")
        if any(axis not in range(self.network.dim) for axis in self.augment.flip_axes):
            raise ValueError(f"augment.flip_axes must lie between 0 and {self.network.dim - 1}")
        return self

    @property
    def maps_every(self) -> int:
        """After how many epochs maps are stored again."""
        return self.maps.every or math.ceil(self.epochs / _TIMES_MAPS_ARE_STORED)

    @property
    def cuts(self) -> str:
        """How filters are cut: `merge` or `none` for what they did, `one` or `all` for π; empty if never.

        `at once` where another method chose them. Either with `to multiples of` where not every width is allowed.
        """
        if self.rival is None and not self.prune.enabled:
            return ""
        how = f"{self.prune.compensate}, {self.prune.references}" if self.rival is None else "at once"
        multiple = self.prune.width_multiple
        return how if multiple == 1 else f"{how}, to multiples of {multiple}"

    @property
    def mode(self) -> str:
        """How it trains, as Appendix A of the paper calls it.

        The normalisation of δ_opt (`maps`, `none`, `distances`), `λ=0` where δ_opt is only looked at, `off` where it is
        not even that; `, not pruned` where no filter is cut; `baseline` where neither is done. The name of another
        method where that chose the filters.
        """
        if self.rival is not None:
            return self.rival.method
        off, unweighted = self.loss.normalization == "off", self.loss.lambda_ == 0
        if not self.prune.enabled and (off or unweighted):
            return "baseline"
        penalty = "off" if off else "λ=0" if unweighted else self.loss.normalization
        return penalty if self.prune.enabled else f"{penalty}, not pruned"

    def explained(self) -> str:
        """The same YAML with what each key means beside it."""
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is None and _section_type(field.annotation):
                continue
            if isinstance(value, Section):
                lines += [f"{name}:", *(f"  {line}" for line in value._explained_keys())]
            else:
                lines.append(key_line(name, value, field.description))
        return "\n".join(lines) + "\n"

    def to_yaml(self) -> str:
        """The whole configuration as YAML, defaults included, in the order of the sections above."""
        return yaml.safe_dump(
            self.model_dump(by_alias=True, mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
        )


def parse(values: Mapping[str, Any]) -> Config:
    """Check nested values and freeze them.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a missing or an impossible value.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, known_keys())) from None


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """All keys of the configuration in dotted form, without the sections that a recipe does not have."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        dotted = prefix + (field.alias or name)
        inner = _section_type(field.annotation)
        if inner and field.default is None:
            continue
        keys += known_keys(inner, dotted + ".") if inner else [dotted]
    return keys


def _section_type(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)

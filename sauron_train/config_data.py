"""The part of a configuration that is about data: which cases, what is done to them, and in what pieces they come."""

from __future__ import annotations

import typing
from typing import Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range {list(value)} must begin with the smaller number")
    return value


Range = typing.Annotated[tuple[float, float], AfterValidator(_in_order)]
Millimetres = typing.Annotated[float, Field(gt=0.0)]
Probability = typing.Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """One frozen block of the configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    def _explained_keys(self) -> list[str]:
        values = self.model_dump(by_alias=True, mode="json")
        fields = {field.alias or name: field for name, field in type(self).model_fields.items()}
        return [key_line(key, values[key], field.description) for key, field in fields.items()]


class DataConfig(Section):
    """Which cases are trained on, and in what pieces the network sees them."""

    patch: tuple[int, ...] = Field(description="patch size in voxels, one number per network dimension")
    batch_size: int = Field(2, ge=1)
    steps_per_epoch: int | None = Field(
        None, ge=1, description="training steps that count as one epoch; null = one pass over all slices or cases"
    )
    patches_per_volume: int = Field(
        1, ge=1, description="3D without steps_per_epoch: patches that an epoch takes of each volume"
    )
    foreground: Probability = Field(0.33, description="share of the patches that are centred on a labelled voxel")
    crop: Literal["random", "centre"] = Field(
        "random", description="where the other patches lie in an image that is larger: anywhere, or in its middle"
    )
    validation: float = Field(0.2, gt=0.0, lt=1.0, description="share of the patients kept for validation")
    folds: int | None = Field(
        None,
        ge=2,
        description="cross-validation: the patients are dealt into so many folds by the seed, and one of them validates"
        " in place of that share",
    )
    fold: int | None = Field(None, ge=0, description="which of the folds validates, counted from 0")
    group_by: str | None = Field(
        None,
        description="regular expression with one group: cases that share it are one patient and stay together; null ="
        " as the layout tells, else each case is a patient",
    )
    discard: tuple[str, ...] = Field((), description="cases that are left out, by name")
    channels: int | None = Field(
        None, ge=1, description="number of image channels the recipe is made for; null = whatever the data set has"
    )
    slice_axis: int = Field(2, ge=0, le=2, description="2D only: axis of the stack along which slices are taken")
    workers: int = Field(1, ge=0, description="processes that load and augment; 0 = in the training process")

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("data.folds says how many folds there are and data.fold which one validates; give both")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"data.fold is {self.fold}, but {self.folds} folds are counted from 0 to {self.folds - 1}")
        return self


class PreprocessConfig(Section):
    """What happens to every image, in this order, before anything random does (paper, Appendix C.1)."""

    orientation: Literal["file", "canonical"] = Field(
        "file",
        description="canonical = axes are turned until they lead to the right, to the front and up, as nearly as they"
        " do; file = they stay as they are on disk",
    )
    spacing: tuple[Millimetres | None, Millimetres | None, Millimetres | None] | None = Field(
        None, description="voxel size in mm to resample to; null on an axis keeps it"
    )
    clip: Range | None = Field(None, description="intensities are clipped to this range")
    shift_scale: tuple[float, float] | None = Field(None, description="(a, b): intensities become (x - a) / b")

    @model_validator(mode="after")
    def _scale_is_not_zero(self) -> Self:
        if self.shift_scale is not None and self.shift_scale[1] == 0:
            raise ValueError("preprocess.shift_scale divides by its second number, which must not be 0")
        return self


class AugmentConfig(Section):
    """Random changes of the training images, in this order (paper, Appendix C.2); probability 0 switches one off."""

    scale: Range = (0.9, 1.1)
    scale_p: Probability = 0.0
    rotation: Range = Field((-10.0, 10.0), description="degrees, in plane")
    rotation_p: Probability = 0.0
    gamma: Range = Field((-0.3, 0.3), description="natural logarithm of the exponent")
    gamma_p: Probability = 0.0
    flip_axes: tuple[int, ...] = Field((), description="axes of the patch that may be flipped, each by itself")
    flip_p: Probability = 0.5
    elastic_p: Probability = 0.0
    elastic_control_points: int = Field(7, ge=4)
    elastic_displacement: float = Field(7.5, ge=0.0, description="largest displacement of a control point in mm")
    z_normalise: bool = Field(True, description="zero mean and unit variance per image and channel, last of all")

    @model_validator(mode="after")
    def _scale_is_positive(self) -> Self:
        if self.scale[0] <= 0:
            raise ValueError("augment.scale must be above 0; 1 leaves the size as it is")
        return self


def key_line(key: str, value: Any, description: str | None) -> str:
    """A key with its value as YAML, and what it means beside it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    # A single value is a whole YAML document, and ends as one.
    plain = f"{key}: {text.strip().removesuffix('...').strip()}"
    return f"{plain}  # {description}" if description else plain

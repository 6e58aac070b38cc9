"""A recipe for a data set that nobody has trained on yet, each choice with its reason.

The rules follow those of nnU-Net's planner (Isensee et al., Nature Methods 18:203, 2021) where they fit this network:
target spacing from medians, patches as large as memory allows, CT intensities clipped and scaled by what is labelled.
What is ours is marked as a design choice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from sauron_train.config import NetworkConfig, parse
from sauron_train.data.survey import SAME, Survey
from sauron_train.errors import ConfigError
from sauron_train.memory import step_memory
from sauron_train.runlog.schema import Array
from sauron_train.words import counted

ANISOTROPIC = 3.0
"""Spacings that differ by more than this are too unlike for kernels that are as wide in all directions (nnU-Net)."""
FEW_SLICES = 16
_LEAST_SIDE = 4
_MOST_LEVELS = {2: 7, 3: 5}
_FILTERS = {2: 32, 3: 24}
_LARGEST = {2: 512, 3: 192}
_MOST_BATCH = {2: 16, 3: 4}
_RARE = 0.01
_LEAST_GROUPS = 3
_STEPS = (25, 250)
_EPOCHS = 100
_PRUNED_FROM, _PRUNED_TO = 0.1, 0.75
# By what words a structure may be told from its mirror image, by the letters of the axis that mirrors it.
_SIDES = {
    "LR": "left|right|l|r",
    "PA": "anterior|posterior|front|back|ventral|dorsal",
    "IS": "superior|inferior|upper|lower|top|bottom|cranial|caudal|rostral",
}


@dataclass(frozen=True)
class Choice:
    """A key of the recipe, its value, and why."""

    key: str
    value: Any
    why: str


def plan(seen: Survey, name: str, memory: int, dim: int | None = None) -> list[Choice]:
    """Decide what a recipe has to say for a data set.

    Args:
        seen: what `survey` saw.
        name: of the recipe.
        memory: bytes that a training step may take.
        dim: 2 or 3; None = as the voxels are.

    Raises:
        ConfigError: not even the smallest patch fits into the memory.
    """
    wanted, why_dim, axis = _dimension(seen, dim)
    spacing, why_spacing = _spacing(seen, wanted, axis)
    typical = _typical(seen, spacing)
    sides = typical if wanted == 3 else np.delete(typical, axis)
    network, patch, batch, why_patch, why_batch = _sizes(seen, wanted, sides, memory)
    turned, why_turned = _orientation(seen)
    found = [
        Choice("name", name, ""),
        Choice("description", _description(seen), ""),
        Choice("epochs", _EPOCHS, "enough to see whether it learns; the paper has 200 to 500"),
        Choice("data.patch", patch, why_patch),
        Choice("data.batch_size", batch, why_batch),
        *_epoch(seen, wanted, axis, batch),
        Choice("data.foreground", *_foreground(seen)),
        *_patients(seen),
        Choice("data.channels", len(seen.dataset.channels), ", ".join(seen.dataset.channels)),
    ]
    if wanted == 2:
        found.append(Choice("data.slice_axis", axis, "slices lie across the axis with the " + _why_axis(seen)))
    found += [
        Choice("preprocess.orientation", turned, why_turned),
        Choice("preprocess.spacing", spacing, why_spacing),
        *_intensity(seen),
        *_augmentation(seen, wanted, axis, turned),
        Choice("network.dim", wanted, why_dim),
        Choice("network.levels", network.levels, _why_levels(patch, network.levels)),
        Choice("network.init_filters", network.init_filters, "the paper has 24 to 48; what is too much is pruned"),
        *_pruning(),
    ]
    return found


def as_recipe(choices: Sequence[Choice]) -> str:
    """The recipe as YAML, with the reason above each key.

    Raises:
        ConfigError: it is no recipe (a mistake of the plan, not of the data set).
    """
    lines: list[str] = []
    section = ""
    for choice in choices:
        parent, _, key = choice.key.rpartition(".")
        if parent != section:
            section = parent
            lines.append(f"{parent}:")
        indent = "  " if parent else ""
        lines += [f"{indent}# {line}" for line in _wrapped(choice.why)]
        lines.append(f"{indent}{key}: {_yaml(choice.value)}")
    text = "\n".join(lines) + "\n"
    parse(yaml.safe_load(text))
    return text


def _dimension(seen: Survey, dim: int | None) -> tuple[int, str, int]:
    spacing, shape = np.median(seen.spacings, axis=0), np.median(seen.shapes, axis=0)
    thick = float(spacing.max() / spacing.min())
    axis = int(np.argmax(spacing)) if thick > SAME else int(np.argmin(shape))
    slices = int(shape[axis])
    if dim is not None:
        return dim, "as asked for", axis
    if thick >= ANISOTROPIC:
        return 2, f"slices are {thick:.1f} times as thick as their pixels are wide, too much for 3D kernels", axis
    if slices < FEW_SLICES:
        return 2, f"{slices} slices in most cases are too few to go deep in 3D", axis
    return 3, f"voxels are nearly as long as they are wide (at most {thick:.1f} times), so volumes are seen whole", axis


def _why_axis(seen: Survey) -> str:
    spacing = np.median(seen.spacings, axis=0)
    if spacing.max() / spacing.min() > SAME:
        return f"largest spacing, {spacing.max():g} mm"
    return f"fewest voxels, {int(np.median(seen.shapes, axis=0).min())}"


def _spacing(seen: Survey, dim: int, axis: int) -> tuple[list[float | None] | None, str]:
    median = np.median(seen.spacings, axis=0)
    spread = seen.spacings.max(axis=0) / seen.spacings.min(axis=0)
    chosen = [i for i in range(3) if (dim == 3 or i != axis) and spread[i] > SAME]
    if not chosen:
        where = " in plane" if dim == 2 else ""
        return None, f"spacings{where} are the same within {100 * (SAME - 1):.0f} % in all cases; nothing is resampled"
    target = [round(float(median[i]), 3) if i in chosen else None for i in range(3)]
    kept = f"; axis {axis} keeps the slices it has" if dim == 2 else ""
    worst = max(float(spread[i]) for i in chosen)
    return target, f"mm, the median over cases, whose spacings differ by up to {worst:.1f} times{kept}"


def _typical(seen: Survey, spacing: Sequence[float | None] | None) -> Array:
    """The median shape after resampling."""
    shapes = seen.shapes.astype(float)
    for axis, target in enumerate(spacing or (None, None, None)):
        if target is not None:
            shapes[:, axis] *= seen.spacings[:, axis] / target
    middle: Array = np.maximum(np.round(np.median(shapes, axis=0)), 1)
    return middle


def _sizes(seen: Survey, dim: int, sides: Array, memory: int) -> tuple[NetworkConfig, list[int], int, str, str]:
    channels, classes = len(seen.dataset.channels), max(seen.dataset.labels.values()) + 1

    def needs(sides: Array, batch: int) -> tuple[int, NetworkConfig, list[int]]:
        network, patch = _network(dim, sides)
        return step_memory(network, channels, classes, patch, batch), network, patch

    whole = np.minimum(sides, _LARGEST[dim])
    smaller = whole.copy()
    batch = 2
    size, network, patch = needs(smaller, batch)
    while size > memory:
        if smaller.max() <= 2 * _LEAST_SIDE:
            raise ConfigError(
                f"not even a patch of {_times(patch)} fits into {memory / 2**30:.1f} GiB; give more with --memory"
            )
        # The side that is longest beside what is there to see (nnU-Net).
        longest = int(np.argmax(smaller / sides * (smaller > 2 * _LEAST_SIDE)))
        smaller[longest] *= 0.85
        size, network, patch = needs(smaller, batch)
    while batch < _MOST_BATCH[dim] and needs(smaller, 2 * batch)[0] <= memory:
        batch *= 2
    size = needs(smaller, batch)[0]
    fits = f"{batch} patches take about {size / 2**30:.1f} of {memory / 2**30:.1f} GiB"
    why = f"voxels; the {'slice' if dim == 2 else 'case'} in the middle is {_times(sides)}"
    if (smaller < sides).any():
        why += ", more than memory takes" if (smaller < whole).any() else ", larger than what is worth a patch"
    elif any(p != s for p, s in zip(patch, sides, strict=True)):
        why += f", and {network.levels} levels need a multiple of {2 ** (network.levels - 1)}"
    return network, patch, batch, why, fits


def _network(dim: int, sides: Array) -> tuple[NetworkConfig, list[int]]:
    """As deep as the shortest side allows, and the patch rounded to what the levels divide."""
    levels = int(np.clip(1 + math.floor(math.log2(max(sides.min(), 1) / _LEAST_SIDE)), 2, _MOST_LEVELS[dim]))
    factor = 2 ** (levels - 1)
    patch = [max(factor, factor * math.ceil(side / factor - 0.25)) for side in sides]
    return NetworkConfig(dim=2 if dim == 2 else 3, levels=levels, init_filters=_FILTERS[dim]), patch


def _why_levels(patch: Sequence[int], levels: int) -> str:
    deepest = [side // 2 ** (levels - 1) for side in patch]
    return f"the deepest maps are {_times(deepest)}, no side shorter than {min(_LEAST_SIDE, *deepest)}"


def _epoch(seen: Survey, dim: int, axis: int, batch: int) -> Iterator[Choice]:
    pieces = int(seen.shapes[:, axis].sum()) if dim == 2 else len(seen.dataset.cases)
    steps = math.ceil(0.8 * pieces / batch)
    least, most = _STEPS
    what = "slices" if dim == 2 else "volumes"
    if dim == 2 and least <= steps <= most:
        yield Choice(
            "data.steps_per_epoch", None, f"an epoch is one pass over the training {what}, about {steps} steps"
        )
        return
    chosen = min(max(steps, least), most)
    yield Choice("data.steps_per_epoch", chosen, f"one pass over the training {what} would be {steps} steps")


def _foreground(seen: Survey) -> tuple[float, str]:
    share = sum(seen.share.values())
    told = f"{100 * share:.2g} % of the voxels are labelled (in {counted(seen.looked, 'case')})"
    if share < _RARE:
        return 0.5, f"{told}: half of the patches are put on what is"
    return 0.33, f"{told}: a third of the patches are put on what is"


def _patients(seen: Survey) -> Iterator[Choice]:
    """Cases whose names differ in their last part only, as in p01_ED and p01_ES, are taken for those of one patient."""
    names = [case.name for case in seen.dataset.cases]
    if any(case.patient for case in seen.dataset.cases):
        return
    for mark in "_-":
        parts = [name.rpartition(mark) for name in names]
        groups, kinds = {front for front, _, _ in parts}, {last for _, _, last in parts}
        if all(front for front, _, _ in parts) and len(groups) >= _LEAST_GROUPS and len(names) > 1.5 * len(groups):
            why = (
                f"{len(groups)} patients by the names of their cases, of which each has {', '.join(sorted(kinds)[:4])}"
            )
            yield Choice("data.group_by", f"^(.+){mark}[^{mark}]+$", why)
            return
    yield Choice("data.group_by", None, "each case is taken for a patient of its own; correct it if that is wrong")


def _orientation(seen: Survey) -> tuple[str, str]:
    kinds = sorted(set(seen.orientations))
    if len(kinds) == 1 and seen.canonical:
        return (
            "canonical",
            f"slices of {kinds[0]} lie across another axis than the third, around which images are rotated",
        )
    if len(kinds) == 1:
        return "file", f"all images lie alike ({kinds[0]})"
    return "canonical", f"images lie in {len(kinds)} ways ({', '.join(kinds[:4])}), so all are turned to RAS"


def _intensity(seen: Survey) -> Iterator[Choice]:
    inside = seen.intensities
    if not seen.hounsfield or inside is None or inside.deviation == 0:
        yield Choice(
            "augment.z_normalise",
            True,
            "images without a scale of their own, as in MR: each gets mean 0 and deviation 1",
        )
        return
    low, high = round(inside.low, 1), round(inside.high, 1)
    yield Choice("preprocess.clip", [low, high], "CT: percentiles 0.5 and 99.5 of what is labelled (nnU-Net)")
    scale = [round(inside.mean, 1), round(inside.deviation, 1)]
    yield Choice("preprocess.shift_scale", scale, "CT: mean and deviation of what is labelled (nnU-Net)")
    yield Choice("augment.z_normalise", False, "CT numbers mean the same in all images, and keep their meaning")


def _augmentation(seen: Survey, dim: int, axis: int, turned: str) -> Iterator[Choice]:
    yield Choice("augment.scale", [0.85, 1.25], "as in the paper's Tables 2 and 3")
    yield Choice("augment.scale_p", 0.2, "")
    yield Choice("augment.rotation", [-15, 15], "degrees in plane; the paper has 180 where no side is up, as in hearts")
    yield Choice("augment.rotation_p", 0.2, "")
    yield Choice("augment.gamma_p", 0.3, "")
    axes, why = _flips(seen, dim, axis, turned)
    yield Choice("augment.flip_axes", axes, why)


def _flips(seen: Survey, dim: int, axis: int, turned: str) -> tuple[list[int], str]:
    volume_axes = [i for i in range(3) if dim == 3 or i != axis]
    sided = {
        letters: name
        for letters, words in _SIDES.items()
        for name in seen.dataset.labels
        if re.search(rf"(?<![a-z])({words})(?![a-z])", name.lower())
    }
    if not sided:
        return list(range(dim)), "no structure is named after a side, so mirrored images are as good"
    code = "RAS" if turned == "canonical" else seen.orientations[0]
    kept = [place for place, i in enumerate(volume_axes) if not any(code[i] in letters for letters in sided)]
    names = " and ".join(f"{name!r}" for name in dict.fromkeys(sided.values()))
    return kept, f"not along axes after which structures are named, such as {names}"


def _pruning() -> Iterator[Choice]:
    first, last = max(1, round(_PRUNED_FROM * _EPOCHS)), round(_PRUNED_TO * _EPOCHS)
    yield Choice("prune.first_epoch", first, "the network has learnt a little by then")
    yield Choice("prune.last_epoch", last, "the last quarter is for recovery")


def _description(seen: Survey) -> str:
    structures = ", ".join(name for name, value in seen.dataset.labels.items() if value)
    return f"{seen.dataset.name}: {structures}; planned from {counted(len(seen.dataset.cases), 'case')}"


def _wrapped(why: str, width: int = 110) -> list[str]:
    lines: list[str] = []
    for word in why.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).strip()
    return text.removesuffix("...").strip()


def _times(sides: Sequence[float] | Array) -> str:
    return " x ".join(f"{side:g}" for side in sides)

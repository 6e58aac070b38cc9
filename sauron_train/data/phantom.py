"""A synthetic data set that looks like brain MRI, so that everything can be tried without any patient's data.

A head of ellipsoids (scalp, skull, fluid, grey and white matter), two structures to be found (a pair of ventricles and
one lesion), a smooth bias field and Rician noise. Fluid around the brain is as dark as the ventricles and the scalp as
bright as the lesion, so that no threshold finds either. Design choice throughout.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sauron_train.errors import DataError

LABELS = {"background": 0, "ventricle": 1, "lesion": 2}

_NOMINAL_SIZE = {2: (88, 88, 8), 3: (44, 44, 44)}
_SPACING_MM = {2: (2.0, 2.0, 12.0), 3: (4.0, 4.0, 4.0)}
_MEANS = {"air": 0.0, "scalp": 1.0, "skull": 0.12, "fluid": 0.22, "grey": 0.55, "white": 0.7, "lesion": 1.02}

Floats = npt.NDArray[np.float64]


def make_phantom(out: Path, dim: int, cases: int, seed: int, size: tuple[int, int, int] | None = None) -> Path:
    """Write a synthetic data set in the nnU-Net raw layout and return its folder.

    Args:
        out: the folder to be made; it must not exist yet.
        dim: 2 for anisotropic stacks of slices along the last axis, 3 for isotropic volumes.
        cases: how many cases.
        seed: fixes every voxel.
        size: mean number of voxels per axis, from which each case differs a little; None = 88 x 88 x 8 or 44 x 44 x 44.

    Raises:
        DataError: the folder exists or cannot be written, or a number that makes no sense.
    """
    out = Path(out)
    _check(out, dim, cases, size)
    temporary = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    try:
        (temporary / "imagesTr").mkdir(parents=True)
        (temporary / "labelsTr").mkdir()
        width = max(3, len(str(cases)))
        for number in range(1, cases + 1):
            # Each case has its own stream: case 7 is the same one however many follow.
            image, label, affine = phantom_case(dim, np.random.default_rng([seed, dim, number]), size)
            name = f"phantom_{number:0{width}d}"
            _save(image, affine, temporary / "imagesTr" / f"{name}_0000.nii.gz")
            _save(label, affine, temporary / "labelsTr" / f"{name}.nii.gz")
        (temporary / "dataset.json").write_text(json.dumps(_description(dim, cases, seed), indent=1) + "\n")
        temporary.rename(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def phantom_case(
    dim: int, rng: np.random.Generator, size: tuple[int, int, int] | None = None
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], Floats]:
    """One image (X, Y, Z) int16, its labels (X, Y, Z) uint8 and the affine (4, 4) in mm."""
    nominal = size or _NOMINAL_SIZE[dim]
    spread = (0.06, 0.06, 0.2 if dim == 2 else 0.06)
    shape = tuple(max(4, round(side * (1 + rng.uniform(-s, s)))) for side, s in zip(nominal, spread, strict=True))
    spacing = tuple(mm * n / side for mm, n, side in zip(_SPACING_MM[dim], _NOMINAL_SIZE[dim], nominal, strict=True))
    space = _Space.centred(shape, rng, cover=(0.88, 0.92, 1.25 if dim == 2 else 0.9))
    tissue, label = _anatomy(space, rng)
    image = _acquired(tissue, space, rng)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return image, label, affine


@dataclass(frozen=True, eq=False)
class _Space:
    """Coordinates of every voxel in units of the head's half axes (3, X, Y, Z), tilted; `soft` is one voxel."""

    points: Floats
    soft: float

    @classmethod
    def centred(cls, shape: tuple[int, ...], rng: np.random.Generator, cover: tuple[float, ...]) -> _Space:
        axes = [
            (np.arange(side) + 0.5 - side / 2) / (side / 2) / (c * rng.uniform(0.92, 1.0)) + rng.uniform(-0.04, 0.04)
            for side, c in zip(shape, cover, strict=True)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"))
        angle = np.radians(rng.uniform(-12, 12))
        x, y = points[0].copy(), points[1].copy()
        points[0], points[1] = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
        return cls(points, soft=2.0 / min(shape[:2]))

    def ellipsoid(self, centre: tuple[float, ...], half_axes: tuple[float, ...]) -> Floats:
        """Distance from the surface, roughly in units of the head, positive inside."""
        offset = [(p - c) / h for p, c, h in zip(self.points, centre, half_axes, strict=True)]
        inside: Floats = (1 - np.sqrt(sum(o**2 for o in offset))) * min(half_axes)
        return inside

    def wobble(self, rng: np.random.Generator, waves: float, amount: float) -> Floats:
        """A smooth random field over the head with standard deviation `amount`, about `waves` bumps per axis."""
        field = np.zeros(self.points.shape[1:])
        for _ in range(24):
            direction = rng.normal(size=3) * waves
            field += np.cos(np.tensordot(direction, self.points, axes=1) + rng.uniform(0, 2 * np.pi))
        result: Floats = field * amount / np.sqrt(12)
        return result

    def share(self, distance: Floats) -> Floats:
        """How much of each voxel lies inside, from the distance: borders are one voxel soft."""
        return np.clip(0.5 + distance / self.soft, 0, 1)


def _anatomy(space: _Space, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Noise-free signal and labels."""
    means = {name: mean * rng.uniform(0.92, 1.08) for name, mean in _MEANS.items()}
    head = space.ellipsoid((0, 0, 0), (1, 1, 1)) + space.wobble(rng, 2, 0.008)
    folds = space.wobble(rng, 9, 0.03)
    regions = [
        ("scalp", head),
        ("skull", head - 0.07),
        ("fluid", head - 0.13),
        ("grey", head - 0.17 + 0.6 * folds),
        ("white", head - 0.30 + 1.3 * folds),
    ]
    ventricles = _ventricles(space, rng)
    lesion = np.minimum(_lesion(space, rng), head - 0.24)
    signal = np.full(space.points.shape[1:], means["air"])
    for name, distance in [*regions, ("lesion", lesion), ("fluid", ventricles)]:
        share = space.share(distance)
        signal = signal * (1 - share) + means[name] * share
    label = np.zeros(signal.shape, dtype=np.uint8)
    label[lesion > 0] = LABELS["lesion"]
    label[ventricles > 0] = LABELS["ventricle"]
    return signal, label


def _ventricles(space: _Space, rng: np.random.Generator) -> Floats:
    width, length, height = rng.uniform(0.11, 0.18), rng.uniform(0.30, 0.44), rng.uniform(0.35, 0.55)
    shift = rng.uniform(-0.05, 0.05)
    sides = []
    for side in (-1, 1):
        # Horns bend outwards towards the front and the back.
        bent = _Space(space.points.copy(), space.soft)
        bent.points[0] -= side * rng.uniform(0.25, 0.4) * space.points[1] ** 2
        scale = rng.uniform(0.85, 1.15)
        sides.append(bent.ellipsoid((side * 0.17, shift, 0), (width * scale, length * scale, height)))
    wobble: Floats = np.maximum(*sides) + space.wobble(rng, 6, 0.008)
    return wobble


def _lesion(space: _Space, rng: np.random.Generator) -> Floats:
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.40, 0.54)
    centre = (radius * np.cos(angle), radius * np.sin(angle), rng.uniform(-0.3, 0.3))
    size = rng.uniform(0.19, 0.32)
    x, y, z = size * rng.uniform(0.8, 1.25), size * rng.uniform(0.8, 1.25), max(size, 0.22) * rng.uniform(0.9, 1.4)
    lesion: Floats = space.ellipsoid(centre, (x, y, z)) + space.wobble(rng, 8, 0.018)
    return lesion


def _acquired(signal: Floats, space: _Space, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """The image a scanner would give: texture, blur, bias field, noise, and a gain that means nothing."""
    texture = ndimage.gaussian_filter(rng.normal(size=signal.shape), (1.2, 1.2, 0.6))
    seen = signal * (1 + 0.35 * rng.uniform(0.6, 1.2) * texture * 0.5)
    seen = ndimage.gaussian_filter(seen, (0.5, 0.5, 0.0))
    bias = np.exp(space.wobble(rng, 1.2, rng.uniform(0.1, 0.2)))
    noise = rng.uniform(0.04, 0.07)
    seen = seen ** rng.uniform(0.85, 1.15) * bias
    magnitude = np.hypot(seen + noise * rng.normal(size=seen.shape), noise * rng.normal(size=seen.shape))
    image: npt.NDArray[np.int16] = np.round(magnitude * rng.uniform(300, 1200)).astype(np.int16)
    return image


def _check(out: Path, dim: int, cases: int, size: tuple[int, int, int] | None) -> None:
    if dim not in _NOMINAL_SIZE:
        raise DataError(f"a phantom has 2 or 3 dimensions, not {dim}")
    if cases < 1:
        raise DataError(f"a phantom needs at least one case, not {cases}")
    if size is not None and (len(size) != 3 or min(size) < 4):
        raise DataError(f"the size of a phantom must be three numbers of at least 4, not {size}")
    if out.exists():
        raise DataError(f"{out} exists already; choose another folder or remove it first")


def _description(dim: int, cases: int, seed: int) -> dict[str, Any]:
    return {
        "name": f"Phantom{dim}D",
        "description": f"Synthetic MRI, {dim}D, seed {seed}; not a patient's data",
        "channel_names": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }


def _save(voxels: npt.NDArray[Any], affine: Floats, path: Path) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)

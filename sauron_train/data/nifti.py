"""NIfTI files: headers that are checked before any voxel is read, and label maps written whole or not at all."""

from __future__ import annotations

import gzip
import math
import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.imageglobals import logger
from nibabel.openers import ImageOpener

from sauron_train.data.damage import absent, unreadable
from sauron_train.errors import DataError

ENDINGS = (".nii.gz", ".nii")

_GZIP_MODULUS = 2**32
# Deflate cannot pack more than this into a byte, so a header that says more is refused before anything is unpacked.
_MOST_DENSE = 1032
_MOST_BEHIND = 1 << 20
_AT_ONCE = 1 << 20
_SPACING_TOLERANCE = 0.01
_NO_VOLUME = 1e-9  # mm³ of a voxel whose orientation matrix cannot be inverted


@dataclass(frozen=True, eq=False)
class Header:
    """The part of a file that is cheap to read: `shape` in voxels, `spacing` in mm, `block` the raw header.

    `affine` leads from voxel index to mm; None where the file does not say how it lies (both its codes are 0).
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    size: int
    block: bytes
    affine: npt.NDArray[np.float64] | None


def read_header(path: Path) -> Header:
    """Read the header of one file and check that the file is as long as its header says.

    Raises:
        DataError: not a readable NIfTI file, cut short, not three-dimensional, or an impossible voxel size.
    """
    image = _open(path)
    shape = tuple(int(side) for side in image.shape)
    if len(shape) != 3:
        raise DataError(
            f"{path} has {len(shape)} dimension{'' if len(shape) == 1 else 's'}; store it as one 3D volume per channel "
            "(a slice as X x Y x 1)"
        )
    spacing = tuple(float(side) for side in image.header.get_zooms()[:3])
    _check_space(path, image, spacing)
    _check_length(path, image)
    placed_by = max(int(image.header["sform_code"]), int(image.header["qform_code"]))
    affine = np.asarray(image.affine, dtype=np.float64) if placed_by > 0 else None
    return Header(shape, spacing, path.stat().st_size, bytes(image.header.binaryblock), affine)


def read_voxels(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Voxels (X, Y, Z), scaled as the header says, and the affine (4, 4) from voxel index to mm.

    Raises:
        DataError: a file that cannot be read, or voxels that are NaN or infinite.
    """
    image = _open(path)
    _check_length(path, image)
    try:
        if path.name.endswith(".gz"):
            # Unpacked to its end, where the checksum stands; nibabel stops at the last voxel.
            image = type(image).from_bytes(_unpacked(path, _length(image)))
        voxels = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise unreadable(path, error) from None
    if not np.isfinite(voxels).all():
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        raise DataError(
            f"{path} has {bad} voxel{'s' if bad > 1 else ''} of {voxels.size} that are NaN or infinite; repair or "
            "remove the case"
        )
    return voxels, np.asarray(image.affine, dtype=np.float64)


def read_grid(path: Path) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Shape and affine of a file, without its voxels; whether the affine can be is not looked at.

    Raises:
        DataError: not a readable NIfTI file, or one of fewer than three dimensions.
    """
    image = _open(path)
    if len(image.shape) < 3:
        raise DataError(f"{path} has fewer than three dimensions; store it as a 3D volume (a slice as X x Y x 1)")
    x, y, z = image.shape[:3]
    return (int(x), int(y), int(z)), np.asarray(image.affine, dtype=np.float64)


def write_like(voxels: npt.NDArray[Any], reference: Path, out: Path) -> None:
    """Write voxels (X, Y, Z) or (X, Y, Z, K), with their type, under the header of `reference`.

    Position, orientation, units and description stay those of the reference; its scaling of intensities does not.
    `out` appears whole or not at all.

    Raises:
        DataError: `out` does not end in .nii.gz or .nii, or cannot be written.
    """
    ending = next((e for e in ENDINGS if out.name.endswith(e)), None)
    if ending is None:
        raise DataError(f"{out} must end in .nii.gz or .nii")
    source = _open(reference)
    header = nib.Nifti1Header() if not isinstance(source.header, nib.Nifti1Header) else source.header.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    image = type(source)(voxels, source.affine, header)
    temporary = out.with_name(f".{out.name.removesuffix(ending)}-{uuid.uuid4().hex}{ending}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def times(shape: Iterable[float]) -> str:
    """A shape or voxel size for people: 40 x 56 x 40."""
    return " x ".join(f"{side:.4g}" if isinstance(side, float) else str(side) for side in shape)


def _open(path: Path) -> Any:
    if path.exists() and not (path.is_file() or path.is_dir()):
        # Whoever opens a pipe waits for what comes out of it.
        raise DataError(f"{path} is a pipe or a device and no file; put the image there")
    try:
        # It mends small mistakes of headers, and would print each; impossible numbers are looked for later.
        with _nibabel_keeps_silent(), np.errstate(all="ignore"):
            image = nib.load(path)
    except FileNotFoundError:
        raise absent(path) from None
    except Exception as error:  # nibabel raises many kinds here; all mean the same to the user
        raise unreadable(path, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise DataError(f"{path} is not a NIfTI file; convert it to .nii.gz")
    if image.get_data_dtype().names is not None:
        raise DataError(f"{path} is a colour image; store one real number per voxel, or one file per channel")
    if image.get_data_dtype().kind not in "iufb":
        raise DataError(f"{path} holds {image.get_data_dtype()} voxels; store one real number per voxel")
    if any(side < 1 for side in image.shape):
        raise DataError(f"{path} holds no voxels (its shape is {times(image.shape)}); fetch or export it again")
    return image


@contextmanager
def _nibabel_keeps_silent() -> Iterator[None]:
    # Its own suppressor takes handlers away, and Python then prints what nobody handles.
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_space(path: Path, image: Any, spacing: tuple[float, ...]) -> None:
    """Voxel size and orientation are numbers that can be, and agree."""
    if _mended_spacing(path, type(image.header)):
        raise DataError(f"{path} has a voxel size of 0 mm in its header; correct it")
    if not all(np.isfinite(side) and side > 0 for side in spacing):
        raise DataError(f"{path} has an impossible voxel size {spacing} mm; correct its header")
    matrix = np.asarray(image.affine, dtype=float)
    with np.errstate(all="ignore"):  # what is too large for a number becomes infinite, and is refused for that
        volume = abs(np.linalg.det(matrix[:3, :3]))
        placed = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all():
        raise DataError(f"{path} has an orientation matrix with a number that is none (NaN, infinite); correct it")
    if not (np.isfinite(placed).all() and volume >= _NO_VOLUME):
        raise DataError(f"{path} has an orientation matrix that cannot be inverted; correct its header")
    if any(abs(a - b) > _SPACING_TOLERANCE * b for a, b in zip(spacing, placed, strict=True)):
        raise DataError(
            f"{path} has voxels of {times(spacing)} mm by its header but of {times(placed)} mm by the orientation "
            "matrix in it; correct the one that is wrong"
        )


def _mended_spacing(path: Path, kind: type[Any]) -> bool:
    """Whether the header has a voxel size of 0, which nibabel reads as 1 mm."""
    with ImageOpener(str(path)) as file:
        raw = kind(file.read(kind.template_dtype.itemsize), check=False)
    return bool((raw["pixdim"][1 : 1 + min(3, int(raw["dim"][0]))] == 0).any())


def _length(image: Any) -> int:
    """Bytes that a file has by its header, unpacked."""
    voxels = math.prod(int(side) for side in image.shape)
    return int(image.dataobj.offset) + voxels * int(image.get_data_dtype().itemsize)


def _check_length(path: Path, image: Any) -> None:
    expected, size = _length(image), path.stat().st_size
    if path.name.endswith(".gz"):
        possible = expected <= size * _MOST_DENSE
        complete = possible and (_gzip_says(path) == expected % _GZIP_MODULUS or _unpacks_to(path, expected))
    else:
        complete = size >= expected
    if not complete:
        raise DataError(f"{path} ends before its last voxel; it is damaged or incomplete, fetch it again")


def _gzip_says(path: Path) -> int:
    """The unpacked size modulo 2**32 that closes a gzip file: cheap, and wrong for a file that was cut short."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int(struct.unpack("<I", file.read(4))[0])


def _unpacks_to(path: Path, expected: int) -> bool:
    """Whether a gzip file holds so many bytes; it is not unpacked any further."""
    size = 0
    try:
        with gzip.open(path) as file:
            while size < expected and (chunk := file.read(_AT_ONCE)):
                size += len(chunk)
    except (OSError, EOFError, zlib.error):
        return False
    return size >= expected


def _unpacked(path: Path, expected: int) -> bytes:
    """All of a gzip file, whose header says how much that is.

    Raises:
        DataError: it is far more.
        OSError, EOFError, zlib.error: it is damaged.
    """
    content = bytearray()
    with gzip.open(path) as file:
        while chunk := file.read(_AT_ONCE):
            content += chunk
            if len(content) > expected + _MOST_BEHIND:
                raise DataError(
                    f"{path} unpacks to far more than the {expected} bytes that its header says; export it again"
                )
    return bytes(content)

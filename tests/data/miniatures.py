"""The original layouts of ACDC, KiTS19 and the Rats, with a few small cases, among them the odd ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from data_making import write

# Voxel index to mm: slices first, as KiTS19 has it; oblique, as a tilted coil gives it.
SLICES_FIRST = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
TILT = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [0.12 * np.cos(TILT), 0, 1.0 * np.sin(TILT), -8],
        [0, 0.12, 0, -9],
        [-0.12 * np.sin(TILT), 0, 1.0 * np.cos(TILT), 4],
        [0, 0, 0, 1],
    ]
)


def images(shape: tuple[int, ...], seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a block of each class that is brighter."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.uint8)
    for value in range(1, classes):
        region = tuple(slice(side * value // (classes + 1), side * (value + 1) // (classes + 1)) for side in shape)
        label[region] = value
    return (rng.normal(100, 20, shape) + 60 * label).astype(np.float32), label


def acdc(root: Path) -> Path:
    """Four patients in the folders that the archive unpacks to; of one, both frames are the same."""
    for number, (first, last) in enumerate([(1, 12), (1, 9), (4, 4), (1, 7)], start=1):
        folder = root / "database" / "training" / f"patient{number:03d}"
        affine = np.diag([1.5625, 1.5625, 10.0, 1.0])
        for frame in {first, last}:
            image, label = images((36 + number, 40, 4), 10 * number + frame, 4)
            write(folder / f"patient{number:03d}_frame{frame:02d}.nii.gz", image, affine)
            # Labels were drawn by a program that forgets where the image lies.
            write(folder / f"patient{number:03d}_frame{frame:02d}_gt.nii.gz", label, np.diag([-1.5625, -1.5625, 10, 1]))
        write(folder / f"patient{number:03d}_4d.nii.gz", np.zeros((4, 4, 2, 3), dtype=np.float32))
        info = f"ED: {first}\nES: {last}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        (folder / "Info.cfg").write_text(info)
    return root


def kits19(root: Path) -> Path:
    """Slices first; one case that the recipe discards, one smaller than any patch, one kept back for the challenge."""
    sizes = {0: (10, 40, 40), 1: (12, 36, 44), 2: (3, 12, 12), 15: (8, 32, 32), 16: (9, 34, 38), 210: (6, 24, 24)}
    for number, shape in sizes.items():
        folder = root / "data" / f"case_{number:05d}"
        image, label = images(shape, number, 3)
        write(folder / "imaging.nii.gz", image, SLICES_FIRST)
        if number < 210:
            write(folder / "segmentation.nii.gz", label, SLICES_FIRST)
    return root


def rats(root: Path) -> Path:
    """Two studies, an animal at two time points, one without labels; oblique, and what Finder leaves behind."""
    for number, place in enumerate(["A/02h/7", "A/24h/7", "A/24h/8", "B/02h/7", "B/24h/9"]):
        image, label = images((32, 32, 5), number, 2)
        write(root / place / "scan.nii.gz", image, OBLIQUE)
        if place != "A/24h/8":
            write(root / place / "scan_lesion.nii.gz", label, OBLIQUE)
        (root / place / "._scan.nii.gz").write_bytes(b"Mac OS X")
    (root / ".DS_Store").write_bytes(b"")
    return root


def oriented(path: Path) -> tuple[str, ...]:
    """Where the axes of a file lead."""
    codes: tuple[str, ...] = nib.aff2axcodes(nib.load(path).affine)
    return codes

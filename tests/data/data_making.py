"""Small data sets for the tests of the data package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from sauron_train.config import Config, parse
from sauron_train.data.types import Volume

LABELS = {"background": 0, "a": 1, "b": 2}


def config(dim: int = 2, **sections: Any) -> Config:
    patch = [16, 16] if dim == 2 else [8, 8, 8]
    values: dict[str, Any] = {"epochs": 1, "data": {"patch": patch, "workers": 0}, "network": {"dim": dim, "levels": 2}}
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values)


def write(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def write_json(root: Path, **changes: Any) -> None:
    values = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nii.gz", **changes}
    values = {key: value for key, value in values.items() if value is not None}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(values))


def write_case(root: Path, name: str, shape: tuple[int, ...] = (20, 18, 6), channels: int = 1, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for channel in range(channels):
        write(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", rng.random(shape).astype(np.float32) + channel)
    label = np.zeros(shape, dtype=np.uint8)
    label[4:9, 5:11, 1:4] = 1
    label[10:12, 5:11, 1:3] = 2
    write(root / "labelsTr" / f"{name}.nii.gz", label)


def write_dataset(root: Path, names: tuple[str, ...] = ("p1_ED", "p1_ES", "p2_ED", "p2_ES")) -> Path:
    write_json(root)
    for seed, name in enumerate(names):
        write_case(root, name, seed=seed)
    return root


def volume(name: str = "v", shape: tuple[int, int, int] = (20, 18, 6), channels: int = 1, seed: int = 0) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(channels, *shape, generator=generator) * 100 + 5
    label = torch.zeros(shape, dtype=torch.uint8)
    label[4:9, 5:11, 1:4] = 1
    label[10:12, 5:11, 1:3] = 2
    return Volume(name, image, label, (1.0, 1.0, 1.0), np.eye(4))

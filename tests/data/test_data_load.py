from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from data_making import config, volume, write, write_dataset

from sauron_train.data.datasets import read_dataset
from sauron_train.data.load import load_image, load_volumes, save_labels, to_original_grid
from sauron_train.errors import DataError


def oblique() -> np.ndarray:
    angle = np.radians(25)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ tilt @ np.diag([-1.0, 1.5, 3.0])
    affine[:3, 3] = (-31, 12, 77)
    return affine


def ball(shape: tuple[int, int, int]) -> np.ndarray:
    places = np.stack(np.meshgrid(*[np.arange(s) - (s - 1) / 2 for s in shape], indexing="ij"))
    spacing = np.array([1.0, 1.5, 3.0])[:, None, None, None]
    return (np.linalg.norm(places * spacing, axis=0) < 9).astype(np.float32)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.5, 3.0, 1.0]), oblique()], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", [None, (0.8, 0.8, None), (2.0, 2.0, 2.0)])
def test_labels_come_back_on_the_grid_of_the_file(
    tmp_path: Path, affine: np.ndarray, spacing: tuple[float | None, ...] | None
) -> None:
    source = write(tmp_path / "c_0000.nii.gz", ball((32, 24, 12)), affine)
    loaded = load_image([source], config(preprocess={"spacing": spacing}), channels=1)
    assert loaded.name == "c"
    if spacing is not None:
        assert loaded.spacing == pytest.approx([new or old for new, old in zip(spacing, (1.0, 1.5, 3.0), strict=True)])
    logits = 8 * torch.stack([0.5 - loaded.image[0], loaded.image[0] - 0.5])
    save_labels(to_original_grid(logits, loaded, source), source, tmp_path / "out" / "c.nii.gz")
    saved = nib.load(tmp_path / "out" / "c.nii.gz")
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_allclose(saved.affine, nib.load(source).affine)
    expected, found = ball((32, 24, 12)) > 0, np.asarray(saved.dataobj) > 0
    dice = 2 * (expected & found).sum() / (expected.sum() + found.sum())
    assert dice == 1 if spacing is None else dice > 0.9
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.nii.gz"]


def test_scaled_headers_do_not_scale_labels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((8, 8, 4), dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    nib.save(image, tmp_path / "c_0000.nii.gz")
    save_labels(torch.full((8, 8, 4), 2), tmp_path / "c_0000.nii.gz", tmp_path / "l.nii")
    assert np.unique(np.asarray(nib.load(tmp_path / "l.nii").dataobj)).tolist() == [2]


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "c_0000.nii.gz", ball((32, 24, 12)))
    loaded = load_image([source], config(), channels=1)
    with pytest.raises(DataError, match="the logits of c are 1 x 2 x 3"):
        to_original_grid(torch.zeros(2, 1, 2, 3), loaded, source)
    with pytest.raises(DataError, match="the labels are 1 x 2 x 3"):
        save_labels(torch.zeros(1, 2, 3), source, tmp_path / "l.nii.gz")
    with pytest.raises(DataError, match="must end in"):
        save_labels(loaded.image[0], source, tmp_path / "l.png")


def test_preprocessing_clips_and_then_shifts_and_scales(tmp_path: Path) -> None:
    source = write(tmp_path / "c.nii.gz", np.array([-500.0, 0.0, 50.0, 900.0], dtype=np.float32).reshape(4, 1, 1))
    loaded = load_image([source], config(preprocess={"clip": (-79, 304), "shift_scale": (101, 76.9)}), channels=1)
    expected = (np.array([-79, 0, 50, 304]) - 101) / 76.9
    np.testing.assert_allclose(loaded.image.flatten().numpy(), expected, rtol=1e-6)


def test_image_and_label_are_resampled_together(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    dataset = read_dataset(root)
    seen: list[tuple[int, int]] = []
    chosen = config(preprocess={"spacing": (2.0, 2.0, None)})
    volumes = load_volumes(dataset.cases, dataset, chosen, on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for loaded in volumes:
        assert loaded.label is not None
        assert loaded.image.shape[1:] == loaded.label.shape == (10, 9, 6)
        assert set(loaded.label.unique().tolist()) == {0, 1, 2}


def test_a_recipe_for_other_channels_is_refused(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    with pytest.raises(DataError, match="has 1 channels but the recipe is made for 2"):
        load_volumes(dataset.cases, dataset, config(data={"channels": 2}))


def test_one_file_per_channel_on_one_grid(tmp_path: Path) -> None:
    first = write(tmp_path / "c_0000.nii.gz", ball((8, 8, 8)))
    second = write(tmp_path / "c_0001.nii.gz", ball((8, 8, 9)))
    with pytest.raises(DataError, match="channels, 2, but it is 1"):
        load_image([first], config(), channels=2)
    with pytest.raises(DataError, match="8 x 8 x 9 voxels"):
        load_image([first, second], config(), channels=2)
    with pytest.raises(DataError, match="does not exist"):
        load_image([tmp_path / "none.nii.gz"], config(), channels=1)


def test_a_volume_of_the_tests_is_one_of_the_package() -> None:
    assert volume().image.shape == (1, 20, 18, 6)

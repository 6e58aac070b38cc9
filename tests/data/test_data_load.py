from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from data_making import config, volume, write, write_dataset

from sauron_train.data.datasets import read_dataset
from sauron_train.data.geometry import Geometry
from sauron_train.data.grid import all_classes, most_probable, save_labels, save_probabilities, to_original_grid
from sauron_train.data.load import load_image, load_volumes
from sauron_train.errors import DataError

TURNS = [
    tuple(zip(axes, flips, strict=True))
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


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
    probabilities = torch.stack([1 - loaded.image[0], loaded.image[0]])
    labels = most_probable(to_original_grid(probabilities, loaded, source))
    save_labels(labels, source, tmp_path / "out" / "c.nii.gz")
    saved = nib.load(tmp_path / "out" / "c.nii.gz")
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_allclose(saved.affine, nib.load(source).affine)
    expected, found = ball((32, 24, 12)) > 0, np.asarray(saved.dataobj) > 0
    dice = 2 * (expected & found).sum() / (expected.sum() + found.sum())
    assert dice == 1 if spacing is None else dice > 0.9
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.nii.gz"]
    together = all_classes(to_original_grid(probabilities, loaded, source))
    torch.testing.assert_close(together.sum(dim=0), torch.ones(32, 24, 12), atol=1e-5, rtol=0)
    assert torch.equal(together.argmax(dim=0).to(torch.uint8), labels)
    save_probabilities(together, source, tmp_path / "out" / "p.nii.gz")
    written = nib.load(tmp_path / "out" / "p.nii.gz")
    assert written.shape == (32, 24, 12, 2)
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(written.dataobj)[..., 1], together[1].numpy())
    np.testing.assert_allclose(written.affine, nib.load(source).affine)


def test_scaled_headers_do_not_scale_labels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((8, 8, 4), dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    nib.save(image, tmp_path / "c_0000.nii.gz")
    save_labels(torch.full((8, 8, 4), 2), tmp_path / "c_0000.nii.gz", tmp_path / "l.nii")
    assert np.unique(np.asarray(nib.load(tmp_path / "l.nii").dataobj)).tolist() == [2]
    assert load_image([tmp_path / "c_0000.nii.gz"], config(), channels=1).image.unique().tolist() == [-1000]


def test_the_header_of_the_image_is_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((8, 6, 4), dtype=np.int16), oblique())
    image.set_qform(oblique(), code=1)
    image.set_sform(oblique(), code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"scanner 7"
    nib.save(image, tmp_path / "c_0000.nii.gz")
    save_labels(torch.ones(8, 6, 4), tmp_path / "c_0000.nii.gz", tmp_path / "l.nii.gz")
    source, saved = (nib.load(tmp_path / name).header for name in ("c_0000.nii.gz", "l.nii.gz"))
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim", "quatern_b", "srow_x", "dim"):
        np.testing.assert_array_equal(saved[field], source[field])
    assert (int(saved["qform_code"]), int(saved["sform_code"])) == (1, 4)


TURNED = Geometry("RAS", (1.0, 1.5, 3.0))


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("turn", TURNS[::5], ids=str)
def test_an_image_is_turned_to_lie_as_in_training_and_its_labels_back(
    tmp_path: Path, turn: tuple[tuple[int, int], ...], spacing: tuple[float, ...] | None
) -> None:
    rng = np.random.default_rng(0)
    plain = nib.Nifti1Image(rng.random((12, 10, 8)).astype(np.float32), np.abs(np.diag([1.0, 1.5, 3.0, 1.0])))
    chosen = config(preprocess={"spacing": spacing})
    nib.save(plain, tmp_path / "plain.nii.gz")
    moved = plain.as_reoriented(np.array(turn))
    nib.save(moved, tmp_path / "turned.nii.gz")
    told: list[str] = []
    expected = load_image([tmp_path / "plain.nii.gz"], chosen, 1, TURNED, told.append)
    found = load_image([tmp_path / "turned.nii.gz"], chosen, 1, TURNED, told.append)
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=0 if spacing is None else 1e-5)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    assert any("it was turned to RAS" in sentence for sentence in told) == (
        nib.aff2axcodes(moved.affine) != tuple("RAS")
    )
    probabilities = torch.cat([1 - found.image, found.image])
    (_, back), (_, straight) = (
        to_original_grid(probabilities, found, tmp_path / name) for name in ("turned.nii.gz", "plain.nii.gz")
    )
    again = nib.Nifti1Image(straight.numpy(), plain.affine).as_reoriented(np.array(turn))
    np.testing.assert_allclose(back.numpy(), again.get_fdata(), rtol=0, atol=0 if spacing is None else 1e-5)


def test_axes_are_left_where_nothing_is_known_and_where_the_recipe_turns_them(tmp_path: Path) -> None:
    source = write(tmp_path / "c.nii.gz", ball((8, 6, 4)), np.diag([-1.0, 1.0, 1.0, 1.0]))
    told: list[str] = []
    assert load_image([source], config(), 1, Geometry(), told.append).affine[0, 0] == -1
    canonical = config(preprocess={"orientation": "canonical"})
    assert load_image([source], canonical, 1, Geometry("RAS", (1.0, 1.0, 1.0)), told.append).affine[0, 0] == 1
    assert told == []


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "c_0000.nii.gz", ball((32, 24, 12)))
    loaded = load_image([source], config(), channels=1)
    with pytest.raises(DataError, match="the probabilities of c are 1 x 2 x 3"):
        next(to_original_grid(torch.zeros(2, 1, 2, 3), loaded, source))
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


def test_a_label_whose_axes_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    path = read_dataset(root).cases[0].label
    assert path is not None
    label = nib.load(path)
    voxels, mirrored = np.asarray(label.dataobj), label.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(voxels, mirrored), path)
    with pytest.raises(DataError, match=r"lead to LAS but those of .* to RAS, so their voxels do not lie"):
        read_dataset(root)
    unplaced = nib.Nifti1Image(voxels, mirrored)
    unplaced.set_sform(mirrored, code=0)
    unplaced.set_qform(None, code=0)
    nib.save(unplaced, path)
    assert read_dataset(root).cases, "a file that does not say how it lies is taken as it is"


def test_one_file_per_channel_on_one_grid(tmp_path: Path) -> None:
    first = write(tmp_path / "c_0000.nii.gz", ball((8, 8, 8)))
    second = write(tmp_path / "c_0001.nii.gz", ball((8, 8, 9)))
    with pytest.raises(DataError, match="channels, 2, but it is 1"):
        load_image([first], config(), channels=2)
    with pytest.raises(DataError, match="8 x 8 x 9 voxels"):
        load_image([first, second], config(), channels=2)
    write(second, ball((8, 8, 8)), np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="lead to LAS but those of"):
        load_image([first, second], config(), channels=2)
    write(second, ball((8, 8, 8)), np.diag([1.0, 1.0, 1.5, 1.0]))
    with pytest.raises(DataError, match=r"case c: c_0001\.nii\.gz has voxels of 1 x 1 x 1.5 mm"):
        load_image([first, second], config(), channels=2)
    with pytest.raises(DataError, match="does not exist"):
        load_image([tmp_path / "none.nii.gz"], config(), channels=1)


def test_a_volume_of_the_tests_is_one_of_the_package() -> None:
    assert volume().image.shape == (1, 20, 18, 6)

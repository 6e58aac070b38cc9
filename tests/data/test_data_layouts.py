"""The public data sets as their makers hand them out: read whole, odd cases told, patients together, axes right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
import pytest
import torch

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.data.datasets import read_dataset, read_names, without
from sauron_train.data.grid import most_probable, to_original_grid
from sauron_train.data.load import load_volumes, original_labels
from sauron_train.data.split import split_cases
from sauron_train.errors import ConfigError, DataError
from sauron_train.experiment import Experiment
from sauron_train.keys import overlaid

SMALL = {
    "rats": {"data": {"patch": [32, 32]}, "network": {"levels": 3}},
    "acdc": {"data": {"patch": [32, 32]}, "network": {"levels": 3}},
    "kits19": {"data": {"patch": [32, 32, 8]}, "network": {"levels": 3}},
}


def small(recipe: str, **more: object) -> Config:
    changes = overlaid(SMALL[recipe], {"data": {"workers": 0}, "probe": {"images": 1}})
    return parse(overlaid(overlaid(recipes.load(recipe), changes), more))


def test_acdc_gives_the_frames_that_info_cfg_names(tmp_path: Path) -> None:
    dataset = read_dataset(miniatures.acdc(tmp_path))
    names = [case.name for case in dataset.cases]
    assert names == [
        f"patient{p:03d}_frame{f:02d}" for p, f in [(1, 1), (1, 12), (2, 1), (2, 9), (3, 4), (4, 1), (4, 7)]
    ]
    assert dataset.name == "ACDC"
    assert list(dataset.labels) == ["background", "right ventricle", "myocardium", "left ventricle"]
    # The inner folder is the same data set.
    inner = read_dataset(tmp_path / "database" / "training")
    assert [case.name for case in inner.cases] == names


def test_without_info_cfg_the_labelled_frames_count(tmp_path: Path) -> None:
    miniatures.acdc(tmp_path)
    before = read_dataset(tmp_path)
    for path in tmp_path.rglob("Info.cfg"):
        path.unlink()
    after = read_dataset(tmp_path)
    assert [case.name for case in after.cases] == [case.name for case in before.cases]
    assert after.fingerprint != before.fingerprint


def test_kits19_leaves_out_what_has_no_segmentation(tmp_path: Path) -> None:
    dataset = read_dataset(miniatures.kits19(tmp_path))
    assert [case.name for case in dataset.cases] == [f"case_{n:05d}" for n in (0, 1, 2, 15, 16)]
    kept = without(dataset, small("kits19").data.discard)
    assert [case.name for case in kept.cases] == [f"case_{n:05d}" for n in (0, 1, 2, 16)]


def test_rats_are_named_by_study_animal_and_time(tmp_path: Path) -> None:
    dataset = read_dataset(miniatures.rats(tmp_path))
    assert [case.name for case in dataset.cases] == ["A_7_02h", "A_7_24h", "B_7_02h", "B_9_24h"]
    assert [case.patient for case in dataset.cases] == ["A_7", "A_7", "B_7", "B_9"]


@pytest.mark.parametrize(("recipe", "make"), [("acdc", miniatures.acdc), ("rats", miniatures.rats)])
def test_a_patient_is_on_one_side_of_the_split(recipe: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path))
    for seed in range(12):
        split = split_cases(dataset, small(recipe).data, seed)
        sides = [{case.patient for case in side} for side in (split.train, split.validation)]
        assert not sides[0] & sides[1]
        assert split == split_cases(dataset, small(recipe).data, seed)


@pytest.mark.parametrize("recipe", ["rats", "acdc", "kits19"])
def test_recipes_read_their_data_set_and_make_patches_of_it(recipe: str, tmp_path: Path) -> None:
    config = small(recipe)
    experiment = Experiment.prepare(config, getattr(miniatures, recipe)(tmp_path))
    batch = next(iter(experiment.training_loader(1)))
    assert batch.image.shape == (config.data.batch_size, 1, *config.data.patch)
    assert bool(torch.isfinite(batch.image).all())
    cases = {case.name for case in (*experiment.split.train, *experiment.split.validation)}
    assert "case_00015" not in cases
    if recipe == "kits19":
        assert len(experiment.patches) == 2 * len(experiment.split.train)
    else:
        assert len(experiment.patches) == sum(v.image.shape[3] for v in experiment.patches.volumes)


def test_axes_are_turned_and_turned_back(tmp_path: Path) -> None:
    dataset = without(read_dataset(miniatures.kits19(tmp_path)), ["case_00002"])
    config = small("kits19", preprocess={"spacing": None, "clip": None, "shift_scale": None})
    for volume, case in zip(load_volumes(dataset.cases, dataset, config), dataset.cases, strict=True):
        labels, spacing = original_labels(case, dataset)
        assert miniatures.oriented(case.images[0]) == ("I", "P", "L")
        assert volume.image.shape[1:] == tuple(reversed(labels.shape))
        assert np.allclose(volume.spacing, spacing[::-1])
        assert np.all(np.diag(volume.affine)[:3] > 0)
        assert volume.label is not None
        scores = torch.nn.functional.one_hot(volume.label.long()).movedim(-1, 0).float()
        assert torch.equal(most_probable(to_original_grid(scores, volume, case.images[0])), labels)


def test_kits19_is_resampled_to_the_voxels_of_the_table(tmp_path: Path) -> None:
    dataset = read_dataset(miniatures.kits19(tmp_path))
    (volume,) = load_volumes(dataset.cases[:1], dataset, small("kits19"))
    assert np.allclose(volume.spacing, (1.62, 1.62, 3.22))
    assert volume.image.min() >= (-79 - 101) / 76.9 - 1e-5
    assert volume.image.max() <= (304 - 101) / 76.9 + 1e-5


def test_a_patch_lies_in_the_middle_where_the_recipe_says_so(tmp_path: Path) -> None:
    still = {"scale_p": 0, "rotation_p": 0, "gamma_p": 0, "flip_p": 0, "elastic_p": 0, "z_normalise": False}
    config = small("acdc", augment=still, preprocess={"spacing": None})
    patches = Experiment.prepare(config, miniatures.acdc(tmp_path)).patches
    for number in range(len(patches)):
        patch = patches[number]
        volume = next(v for v in patches.volumes if v.name == patch.case)
        x = (volume.image.shape[1] - 32) // 2
        y = (volume.image.shape[2] - 32) // 2
        middles = volume.image[:, x : x + 32, y : y + 32].unbind(-1)
        assert any(torch.equal(patch.image, middle) for middle in middles)


def test_what_is_missing_is_said_with_the_case(tmp_path: Path) -> None:
    root = miniatures.acdc(tmp_path / "acdc")
    folder = root / "database" / "training" / "patient002"
    (folder / "patient002_frame09_gt.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case patient002_frame09 lacks patient002_frame09_gt\.nii\.gz"):
        read_dataset(root)
    (folder / "Info.cfg").write_text("Group: DCM\n")
    with pytest.raises(DataError, match=r"patient002/Info\.cfg must say which frames are labelled"):
        read_dataset(root)
    (folder / "Info.cfg").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"Info\.cfg cannot be read"):
        read_dataset(root)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(DataError, match=r"neither an Info\.cfg nor a labelled frame"):
        read_dataset(root)
    kits = miniatures.kits19(tmp_path / "kits")
    (kits / "data" / "case_00001" / "imaging.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case case_00001 lacks imaging\.nii\.gz"):
        read_dataset(kits)
    for path in kits.rglob("segmentation.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=r"no case in .* has a segmentation"):
        read_names(kits)
    rats = miniatures.rats(tmp_path / "rats")
    (rats / "A" / "02h" / "7" / "scan.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case A_7_02h lacks scan\.nii\.gz"):
        read_dataset(rats)


def test_a_folder_in_no_layout_names_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"no dataset\.json.*nnU-Net raw:.*ACDC: patient001.*KiTS19.*Rats: STUDY"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        read_dataset(tmp_path / "gone")


def test_not_every_case_can_be_discarded(tmp_path: Path) -> None:
    dataset = read_dataset(miniatures.rats(tmp_path))
    with pytest.raises(DataError, match=r"data\.discard names every case of Rats"):
        without(dataset, [case.name for case in dataset.cases])


@pytest.mark.parametrize(
    "change",
    [{"data": {"steps_per_epoch": 3}}, {"network": {"dim": 2, "levels": 3}, "data": {"patch": [32, 32]}}],
    ids=["steps", "2D"],
)
def test_the_length_of_an_epoch_is_said_once(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"data\.patches_per_volume is 2, but the length of an epoch is given by"):
        small("kits19", **change)

"""What is odd about a data set is said, and does not stop training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_making import config, volume, write, write_dataset, write_json

from sauron_train.data.datasets import read_dataset, without
from sauron_train.data.remarks import of_classes, of_patches, of_volumes
from sauron_train.experiment import Experiment


def lay(root: Path, name: str, shift: float) -> None:
    label = np.zeros((20, 18, 6), dtype=np.uint8)
    label[4:9, 5:11, 1:4] = 1
    affine = np.eye(4)
    affine[0, 3] = shift
    write(root / "labelsTr" / f"{name}.nii.gz", label, affine)


@pytest.mark.parametrize(("shift", "said"), [(0.0, False), (0.5, False), (3.0, True), (-3.0, True)])
def test_a_label_that_lies_beside_its_image_is_told_of(tmp_path: Path, shift: float, said: bool) -> None:
    lay(write_dataset(tmp_path), "p1_ED", shift)
    dataset = read_dataset(tmp_path)
    assert len(dataset.remarks) == said
    if said:
        assert dataset.remarks[0].startswith("case p1_ED: by their headers image and label lie up to 3 voxels beside")


def test_many_such_cases_are_one_sentence(tmp_path: Path) -> None:
    names = ("p1_ED", "p1_ES", "p2_ED", "p2_ES")
    write_dataset(tmp_path, names)
    for name in names:
        lay(tmp_path, name, 2)
    (remark,) = read_dataset(tmp_path).remarks
    assert remark.startswith("4 cases (p1_ED, p1_ES, p2_ED, …): ")


def test_nothing_is_said_about_usual_cases() -> None:
    assert of_volumes([volume("a"), volume("b")], [volume("c")]) == ()


def test_one_value_everywhere_is_told_of() -> None:
    flat = volume("flat")
    flat.image.fill_(7)
    (remark,) = of_volumes([volume("a"), flat], [volume("b")])
    assert remark.startswith("case flat: an image with one value everywhere")


def test_a_label_without_structures_is_told_of() -> None:
    bare = volume("bare")
    assert bare.label is not None
    bare.label.zero_()
    (remark,) = of_volumes([volume("a")], [bare])
    assert remark == "case bare: the label has no structure, only background"


def test_voxels_of_another_size_are_told_of() -> None:
    odd = replace(volume("odd"), spacing=(3.0, 3.0, 3.0))
    (remark,) = of_volumes([volume("a"), volume("b"), odd], [volume("c")])
    assert remark.startswith("case odd: voxels of 3 x 3 x 3 mm where 1 x 1 x 1 mm are usual")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("p1_ES", ()),
        ("p_1ES", ("data.discard names 'p_1ES', which is no case of the data set; did you mean 'p1_ES'?",)),
        ("P01_ED", ("data.discard names 'P01_ED', which is no case of the data set; did you mean 'p1_ED'?",)),
        # Alike but for its number: another patient, which a part of a data set may lack.
        ("p7_ED", ("data.discard names 'p7_ED', which is no case of the data set; nothing is left out for that",)),
    ],
)
def test_a_discarded_case_that_is_not_there_is_told_of(tmp_path: Path, named: str, said: tuple[str, ...]) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    assert without(dataset, [named]).remarks == said
    assert Experiment.prepare(config(data={"discard": [named]}), dataset).remarks == said


@pytest.mark.parametrize(("told", "said"), [(4, False), (3, False), (300, True), ("many", False), (None, False)])
def test_fewer_cases_than_are_counted_are_told_of(tmp_path: Path, told: object, said: bool) -> None:
    write_dataset(tmp_path)
    write_json(tmp_path, numTraining=told)
    sentence = (
        "dataset.json says that there are 300 training cases (numTraining), but 4 are here; see whether the download "
        "is complete"
    )
    assert read_dataset(tmp_path).remarks == ((sentence,) if said else ())


@pytest.mark.parametrize(
    ("dim", "data", "said"),
    [
        (2, {"patch": [24, 24]}, None),
        (2, {"patch": [64, 64]}, "about 91% or more of every patch is padding; the largest slice is 20 x 18 voxels"),
        (
            3,
            {"patch": [32, 32, 16]},
            "about 87% or more of every patch is padding; the largest image is 20 x 18 x 6 voxels",
        ),
        (2, {"batch_size": 12}, None),
        (2, {"batch_size": 13}, "data.batch_size is 13, but an epoch has only 12 patches"),
        (3, {"batch_size": 3}, "data.batch_size is 3, but an epoch has only 2 patches"),
        (2, {"batch_size": 13, "steps_per_epoch": 5}, "give only 12 patches that do not overlap"),
        (3, {"batch_size": 8, "steps_per_epoch": 5}, None),
        (3, {"batch_size": 9, "steps_per_epoch": 5}, "give only 8 patches that do not overlap"),
    ],
)
def test_patches_and_batches_that_are_too_large_are_told_of(
    dim: int, data: dict[str, object], said: str | None
) -> None:
    found = of_patches([volume("a"), volume("b")], config(dim, data=data))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_class_that_nothing_holds_is_told_of() -> None:
    labels = {"background": 0, "one": 1, "two": 2, "three": 3}
    some, other = volume("a"), volume("b")
    assert some.label is not None
    assert other.label is not None
    for label in (some.label, other.label):
        label.zero_()
        label[0] = 1
    some.label[1] = 2
    assert of_classes([some], [some], {"background": 0, "one": 1, "two": 2}) == ()
    nowhere, unscored = of_classes([some], [other], labels)
    assert nowhere.startswith("no case has a voxel of three, so it can be neither learnt nor scored")
    assert unscored.startswith("no validation case has a voxel of two, so it gets no Dice; another seed")
    nowhere, unlearnt = of_classes([other], [some], labels)
    assert unlearnt.startswith("no training case has a voxel of two, so it cannot be learnt; another seed")

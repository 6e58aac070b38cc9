"""What is found to segment in what somebody names."""

from __future__ import annotations

from pathlib import Path

import miniatures
import numpy as np
import pytest
from data_making import write, write_dataset

from sauron_train.data.inputs import images_in
from sauron_train.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        write(path, np.zeros((2, 2, 2), dtype=np.float32))


def test_folders_and_files_are_cases_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path / "f" / "b_0000.nii.gz", tmp_path / "f" / "a_0000.nii", tmp_path / "scan.nii.gz")
    found = images_in([tmp_path / "scan.nii.gz", tmp_path / "f", tmp_path / "f" / "b_0000.nii.gz"], 1)
    assert [case.name for case in found.cases] == ["a", "b", "scan"]
    assert found.unusable == {}
    assert all(case.label is None for case in found.cases)


def test_cases_with_other_channels_are_told_apart(tmp_path: Path) -> None:
    touch(
        *(tmp_path / f"{name}.nii.gz" for name in ("a_0000", "a_0001", "b_0000", "c_0000", "c_0001", "c_0002", "odd"))
    )
    found = images_in([tmp_path], 2)
    assert [case.name for case in found.cases] == ["a"]
    assert [image.name for image in found.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert set(found.unusable) == {"b", "c", "odd.nii.gz"}
    assert found.unusable["b"] == "case b lacks b_0001.nii.gz; the network takes 2 channels"
    assert "case c has more channels than the 2" in found.unusable["c"]
    assert "is not named CASE_0000.nii.gz" in found.unusable["odd.nii.gz"]


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "f" / "a_0000.nii.gz", tmp_path / "g" / "a_0000.nii.gz")
    with pytest.raises(DataError, match="are both called a, so one label map would replace the other"):
        images_in([tmp_path / "f", tmp_path / "g"], 1)


def test_data_sets_as_they_are_handed_out_are_batches(tmp_path: Path) -> None:
    found = images_in([miniatures.acdc(tmp_path / "acdc")], 1)
    assert found.cases
    assert all(case.label is None and case.name.startswith("patient") for case in found.cases)
    with pytest.raises(DataError, match="is a data set; give its folder of images"):
        images_in([write_dataset(tmp_path / "raw")], 1)


def test_what_is_no_batch_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "labels" / "a.nii.gz", tmp_path / "around" / "inner" / "a_0000.nii.gz")
    (tmp_path / "picture.png").write_bytes(b"png")
    for path, sentence in (
        (tmp_path / "none", "is not there"),
        (tmp_path / "picture.png", "is no NIfTI file"),
        (tmp_path / "labels", "is not named CASE_0000"),
        (tmp_path / "around", "it is not looked into the folders within it"),
    ):
        with pytest.raises(DataError, match=sentence):
            images_in([path], 1)

"""What is odd about a data set is said, and does not stop training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_making import volume, write, write_dataset

from sauron_train.data.datasets import read_dataset
from sauron_train.data.remarks import of_volumes


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

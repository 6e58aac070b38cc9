"""Files that are no images, and data sets of which a part cannot be used: what is said of them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
import pytest
from data_making import write, write_dataset

from sauron_train.data.datasets import examine, read_dataset, without
from sauron_train.data.inputs import images_in
from sauron_train.data.nifti import read_header
from sauron_train.errors import DataError


def image(root: Path, name: str = "p1_ES") -> Path:
    return root / "imagesTr" / f"{name}_0000.nii.gz"


def _unpack(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone.nii.gz")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "not compressed": (_unpack, "is not compressed although its name ends in .gz; rename it to .nii, or compress it"),
    "web page": (lambda p: p.write_text("\n<!DOCTYPE html><p>404"), "is a web page, not an image"),
    "text": (lambda p: p.write_text("no such file"), "is a text file, not an image (it begins with 'no such file')"),
    "pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "only a pointer of Git LFS"),
    "archive": (lambda p: p.write_bytes(b"PK\x03\x04\x00\xff"), "is a ZIP archive"),
    "folder": (_folder, "is a folder, where an image file should be"),
    "link to nothing": (_dangle, "is a link to gone.nii.gz, where nothing is"),
    "pipe": (_pipe, "is a pipe or a device and no file"),
    "empty": (lambda p: p.write_bytes(b""), "is empty; fetch it again"),
    "noise": (lambda p: p.write_bytes(b"\x1f\x8b\xff\xfe\x00"), "is damaged or incomplete, fetch it again"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_a_file_is_instead_of_an_image_is_said(tmp_path: Path, what: str) -> None:
    damage, said = DAMAGES[what]
    path = write(tmp_path / "c_0000.nii.gz", np.zeros((4, 4, 4), dtype=np.float32))
    damage(path)
    with pytest.raises(DataError) as refused:
        read_header(path)
    assert said in str(refused.value)


def test_a_compressed_file_without_its_ending_is_told_of(tmp_path: Path) -> None:
    path = write(tmp_path / "c.nii.gz", np.zeros((4, 4, 4), dtype=np.float32)).rename(tmp_path / "c.nii")
    with pytest.raises(DataError, match=r"is compressed although its name does not end in \.gz"):
        read_header(path)


@pytest.mark.parametrize(("damage", "said"), [(_dangle, "is a link to gone.nii.gz"), (_folder, "is a folder")])
def test_what_cannot_be_segmented_is_said(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    root = write_dataset(tmp_path)
    damage(image(root))
    found = images_in([root / "imagesTr"], 1)
    assert list(found.unusable) == ["p1_ES"]
    assert said in found.unusable["p1_ES"]
    if damage is _dangle:
        with pytest.raises(DataError, match=r"is a link to gone\.nii\.gz"):
            images_in([image(root)], 1)


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": lambda r: image(r).write_bytes(image(r).read_bytes()[:-200]),
    "4D": lambda r: write(image(r), np.zeros((20, 18, 6, 2), dtype=np.float32)),
    "other size": lambda r: write(image(r), np.zeros((20, 18, 7), dtype=np.float32)),
    "no label": lambda r: (r / "labelsTr" / "p1_ES.nii.gz").unlink(),
    "no image": lambda r: image(r).unlink(),
    "channel too many": lambda r: write(r / "imagesTr" / "p1_ES_0001.nii.gz", np.zeros((20, 18, 6))),
    "misnamed": lambda r: image(r).rename(r / "imagesTr" / "p1_ES.nii.gz"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_one_bad_case_is_set_apart_and_may_be_discarded(tmp_path: Path, what: str) -> None:
    root = write_dataset(tmp_path)
    BROKEN[what](root)
    found = examine(root)
    assert [case.name for case in found.cases] == ["p1_ED", "p2_ED", "p2_ES"]
    assert list(found.broken) == ["p1_ES"]
    with pytest.raises(DataError):
        read_dataset(root)
    kept = without(read_dataset(root, ["p1_ES"]), ["p1_ES"])
    assert (len(kept.cases), kept.broken, kept.remarks) == (3, {}, ())


def test_several_bad_cases_are_named_together(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    for name in ("p1_ED", "p1_ES", "p2_ED"):
        image(root, name).write_bytes(b"")
    with pytest.raises(DataError, match=r"p1_ED_0000.* is empty.* \(2 more cases cannot be used either: p1_ES, p2_ED;"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("layout", "file", "name"),
    [
        (miniatures.acdc, "database/training/patient001/patient001_frame12_gt.nii.gz", "patient001_frame12"),
        (miniatures.kits19, "data/case_00001/imaging.nii.gz", "case_00001"),
        (miniatures.rats, "A/02h/7/scan.nii.gz", "A_7_02h"),
    ],
)
def test_a_case_that_lacks_a_file_is_set_apart_in_every_layout(
    tmp_path: Path, layout: Callable[[Path], Path], file: str, name: str
) -> None:
    root = layout(tmp_path)
    before = len(examine(root).cases)
    (root / file).unlink()
    found = examine(root)
    assert (len(found.cases), list(found.broken)) == (before - 1, [name])


def test_a_patient_whose_description_is_damaged_is_set_apart(tmp_path: Path) -> None:
    root = miniatures.acdc(tmp_path)
    (root / "database" / "training" / "patient002" / "Info.cfg").write_text("ED: soon")
    assert list(examine(root).broken) == ["patient002"]

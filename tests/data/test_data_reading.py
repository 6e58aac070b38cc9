from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data_making import config, write, write_case, write_dataset, write_json

from sauron_train.data.datasets import read_dataset
from sauron_train.data.load import load_volumes
from sauron_train.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data"


def test_a_data_set_is_read(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "d"))
    assert dataset.name == "d"
    assert dataset.channels == ("MRI",)
    assert dataset.labels == {"background": 0, "a": 1, "b": 2}
    assert [case.name for case in dataset.cases] == ["p1_ED", "p1_ES", "p2_ED", "p2_ES"]
    assert dataset.cases[0].label == tmp_path / "d" / "labelsTr" / "p1_ED.nii.gz"


def test_channels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_json(tmp_path, channel_names={"1": "T2", "0": "T1"})
    write_case(tmp_path, "c", channels=2)
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("T1", "T2")
    assert [path.name for path in dataset.cases[0].images] == ["c_0000.nii.gz", "c_0001.nii.gz"]
    image = load_volumes(dataset.cases, dataset, config())[0].image
    assert image.shape == (2, 20, 18, 6)
    assert image[1].min() >= 1 > image[0].max()


def test_version_one_of_the_layout_is_read(tmp_path: Path) -> None:
    write_json(
        tmp_path,
        channel_names=None,
        file_ending=None,
        modality={"0": "CT"},
        labels={"0": "background", "1": "a", "2": "b"},
    )
    write_case(tmp_path, "c")
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("CT",)
    assert dataset.labels == {"background": 0, "a": 1, "b": 2}


def test_files_that_a_mac_leaves_behind_are_no_cases(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "imagesTr" / "._p1_ED_0000.nii.gz").write_bytes(b"finder")
    assert len(read_dataset(tmp_path).cases) == 4


def test_the_fingerprint_follows_the_files_and_not_their_age(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    first = read_dataset(tmp_path).fingerprint
    os.utime(tmp_path / "imagesTr" / "p1_ED_0000.nii.gz", (1, 1))
    assert read_dataset(tmp_path).fingerprint == first
    write_case(tmp_path, "p1_ED", shape=(21, 18, 6))
    assert read_dataset(tmp_path).fingerprint != first


def test_labels_may_be_stored_as_float(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    label = np.zeros((20, 18, 6), dtype=np.float64)
    label[2:4] = 2.0
    write(tmp_path / "labelsTr" / "p1_ED.nii.gz", label)
    dataset = read_dataset(tmp_path)
    loaded = load_volumes(dataset.cases[:1], dataset, config())[0].label
    assert loaded is not None
    assert loaded.sum() == 2 * label[2:4].size


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channel_names": None}, "lacks 'channel_names'"),
        ({"channel_names": {"1": "MRI"}}, "without gaps"),
        ({"channel_names": ["MRI"]}, "must map"),
        ({"labels": None}, "lacks 'labels'"),
        ({"labels": {}}, "table of names and values"),
        ({"labels": {"background": 0}}, "background only"),
        ({"labels": {"background": 0, "a": 2}}, "without gaps"),
        ({"labels": {"a": 1, "b": 2}}, "without gaps"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions are not supported"),
        ({"labels": {"background": 0, "a": 1.5}}, "whole number"),
        ({"labels": {"background": 0, "a": True}}, "whole number"),
        ({"labels": {"0": "x", "1": "x"}}, "two labels are called 'x'"),
        ({"labels": {"background": 0, "ignore": 1}}, "'ignore' is not supported"),
        ({"file_ending": ".png"}, "file_ending '.png'"),
        ({"file_ending": ".nii"}, "no image that ends in .nii"),
    ],
)
def test_a_wrong_dataset_json_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    write_dataset(tmp_path)
    write_json(tmp_path, **changes)
    with pytest.raises(DataError, match=sentence):
        read_dataset(tmp_path)


def _no_folder(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.rmdir()


def _cut(root: Path, share: float) -> None:
    path = root / "imagesTr" / "p1_ED_0000.nii.gz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _replace(root: Path, name: str, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    write(root / name, voxels, affine)


def _lie_about_spacing(path: Path, thickness: float) -> None:
    image = nib.load(path)
    image.header["pixdim"][3] = thickness
    nib.save(image, path)


def _no_spacing(path: Path) -> None:
    """Written byte by byte, because nibabel makes 1 mm of it."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<f", content, 76 + 4 * 3, 0.0)
    path.write_bytes(gzip.compress(bytes(content)))


BROKEN = {
    "no folder": (_no_folder, "there is no folder"),
    "no dataset.json": (lambda r: (r / "dataset.json").unlink(), "has no dataset.json"),
    "invalid json": (lambda r: (r / "dataset.json").write_text("{"), "not valid JSON"),
    "json is a list": (lambda r: (r / "dataset.json").write_text("[]"), "table of keys"),
    "no imagesTr": (lambda r: (r / "imagesTr").rename(r / "images"), "no folder imagesTr"),
    "no cases": (lambda r: [f.unlink() for f in (r / "imagesTr").iterdir()], "holds no image"),
    "no label": (
        lambda r: (r / "labelsTr" / "p1_ED.nii.gz").unlink(),
        r"case p1_ED has no label: .*labelsTr/p1_ED\.nii\.gz is not there",
    ),
    "no image": (lambda r: (r / "imagesTr" / "p1_ED_0000.nii.gz").unlink(), "p1_ED.nii.gz has no image"),
    "no voxel size": (
        lambda r: _no_spacing(r / "imagesTr" / "p1_ED_0000.nii.gz"),
        r"p1_ED_0000\.nii\.gz has a voxel size of 0 mm in its header",
    ),
    "no channel number": (
        lambda r: (r / "imagesTr" / "p1_ED_0000.nii.gz").rename(r / "imagesTr" / "p1_ED.nii.gz"),
        "must be named CASE_0000",
    ),
    "channel too many": (
        lambda r: _replace(r, "imagesTr/p1_ED_0001.nii.gz", np.zeros((20, 18, 6))),
        "names only 1",
    ),
    "channel missing": (lambda r: write_json(r, channel_names={"0": "T1", "1": "T2"}), "case p1_ED lacks channel 1"),
    "empty file": (lambda r: _cut(r, 0.0), "p1_ED_0000.nii.gz cannot be read"),
    "header cut": (lambda r: _cut(r, 0.02), "p1_ED_0000.nii.gz cannot be read"),
    "voxels cut": (lambda r: _cut(r, 0.7), "p1_ED_0000.nii.gz ends before its last voxel"),
    "other shape": (lambda r: _replace(r, "labelsTr/p1_ED.nii.gz", np.zeros((20, 18, 7))), "20 x 18 x 7"),
    "other spacing": (
        lambda r: _replace(r, "labelsTr/p1_ED.nii.gz", np.zeros((20, 18, 6)), np.diag([1, 1, 2, 1])),
        "1 x 1 x 2 mm",
    ),
    "spacing against affine": (
        lambda r: _lie_about_spacing(r / "imagesTr" / "p1_ED_0000.nii.gz", 4.0),
        "1 x 1 x 4 mm by its header but of 1 x 1 x 1 mm by the orientation matrix",
    ),
    "2D": (lambda r: _replace(r, "imagesTr/p1_ED_0000.nii.gz", np.zeros((20, 18))), "has 2 dimensions"),
    "4D": (lambda r: _replace(r, "imagesTr/p1_ED_0000.nii.gz", np.zeros((20, 18, 6, 2))), "has 4 dimensions"),
    "RGB": (
        lambda r: _replace(
            r, "imagesTr/p1_ED_0000.nii.gz", np.zeros((20, 18, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        ),
        "one real number per voxel",
    ),
    "complex": (
        lambda r: _replace(r, "imagesTr/p1_ED_0000.nii.gz", np.zeros((20, 18, 6), dtype=np.complex64)),
        "one real number per voxel",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_data_set_is_refused_before_it_is_loaded(tmp_path: Path, what: str) -> None:
    damage, sentence = BROKEN[what]
    root = write_dataset(tmp_path / "d")
    damage(root)
    with pytest.raises(DataError, match=sentence):
        read_dataset(root)


def _label_with(value: float) -> np.ndarray:
    label = np.zeros((20, 18, 6), dtype=np.float32)
    label[0, 0, 0] = value
    return label


@pytest.mark.parametrize(
    ("file", "voxels", "sentence"),
    [
        ("labelsTr/p1_ED.nii.gz", _label_with(3), "label value 3, which dataset.json does not list"),
        ("labelsTr/p1_ED.nii.gz", _label_with(-1), "label value -1"),
        ("labelsTr/p1_ED.nii.gz", _label_with(257), "label value 257"),
        ("labelsTr/p1_ED.nii.gz", _label_with(0.5), "label value 0.5, which is no whole number"),
        ("labelsTr/p1_ED.nii.gz", _label_with(np.nan), "NaN or infinite"),
        ("imagesTr/p1_ED_0000.nii.gz", _label_with(np.nan), "p1_ED_0000.nii.gz has 1 voxel of 2160 that are NaN"),
        ("imagesTr/p1_ED_0000.nii.gz", _label_with(np.inf), "NaN or infinite"),
    ],
)
def test_voxels_that_cannot_be_used_are_named(tmp_path: Path, file: str, voxels: np.ndarray, sentence: str) -> None:
    root = write_dataset(tmp_path)
    write(root / file, voxels)
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=sentence):
        load_volumes(dataset.cases, dataset, config())


def test_damage_within_the_compressed_voxels_is_named(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    path = root / "imagesTr" / "p1_ED_0000.nii.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"p1_ED_0000\.nii\.gz cannot be read"):
        load_volumes(dataset.cases, dataset, config())


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "cases"), [("Dataset004_Hippocampus", 260), ("Dataset101_SunnybrookLV", 58)])
def test_real_data_sets_are_read(name: str, cases: int) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"the data set {name} is not beside the repository")
    dataset = read_dataset(REAL / name)
    assert len(dataset.cases) == cases
    loaded = load_volumes(dataset.cases[:2], dataset, config())
    assert all(v.label is not None and v.label.any() for v in loaded)

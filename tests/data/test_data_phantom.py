from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_making import config

from sauron_train.data import phantom
from sauron_train.data.datasets import read_dataset
from sauron_train.data.load import load_volumes
from sauron_train.data.phantom import make_phantom
from sauron_train.errors import DataError


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dim", [2, 3])
def test_a_phantom_is_a_data_set_with_both_structures(tmp_path: Path, dim: int) -> None:
    dataset = read_dataset(make_phantom(tmp_path / "p", dim, cases=4, seed=1))
    assert dataset.labels == {"background": 0, "ventricle": 1, "lesion": 2}
    volumes = load_volumes(dataset.cases, dataset, config(dim))
    assert len({v.image.shape for v in volumes}) > 1
    for v in volumes:
        assert v.label is not None
        assert set(v.label.unique().tolist()) == {0, 1, 2}
        assert v.spacing[2] > v.spacing[0] if dim == 2 else v.spacing[2] == v.spacing[0]


def test_the_seed_fixes_every_byte(tmp_path: Path) -> None:
    first, again, other = (make_phantom(tmp_path / n, 2, 2, s) for n, s in (("a", 7), ("b", 7), ("c", 8)))
    assert contents(first) == contents(again)
    assert contents(first)["imagesTr/phantom_001_0000.nii.gz"] != contents(other)["imagesTr/phantom_001_0000.nii.gz"]


def test_more_cases_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    few, many = make_phantom(tmp_path / "a", 2, 1, 0), make_phantom(tmp_path / "b", 2, 3, 0)
    name = "imagesTr/phantom_001_0000.nii.gz"
    assert contents(few)[name] == contents(many)[name]


def test_no_threshold_finds_a_structure(tmp_path: Path) -> None:
    dataset = read_dataset(make_phantom(tmp_path / "p", 2, cases=3, seed=0))
    for v in load_volumes(dataset.cases, dataset, config()):
        image, label = v.image[0].numpy(), v.label.numpy() if v.label is not None else None
        levels = np.quantile(image, np.linspace(0, 1, 60))
        for value in (1, 2):
            true = label == value
            best = 0.0
            for i, low in enumerate(levels):
                for high in levels[i + 1 :: 4]:
                    found = (image >= low) & (image <= high)
                    best = max(best, 2 * (found & true).sum() / (found.sum() + true.sum()))
            assert best < 0.7


def test_the_size_can_be_chosen(tmp_path: Path) -> None:
    dataset = read_dataset(make_phantom(tmp_path / "p", 3, cases=2, seed=0, size=(20, 24, 16)))
    for v in load_volumes(dataset.cases, dataset, config(3)):
        assert all(abs(side - wanted) <= 2 for side, wanted in zip(v.image.shape[1:], (20, 24, 16), strict=True))


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        make_phantom(tmp_path, 2, 1, 0)
    assert not list(tmp_path.iterdir())


def test_a_crash_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "_description", crash)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "p", 2, 1, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dim", "cases", "size", "sentence"),
    [(4, 1, None, "2 or 3 dimensions"), (2, 0, None, "at least one case"), (3, 1, (2, 9, 9), "at least 4")],
)
def test_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, dim: int, cases: int, size: tuple[int, int, int] | None, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        make_phantom(tmp_path / "p", dim, cases, 0, size)

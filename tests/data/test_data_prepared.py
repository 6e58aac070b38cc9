"""Preprocessing as a step: what comes out of the cache is what comes out of the files, and nothing is kept half."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from data_making import config, write, write_case, write_dataset
from typer.testing import CliRunner

from sauron_train.cli import app
from sauron_train.config import Config
from sauron_train.data.datasets import read_dataset
from sauron_train.data.load import CACHE, load_volumes
from sauron_train.data.prepare import Prepared, prepare
from sauron_train.data.prepared import Store, size
from sauron_train.data.types import Volume
from sauron_train.errors import DataError
from sauron_train.experiment import Experiment

RESAMPLED = {"spacing": (0.7, None, 2.0), "clip": (0.1, 0.9), "shift_scale": (0.5, 0.3), "orientation": "canonical"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def made(data: Path, cache: Path, chosen: Config | None = None, jobs: int = 1) -> Prepared:
    return prepare(read_dataset(data), chosen or config(), cache, jobs, lambda *_: None)


def read(data: Path, cache: Path | None, chosen: Config | None = None) -> list[Volume]:
    dataset = read_dataset(data)
    return load_volumes(dataset.cases, dataset, chosen or config(), cache=cache)


def same(one: Volume, other: Volume) -> bool:
    assert one.label is not None
    assert other.label is not None
    voxels = torch.equal(one.image, other.image) and torch.equal(one.label, other.label)
    return voxels and one.spacing == other.spacing and bool((one.affine == other.affine).all())


@pytest.mark.parametrize("preprocess", [{}, RESAMPLED], ids=["as it is", "resampled"])
def test_the_cache_gives_what_the_files_give(data: Path, cache: Path, preprocess: dict[str, Any]) -> None:
    chosen = config(preprocess=preprocess)
    seen: list[tuple[int, int, str]] = []
    done = prepare(read_dataset(data), chosen, cache, 1, lambda *step: seen.append(step))
    assert (done.made, done.there, done.failed) == (4, 0, {})
    assert seen[-1] == (4, 4, "p2_ES")
    for kept, fresh in zip(read(data, cache, chosen), read(data, None, chosen), strict=True):
        assert same(kept, fresh)
    assert made(data, cache, chosen).there == 4


def test_training_takes_the_same_patches_from_it(data: Path, cache: Path) -> None:
    for _ in ("put there", "found there"):
        fresh, kept = (Experiment.prepare(config(), data, cache=place) for place in (None, cache))
        assert len(kept.patches) == len(fresh.patches)
        for number in (0, 7):
            one, other = kept.patches[number], fresh.patches[number]
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.label, other.label)
    assert len(list(cache.glob("*/*.json"))) == 4


def test_training_says_what_came_from_it(data: Path, cache: Path) -> None:
    said: list[str] = []
    for place in (None, cache, cache):
        Experiment.prepare(config(), data, cache=place, tell=said.append)
    assert said == [f"{kept} of 4 cases were taken preprocessed from {cache}" for kept in (0, 4)]


def test_nobody_can_change_what_is_kept(data: Path, cache: Path) -> None:
    made(data, cache)
    first, before = read(data, cache)[0], read(data, None)[0]
    first.image.zero_()
    assert same(read(data, cache)[0], before)


def test_no_file_is_held_open(data: Path, cache: Path) -> None:
    made(data, cache)
    kept = [read(data, cache) for _ in range(3)]
    assert len(kept) == 3
    # Only files of the cache: whatever else this process holds open may come and go with the collector meanwhile.
    assert not [file.path for file in psutil.Process().open_files() if str(cache.resolve()) in file.path]


def test_a_cache_that_cannot_be_written_stops_no_training(data: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert all(same(*pair) for pair in zip(read(data, cache), read(data, None), strict=True))
    said: list[str] = []
    Experiment.prepare(config(), data, cache=cache, tell=said.append)
    assert said[1] == (
        f"4 of 4 cases cannot be kept in {cache}, so the next training has to read them again: {cache} is a file, "
        "not a folder"
    )
    with pytest.raises(DataError, match=r"cache is a file, not a folder; name a folder .* with --cache"):
        made(data, cache)
    with pytest.raises(DataError, match=r"nothing can be written in /.*; name a folder"):
        made(data, Path("/proc/cache"))


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(data: Path, cache: Path) -> None:
    dataset = read_dataset(data)
    store, case = Store.of(cache, dataset, config()), dataset.cases[0]
    key = store.key(case)
    volume = read(data, None)[0]
    write_case(data, case.name, seed=50)
    store.put(case, volume, key)
    assert store.get(case) is None


def test_a_file_that_changed_is_read_again(data: Path, cache: Path) -> None:
    folder = made(data, cache).folder
    files = len(list(folder.iterdir()))
    write_case(data, "p1_ES", seed=99)
    done = made(data, cache)
    assert (done.made, done.there) == (1, 3)
    assert all(same(*pair) for pair in zip(read(data, cache), read(data, None), strict=True))
    assert len(list(folder.iterdir())) == files, "what it was before is gone"


def test_another_preprocessing_lies_beside_it(data: Path, cache: Path) -> None:
    first, second = made(data, cache), made(data, cache, config(preprocess={"clip": (0, 1)}))
    assert first.folder != second.folder
    assert second.made == 4
    assert made(data, cache, config(augment={"flip_p": 0.1})).there == 4, "augmentation is no preprocessing"


@pytest.mark.parametrize(
    ("file", "content"),
    [("p1_ED.*.image.npy", b""), ("p1_ED.*.label.npy", b"\x93NUMPY"), ("p1_ED.json", b"{"), ("p1_ED.json", b"[]")],
)
def test_what_is_damaged_is_made_anew(data: Path, cache: Path, file: str, content: bytes) -> None:
    next(made(data, cache).folder.glob(file)).write_bytes(content)
    assert made(data, cache).made == 1
    assert same(read(data, cache)[0], read(data, None)[0])


def test_a_cut_file_is_made_anew(data: Path, cache: Path) -> None:
    image = next(made(data, cache).folder.glob("p2_ED.*.image.npy"))
    os.truncate(image, image.stat().st_size - 4)
    assert made(data, cache).made == 1


def test_no_pickle_is_read(data: Path, cache: Path) -> None:
    image = next(made(data, cache).folder.glob("p1_ED.*.image.npy"))
    np.save(image, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert made(data, cache).made == 1


def test_several_processes_make_the_same(data: Path, cache: Path) -> None:
    write(data / "imagesTr" / "p2_ED_0000.nii.gz", np.full((20, 18, 6), np.nan, dtype=np.float32))
    done = made(data, cache, jobs=2)
    assert (done.made, list(done.failed)) == (3, ["p2_ED"])
    assert "NaN" in done.failed["p2_ED"]
    write_case(data, "p2_ED", seed=2)
    assert made(data, cache).made == 1
    assert all(same(*pair) for pair in zip(read(data, cache), read(data, None), strict=True))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_ends_it_with_all_that_was_made(data: Path, cache: Path) -> None:
    write_case(data, "p2_ES", shape=(40, 36, 12), seed=3)
    with files_no_longer_than(20_000), pytest.raises(DataError, match=r"case p2_ES cannot be written.*make room"):
        made(data, cache)
    folder = next(cache.iterdir())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    done = made(data, cache)
    assert (done.made, done.there) == (1, 3)


def test_too_little_room_is_told_before_it_begins(data: Path, cache: Path) -> None:
    store = Store.of(cache, read_dataset(data), config())
    with pytest.raises(DataError, match=r"need about 1000000000\.0 GB .* make room"):
        store.refuse_full(10**18)
    assert not cache.exists()
    shape, spacing = (20, 18, 6), (1.0, 1.0, 1.0)
    assert size(shape, spacing, 2, config()) == 20 * 18 * 6 * 9
    chosen = config(preprocess={"spacing": (0.5, None, 2.0)})
    assert size(shape, spacing, 1, chosen) == 20 * 18 * 6 * 5
    (volume, *_) = read(data, None, chosen)
    assert volume.image.numel() * 4 + volume.label.numel() == size(shape, spacing, 1, chosen)  # type: ignore[union-attr]


def test_the_command_goes_on_past_a_bad_case(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = data.parent / "mine.yaml"
    recipe.write_text(config().to_yaml())
    write(data / "labelsTr" / "p1_ES.nii.gz", np.full((20, 18, 6), 7, dtype=np.uint8))
    words = ["preprocess", "--recipe", str(recipe), "--data", str(data), "--jobs", "1"]
    monkeypatch.setenv(CACHE, str(cache))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "left out: p1_ES: " in done.output
    assert "label value 7, which dataset.json does not list" in done.output
    assert "3 cases preprocessed: " in done.output
    done = CliRunner().invoke(app, [*words, "--set", "data.discard=[p1_ES]"])
    assert done.exit_code == 0
    assert "all 3 cases are there already" in done.output
    assert f"--cache {cache}" in done.output


def words(data: Path, cache: Path) -> list[str]:
    recipe = data.parent / "mine.yaml"
    recipe.write_text(config().to_yaml())
    return ["preprocess", "--recipe", str(recipe), "--data", str(data), "--jobs", "1", "--cache", str(cache)]


def test_the_command_names_all_bad_cases_and_makes_the_others(data: Path, cache: Path) -> None:
    (data / "labelsTr" / "p1_ED.nii.gz").unlink()
    write(data / "imagesTr" / "p1_ES_0000.nii.gz", np.zeros((20, 18, 6, 2), dtype=np.float32))
    write(data / "imagesTr" / "p2_ED_0000.nii.gz", np.full((20, 18, 6), np.nan, dtype=np.float32))
    done = CliRunner().invoke(app, words(data, cache))
    assert done.exit_code == 2
    assert "left out: p1_ED: has no label" in done.output.replace("case p1_ED ", "")
    assert "p1_ES_0000.nii.gz has 4 dimensions" in done.output
    assert "NaN" in done.output
    assert "1 case preprocessed: " in done.output
    assert "1 was there already" in CliRunner().invoke(app, words(data, cache)).output
    for path in (data / "imagesTr").iterdir():
        path.write_bytes(b"")
    done = CliRunner().invoke(app, words(data, cache))
    assert done.exit_code == 2
    assert done.output.count("left out: ") == 4
    assert done.output.rstrip().endswith("no case was preprocessed")


def test_the_command_does_not_recommend_what_will_be_refused(tmp_path: Path, cache: Path) -> None:
    one = write_dataset(tmp_path / "one", ("p1",))
    said = CliRunner().invoke(app, [*words(one, cache), "--set", "data.discard=[p2]"]).output
    assert "note  data.discard names 'p2', which is no case" in said
    assert "1 case preprocessed" in said
    assert "will refuse to train on this data set: one holds one case" in said
    bare = write_dataset(tmp_path / "bare", ("p1", "p2"))
    for label in (bare / "labelsTr").iterdir():
        write(label, np.zeros((20, 18, 6), dtype=np.uint8))
    said = CliRunner().invoke(app, words(bare, cache)).output
    assert "will refuse to train on this data set: nothing is labelled in any training case of bare" in said
    assert "Train on them" not in said


class Interrupting:
    """Ctrl-C while a module is read."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sauron_train.data.prepare":
            raise KeyboardInterrupt


def test_ctrl_c_before_it_has_begun_is_answered_in_words(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sauron_train.data.prepare")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    done = CliRunner().invoke(app, words(data, cache))
    assert done.exit_code == 130
    assert "stopped; what is done is kept, repeat the command to go on" in done.output

"""Augmented samples to judge by: the same piece each time, augmented anew, and a sheet of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_making import config, volume, write, write_dataset
from PIL import Image
from typer.testing import CliRunner

from sauron_train.cli import app
from sauron_train.data.patches import TrainingPatches
from sauron_train.data.samples import Picture, Row, Samples, draw_samples
from sauron_train.sheet import described, draw_sheet, outline

STRONG = {"scale_p": 1.0, "rotation_p": 1.0, "gamma_p": 1.0, "flip_axes": (0, 1)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", ("a", "b", "c", "d", "e"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(config(augment=STRONG, data={"validation": 0.2}).to_yaml())
    return path


@pytest.mark.parametrize("dim", [2, 3])
def test_a_sample_is_one_piece_augmented_anew(dim: int) -> None:
    patches = TrainingPatches([volume("v"), volume("w", seed=1)], config(dim, augment=STRONG), seed=3)
    unit = patches.fullest(1)
    plain, first, again, second = (patches.sample(unit, draw) for draw in (None, 0, 0, 1))
    assert plain.case == first.case == "w"
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, second.image)
    assert not torch.equal(plain.image, first.image)
    assert torch.equal(plain.image, patches.sample(unit, None).image)
    other = patches.sample(patches.fullest(0), 0)
    assert not torch.equal(other.label, first.label), "cases are not augmented alike"


def test_without_augmentation_a_sample_is_the_piece_itself() -> None:
    patches = TrainingPatches([volume("v", (16, 16, 6))], config(augment={"z_normalise": False}), seed=0)
    unit = patches.fullest(0)
    piece = patches.volumes[0].image[:, :, :, unit]
    assert unit in (1, 2), "the slices in which both structures lie"
    for draw in (None, 0, 5):
        assert torch.equal(patches.sample(unit, draw).image, piece)


def test_looking_at_samples_leaves_training_as_it_is() -> None:
    looked, other = (TrainingPatches([volume()], config(augment=STRONG), seed=3) for _ in range(2))
    state = torch.get_rng_state()
    looked.sample(2, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(looked[1].image, other[1].image)


@pytest.mark.parametrize("dim", [2, 3])
def test_samples_are_of_training_cases_and_the_seed_chooses_them(data: Path, dim: int) -> None:
    def drawn(seed: int) -> Samples:
        chosen = config(dim, augment=STRONG).model_copy(update={"seed": seed})
        return draw_samples(chosen, data, cases=2, draws=3)

    first, again = drawn(0), drawn(0)
    assert [row.name for row in first.rows] == [row.name for row in again.rows]
    assert all(len(row.augmented) == 3 for row in first.rows)
    assert first.labels == {"a": 1, "b": 2}
    assert len({row.name for seed in range(6) for row in drawn(seed).rows}) > 2
    assert all(row.plain.label.any() for row in first.rows)
    np.testing.assert_array_equal(first.rows[0].augmented[2].image, again.rows[0].augmented[2].image)
    assert draw_samples(config(dim), data, cases=40, draws=1).rows, "no more cases than there are"


def test_a_picture_stands_as_its_file_says(data: Path) -> None:
    # One along the first axis of the file, a hundred along the second.
    ramp = np.broadcast_to((np.arange(20.0)[:, None] + 100 * np.arange(18.0))[..., None], (20, 18, 6))
    for path in (data / "imagesTr").iterdir():
        write(path, ramp.astype(np.float32))
    asked = config(augment={"z_normalise": False}, data={"patch": [16, 8]})
    shown = draw_samples(asked, data, cases=1, draws=1).rows[0].plain
    assert shown.image.shape == shown.label.shape == (8, 16)
    np.testing.assert_allclose(np.diff(shown.image, axis=1), 1, atol=1e-3, err_msg="the first axis leads to the right")
    np.testing.assert_allclose(np.diff(shown.image, axis=0), -100, atol=1e-3, err_msg="the second leads up")


def test_a_volume_that_is_flipped_along_its_stack_shows_a_slice_as_full(data: Path) -> None:
    flipped = {"flip_axes": (2,), "flip_p": 1.0, "z_normalise": False}
    row = draw_samples(config(3, augment=flipped), data, cases=1, draws=1).rows[0]
    assert row.plain.label.any()
    assert (row.augmented[0].label > 0).sum() == (row.plain.label > 0).sum()


def test_outlines_lie_on_the_edge_of_what_is_labelled() -> None:
    label = np.zeros((6, 6), dtype=np.uint8)
    label[1:5, 1:5] = 1
    label[2:4, 4] = 2
    edge = outline(label)
    assert not edge[label == 0].any()
    assert not edge[2:4, 2].any()
    assert edge[2, 4]
    assert edge[1, 1:5].all()


def test_the_sheet_shows_outlines_in_the_colour_of_their_structure() -> None:
    image = np.linspace(0, 1, 32 * 24).reshape(32, 24)
    label = np.zeros((32, 24), dtype=np.uint8)
    label[8:20, 6:18] = 2
    row = Row(
        "a case with a name that is far too long to stand below a small picture",
        *[Picture(image, label)] * 1,
        (Picture(image, label),),
    )
    sheet = draw_sheet(Samples((row,), {"one": 1, "two": 2}, 0.01), "title", config(augment=STRONG).augment)
    colours = np.asarray(sheet).reshape(-1, 3)
    outlined = (colours == (0x88, 0xCC, 0xEE)).all(axis=1).sum()
    assert outlined > 2 * (2 * 60 + 2 * 60)
    constant = Row("flat", Picture(np.zeros((4, 4)), np.zeros((4, 4), np.uint8)), ())
    assert draw_sheet(Samples((constant,), {}, 0.0), "", config().augment).width >= 640


def test_augmentation_is_described_in_its_order() -> None:
    words = described(config(augment=STRONG | {"elastic_p": 0.3}).augment)
    places = [
        words.index(word)
        for word in ("scale 0.9 to 1.1 (p 1)", "rotation", "gamma", "flips of axes 0, 1", "elastic", "z-norm")
    ]
    assert places == sorted(places)
    assert described(config(augment={"z_normalise": False}).augment) == "No augmentation; no z-normalisation."


def preview(*words: object) -> object:
    return CliRunner().invoke(app, ["preview", *map(str, words)])


def test_the_command_writes_a_picture_and_nothing_over_another(data: Path, recipe: Path, tmp_path: Path) -> None:
    words = ["--recipe", recipe, "--data", data, "--cases", 2, "--draws", 2, "--out", tmp_path / "sheet.png"]
    done = preview(*words)
    assert "2 cases, 2 times each" in done.output
    size = Image.open(tmp_path / "sheet.png").size
    assert size[0] >= 640
    for more, sentence in (
        (["--out", tmp_path / "sheet.png"], "exists already"),
        (["--out", tmp_path / "sheet.jpg"], "must end in .png"),
        (["--out", tmp_path / "no" / "sheet.png"], "is not a folder"),
    ):
        assert sentence in str(preview(*words, *more).exception)
    assert preview(*words, "--force").exit_code == 0

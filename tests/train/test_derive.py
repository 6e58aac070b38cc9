"""A run made by cutting another's network: what it holds, what it computes, and that it is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sauron_train.derive
from sauron_train import recipes
from sauron_train.analysis.tables import measures
from sauron_train.analysis.widths import next_width
from sauron_train.checkpoint import load_model
from sauron_train.cli import app
from sauron_train.config import parse
from sauron_train.data.phantom import make_phantom
from sauron_train.derive import CutQuestion, cut_run
from sauron_train.derive_maps import maps_run
from sauron_train.errors import RunError, SauronError
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.predict import evaluate
from sauron_train.runlog import Run
from sauron_train.trainer import Trainer

SMALL = [
    "data.patch=[32, 32]", "network.init_filters=6", "network.levels=3", "epochs=3", "data.steps_per_epoch=4",
    "data.batch_size=2", "data.workers=0", "prune.enabled=false", "probe.images=2", "hardware.accelerator=cpu",
    "maps.every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("derive")
    data = make_phantom(root / "phantom", dim=2, cases=10, seed=1, size=(40, 40, 6))
    config = parse(with_overrides(recipes.load("phantom2d"), SMALL))
    Trainer(Experiment.prepare(config, data), root / "run").run()
    return Run(root / "run")


def quiet(_done: int, _total: int, _what: str) -> None:
    pass


def test_named_filters_are_cut_and_nothing_else(trained: Run, tmp_path: Path) -> None:
    question = CutQuestion(filters={"dec_conv_4": [1, 4], "enc_conv_2": [0]})
    made = cut_run(trained, question, tmp_path / "out" / "cut", quiet)
    model, info = load_model(made.checkpoints()[3])
    assert info.filters["dec_conv_4"] == (0, 2, 3, 5)
    assert info.filters["enc_conv_2"] == (1, 2, 3, 4, 5)
    assert all(len(info.filters[layer.name]) == layer.filters for layer in made.info.layers[2:-1])
    assert {cut.layer: tuple(g.filter for g in cut.removed) for cut in made.prunings()} == {
        "enc_conv_2": (0,), "dec_conv_4": (1, 4),
    }  # fmt: skip
    row = made.epochs().iloc[-1]
    assert (row["epoch"], row["filters_removed"]) == (3, 3)
    assert row["parameters"] == sum(p.numel() for p in model.parameters())
    whole = trained.epochs().iloc[-1]
    assert row["val_dice_before_cut"] == pytest.approx(whole["val_dice"], abs=1e-6)
    assert row["val_loss_before_cut"] == pytest.approx(whole["val_loss"], rel=1e-5)
    derived = made.info.derived_from
    assert derived is not None
    assert (derived.run, derived.epoch) == ("run", 3)
    assert derived.how == "3 filters of 2 layers cut, merged"
    assert made.status == "finished"
    assert made.map_epochs() == made.distance_epochs() == [3]
    assert made.maps(3, "dec_conv_4").filters.tolist() == [0, 2, 3, 5]
    np.testing.assert_array_equal(made.probe().images, trained.probe().images)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cut"]


def test_without_compensation_it_computes_what_the_masked_network_does(trained: Run, tmp_path: Path) -> None:
    made = cut_run(trained, CutQuestion(filters={"dec_conv_3": [2]}, compensate="none"), tmp_path / "cut", quiet)
    whole, _ = load_model(trained.checkpoints()[3])
    with torch.no_grad():
        whole.get_submodule("dec_conv_4").conv.weight[:, 2] = 0
        images = torch.from_numpy(trained.probe().images)
        expected = whole(images)[-1]
        found = load_model(made.checkpoints()[3])[0](images)[-1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert made.config.prune.compensate == "none"


def test_merging_loses_less(trained: Run, tmp_path: Path) -> None:
    filters = {"dec_conv_4": [0, 1, 2], "dec_conv_3": [0, 1, 2], "enc_conv_2": [3, 4]}
    losses = {
        how: cut_run(trained, CutQuestion(filters=filters, compensate=how), tmp_path / how, quiet).epochs()["val_loss"][
            0
        ]
        for how in ("none", "merge")
    }
    assert losses["merge"] < losses["none"]


def test_a_threshold_cuts_what_lies_below_it(trained: Run, tmp_path: Path) -> None:
    made = cut_run(trained, CutQuestion(threshold=0.5, layers=("enc_conv_3",)), tmp_path / "one", quiet)
    cuts = made.prunings()
    assert [cut.layer for cut in cuts] == ["enc_conv_3"]
    assert all(gone.delta_prune < 0.5 for gone in cuts[0].removed)
    assert all(gone.nearest not in [g.filter for g in cuts[0].removed] for gone in cuts[0].removed)
    everywhere = cut_run(trained, CutQuestion(threshold=0.5), tmp_path / "all", quiet)
    assert len(everywhere.prunings()) > 1
    assert "at τ 0.5" in (everywhere.info.derived_from.how if everywhere.info.derived_from else "")


def test_a_threshold_cuts_to_multiples_where_it_is_asked_to(trained: Run, tmp_path: Path) -> None:
    free = cut_run(trained, CutQuestion(threshold=0.6), tmp_path / "free", quiet)
    made = cut_run(trained, CutQuestion(threshold=0.6, width_multiple=4), tmp_path / "cut", quiet)
    cuts = {cut.layer: cut for cut in made.prunings()}
    for layer, width in zip(made.layers()["layer"], made.layers()["filters"], strict=True):
        before = next(info.filters for info in made.info.layers if info.name == layer)
        left = int(free.layers().query("layer == @layer")["filters"].iloc[0])
        assert width == min(before, next_width(left, 4))
        assert (layer in cuts) == (width < before)
    assert len(cuts) > 1
    assert made.config.prune.width_multiple == 4
    assert "at τ 0.6 to multiples of 4" in (made.info.derived_from.how if made.info.derived_from else "")


def test_it_is_a_run_like_others(trained: Run, tmp_path: Path) -> None:
    made = cut_run(trained, CutQuestion(epoch=2, filters={"dec_conv_4": [1]}), tmp_path / "cut", quiet)
    assert list(made.checkpoints()) == [2]
    assert evaluate(made, None, None, quiet)["epoch"] == 2
    again = cut_run(made, CutQuestion(filters={"dec_conv_4": [2]}), tmp_path / "again", quiet)
    assert again.maps(2, "dec_conv_4").filters.tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (CutQuestion(), "say what goes"),
        (CutQuestion(threshold=0.0), "nothing to cut; raise it"),
        (CutQuestion(threshold=0.0, width_multiple=4), "the next multiple of 4, so there is nothing to cut; raise it"),
        (CutQuestion(filters={"dec_conv_4": []}), "no filter is named"),
        (CutQuestion(filters={"dec_conv_9": [1]}), "dec_conv_9 is no layer of this network"),
        (CutQuestion(threshold=0.5, layers=("dec",)), "dec is no layer of this network"),
        (CutQuestion(filters={"dec_conv_4": [77]}), "has no filter 77"),
        (CutQuestion(filters={"dec_conv_4": range(6)}), "dec_conv_4"),
        (CutQuestion(epoch=9, threshold=0.5), "keeps no weights of epoch 9"),
        (CutQuestion(threshold=0.5, data=Path("nowhere")), "nowhere"),
    ],
)
def test_what_cannot_be_cut_leaves_nothing(trained: Run, tmp_path: Path, question: CutQuestion, sentence: str) -> None:
    with pytest.raises(SauronError, match=sentence):
        cut_run(trained, question, tmp_path / "out" / "cut", quiet)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_what_is_stopped_leaves_nothing(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sauron_train.derive, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        cut_run(trained, CutQuestion(filters={"dec_conv_4": [1]}), tmp_path / "cut", quiet)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cut").mkdir()
    with pytest.raises(RunError, match="exists already"):
        cut_run(trained, CutQuestion(filters={"dec_conv_4": [1]}), tmp_path / "cut", quiet)


def test_command(trained: Run, tmp_path: Path) -> None:
    run, out = str(trained.path), tmp_path / "cut"
    told = CliRunner().invoke(app, ["cut", run, "--threshold", "0.5", "--layer", "enc_conv_3", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert "at τ 0.5, merged: validation Dice" in " ".join(told.output.split())
    table = tmp_path / "filters.json"
    table.write_text(json.dumps({"dec_conv_4": [1]}))
    told = CliRunner().invoke(app, ["cut", run, "--filters", str(table), "--out", str(tmp_path / "two"), "--json"])
    lines = [json.loads(line) for line in told.output.splitlines()]
    assert all(done <= total for done, total, _ in lines)
    assert {"scoring as it is", "scoring after the cut", "writing"} <= {what for _, _, what in lines}
    for bad, sentence in (("[1]", "must hold a table"), ("{", "cannot be read as JSON")):
        table.write_text(bad)
        told = CliRunner().invoke(app, ["cut", run, "--filters", str(table), "--out", str(tmp_path / "three")])
        assert sentence in str(told.exception)
    both = ["cut", run, "--filters", str(table), "--threshold", "0.5", "--out", str(tmp_path / "x")]
    assert "Give one of the two" in str(CliRunner().invoke(app, both).exception)
    widths = ["cut", run, "--filters", str(table), "--width-multiple", "8", "--out", str(tmp_path / "x")]
    assert "Give one of the two" in str(CliRunner().invoke(app, widths).exception)
    assert "say what goes" in str(CliRunner().invoke(app, ["cut", run, "--out", str(tmp_path / "x")]).exception)


def test_an_image_of_ones_own_is_shown_to_the_network(trained: Run, tmp_path: Path) -> None:
    image = next((Path(trained.info.data_root) / "imagesTr").glob("*_0000.nii.gz"))
    made = maps_run(trained, [image], 2, tmp_path / "own", quiet)
    probe = made.probe()
    assert len(probe.names) == trained.config.probe.images == 2
    assert all(name.startswith(image.name.removesuffix("_0000.nii.gz")) for name in probe.names)
    assert not probe.labels.any()
    stored = made.maps(2, "dec_conv_4")
    model, _ = load_model(trained.checkpoints()[2])
    with torch.no_grad():
        predicted = model(torch.from_numpy(probe.images))[-1].argmax(dim=1)
    np.testing.assert_array_equal(made.prediction(2), predicted)
    assert stored.shape[:2] == (2, 6)
    derived = made.info.derived_from
    assert derived is not None
    assert derived.how == f"maps of {image.name}"
    assert made.epochs()["val_dice"].tolist() == pytest.approx([trained.epochs()["val_dice"][1]])
    assert measures(made)["neighbours"].notna().all()


@pytest.mark.parametrize("kind", ["missing", "text", "two"])
def test_an_image_that_cannot_be_read_leaves_nothing(trained: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.nii.gz"
    if kind != "missing":
        path.write_text("no image")
    with pytest.raises(SauronError, match="but it is 2" if kind == "two" else "image.nii.gz"):
        maps_run(trained, [path] * (2 if kind == "two" else 1), None, tmp_path / "own", quiet)
    assert not (tmp_path / "own").exists()


def test_command_for_an_image(trained: Run, tmp_path: Path) -> None:
    image = next((Path(trained.info.data_root) / "imagesTr").glob("*_0000.nii.gz"))
    told = CliRunner().invoke(app, ["maps", str(trained.path), str(image), "--out", str(tmp_path / "own")])
    assert told.exit_code == 0, told.output
    assert "maps of" in told.output

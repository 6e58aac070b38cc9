"""Measuring a finished run again: what it changes, what it leaves, and that it is whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import sauron_train.analyze
from sauron_train import recipes
from sauron_train.analysis.tables import measures, neighbours, table4
from sauron_train.analyze import Questions, analyze
from sauron_train.cli import app
from sauron_train.config import parse
from sauron_train.data.phantom import make_phantom
from sauron_train.errors import ConfigError, RunError
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.runlog import Run, files
from sauron_train.runlog.check import check
from sauron_train.runlog.ledger import Sum
from sauron_train.trainer import Trainer

SMALL = [
    "data.patch=[32, 32]", "network.init_filters=4", "network.levels=3", "epochs=4", "data.steps_per_epoch=3",
    "data.batch_size=2", "data.workers=0", "prune.first_epoch=2", "prune.last_epoch=4", "prune.threshold_start=0.4",
    "prune.threshold_max=0.4", "probe.images=2", "hardware.accelerator=cpu", "maps.every=100", "maps.checkpoints=3",
]  # fmt: skip
MEASURES = ["dip", "delta_opt", "neighbours"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("analyse")
    data = make_phantom(root / "phantom", dim=2, cases=10, seed=1, size=(40, 40, 6))
    config = parse(with_overrides(recipes.load("phantom2d"), SMALL))
    Trainer(Experiment.prepare(config, data), root / "run").run()
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    return Run(shutil.copytree(trained, tmp_path / "run"))


def quiet(_done: int, _total: int, _what: str) -> None:
    pass


def contents(run: Run) -> dict[str, str]:
    every = (path for path in run.path.rglob("*") if path.is_file())
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in every}


def test_the_same_questions_get_the_same_answers_and_the_maps_are_stored(run: Run) -> None:
    before = measures(run)
    assert run.map_epochs() == [1, 4]
    assert list(run.checkpoints()) == [1, 3, 4]
    table = run.layers()
    assert analyze(run, Questions(maps=True), quiet).epochs == (1, 3, 4)
    after = measures(run)
    assert run.map_epochs() == [1, 3, 4]
    for name in [*MEASURES, "dip_p"]:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(after.query("epoch == 2")[MEASURES], before.query("epoch == 2")[MEASURES])
    untouched = [c for c in table.columns if c not in (*MEASURES, "dip_p", "dip_n", "dip_method", "dip_reason")]
    pd.testing.assert_frame_equal(run.layers()[untouched], table[untouched])
    assert np.isfinite(run.maps(4, "enc_conv_3").delta_prune).any(), "what was measured while training is kept"
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_maps_are_stored_only_where_they_were(run: Run) -> None:
    sizes = {path.name: path.stat().st_size for path in run.maps_folder(4).iterdir()}
    done = analyze(run, Questions(), quiet)
    assert done.plan.epochs == (1, 4)
    assert run.map_epochs() == [1, 4]
    assert {path.name: path.stat().st_size for path in run.maps_folder(4).iterdir()} == sizes


def test_another_radius_and_another_dip(run: Run) -> None:
    before, by_reference = measures(run, radius=0.2), measures(run, sample="reference")
    analyze(run, Questions(dip="reference", radius=0.2, epochs={4}, force=True), quiet)
    after = measures(run)
    assert (run.config.probe.dip, run.config.probe.radius) == ("reference", 0.2)
    earlier = "epoch < 4"
    np.testing.assert_allclose(after.query(earlier)["neighbours"], before.query(earlier)["neighbours"])
    np.testing.assert_allclose(after.query("epoch == 1")["dip"], by_reference.query("epoch == 1")["dip"])
    assert after.query("epoch == 1")["dip"].notna().any()
    assert after.query("epoch in (2, 3)")["dip"].isna().all(), "the dip of all pairs is another measure"
    last, layer = after.query("epoch == 4"), run.info.layers[2]
    row = last[last["layer"] == layer.name].iloc[0]
    assert row["dip_n"] == len(run.maps(4, layer.name).filters) - 1


def test_neighbours_of_any_radius_are_of_one_kind(run: Run) -> None:
    before = measures(run, radius=0.0123)
    analyze(run, Questions(radius=0.0123, epochs={3}), quiet)
    np.testing.assert_allclose(measures(run)["neighbours"], before["neighbours"], rtol=1e-4, atol=1e-4)


def test_a_radius_alone_needs_no_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, table = measures(run, radius=0.3), run.layers()
    monkeypatch.setattr(sauron_train.analyze, "load_model", None)
    assert analyze(run, Questions(radius=0.3), quiet).epochs == ()
    pd.testing.assert_frame_equal(measures(run), before)
    pd.testing.assert_frame_equal(run.layers().drop(columns="neighbours"), table.drop(columns="neighbours"))
    assert run.config.probe.radius == 0.3


@pytest.mark.parametrize(
    "questions",
    [Questions(dip="pca", epochs={4}), Questions(images=1, seed=5), Questions(images=1, seed=5, epochs={4})],
)
def test_measures_that_cannot_be_made_again_are_not_lost_unasked(run: Run, questions: Questions) -> None:
    before = contents(run)
    with pytest.raises(RunError, match=r"would lose measures .* --force"):
        analyze(run, questions, quiet)
    assert contents(run) == before


def test_the_same_images_by_another_word_are_no_other_images(run: Run) -> None:
    before = measures(run)
    analyze(run, Questions(seed=run.config.seed, epochs={4}), quiet)
    np.testing.assert_allclose(measures(run)["delta_opt"], before["delta_opt"], rtol=1e-4)
    assert run.config.probe.seed == run.config.seed


def test_a_log_of_fewer_columns_gets_the_others(run: Run) -> None:
    table = run.layers().drop(columns=["dip", "dip_p", "dip_n", "dip_method", "dip_reason"])
    table.to_csv(run.path / "layers.csv", index=False)
    analyze(run, Questions(epochs={4}), quiet)
    after = measures(run)
    assert after.query("epoch == 4")["dip"].notna().any()
    assert after.query("epoch < 4")["dip"].isna().all()


def test_maps_of_other_images_are_not_left_behind(run: Run) -> None:
    analyze(run, Questions(images=1, seed=5, epochs={1}, force=True), quiet)
    assert run.map_epochs() == [1]
    assert run.distance_epochs() == [1]
    assert not run.maps_folder(4).exists()


def test_other_images_empty_what_belongs_to_the_ones_before(run: Run) -> None:
    names = run.probe().names
    analyze(run, Questions(images=1, seed=5, epochs={1, 4}, force=True), quiet)
    assert len(run.probe().names) == 1
    assert run.probe().names != names
    assert run.config.probe.images == 1
    assert run.info.probe_images == run.probe().names
    assert run.info.analysed is not None
    after = measures(run)
    assert after.query("epoch in (2, 3)")[MEASURES].isna().all(axis=None)
    assert after.query("epoch in (1, 4)")["delta_opt"].notna().all()
    assert run.distance_epochs() == [1, 4]
    assert run.maps(4, "enc_conv_1").shape[0] == 1
    assert run.prediction(4).shape[0] == 1


def test_what_fails_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(run)
    measure, asked = sauron_train.analyze.measure_probe, []

    def fails(*args: object) -> object:
        asked.append(args)
        if len(asked) == 2:
            raise RuntimeError("the disk is gone")
        return measure(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sauron_train.analyze, "measure_probe", fails)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        analyze(run, Questions(images=1, force=True), quiet)
    assert contents(run) == before


def test_checksums_are_those_of_what_was_measured_again(run: Run) -> None:
    analyze(run, Questions(images=1, seed=5, force=True), quiet)
    assert check(run).findings == []


@pytest.mark.parametrize("file", ["layers.csv", "config.yaml"])
def test_a_full_disk_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    before, write = contents(run), files.write_atomically

    def full(path: Path, content: str | bytes) -> Sum:
        if path.name == file:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        analyze(run, Questions(images=1, seed=5, force=True), quiet)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "2"], "keeps no weights of epoch 2, only of 1, 3, 4"),
        (["--epochs", "one"], "must be numbers and ranges"),
        (["--images", "1", "--epochs", "4-1"], "must be numbers and ranges"),
        (["--epochs", "1-"], "must be numbers and ranges"),
        (["--epochs", "5-9"], "no epoch is named"),
        (["--data", "nowhere"], "leave --data out"),
        (["--images", "500"], "more than the 2 validation cases"),
        (["--images", "1", "--data", "nowhere"], "nowhere"),
        (["--radius", "0"], "probe.radius must be greater than 0 (it is 0"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(run: Run, words: list[str], sentence: str) -> None:
    before = contents(run)
    told = CliRunner().invoke(app, ["analyze", str(run.path), *words])
    assert told.exit_code != 0
    assert sentence in str(told.exception)
    assert contents(run) == before


def test_a_run_that_still_trains_is_left_alone(run: Run) -> None:
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "status": "running", "host": "elsewhere"}))
    with pytest.raises(RunError, match="still training"):
        analyze(run, Questions(), quiet)


def test_command(run: Run) -> None:
    told = CliRunner().invoke(app, ["analyze", str(run.path), "--epochs", "1-2,3-9", "--radius", "0.05"])
    assert told.exit_code == 0, told.output
    assert "measured 3 epochs" in told.output
    assert "counted neighbours" in CliRunner().invoke(app, ["analyze", str(run.path), "--radius", "0.2"]).output


def test_tables_of_a_path_and_what_they_refuse(run: Run) -> None:
    pd.testing.assert_frame_equal(measures(run.path), measures(str(run.path)))
    table = measures(run)
    np.testing.assert_allclose(table["neighbours_share"] * (table["filters"] - 1), table["neighbours"])
    with pytest.raises(ConfigError, match="sample must be one of pairs, reference, pca"):
        measures(run, sample="foo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="radius must lie between 0 and 1"):
        neighbours(run, -1)
    assert not table4(run, share=True)["neighbours"].equals(table4(run)["neighbours"])


def test_no_epoch_is_no_question(run: Run) -> None:
    with pytest.raises(RunError, match="no epoch is named"):
        analyze(run, Questions(epochs=[]), quiet)

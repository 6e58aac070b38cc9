"""The run folder: what is written is read back, an epoch is there or it is not, and damage is said in a sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import CONFIG, INFO

from sauron_train.analysis.tables import table4
from sauron_train.errors import RunError
from sauron_train.runlog import (
    EpochRow,
    LayerDistances,
    LayerMaps,
    LayerRow,
    Probe,
    Pruning,
    RemovedFilter,
    Run,
    RunWriter,
    files,
    find_runs,
)
from sauron_train.runlog.process import identity, is_running
from sauron_train.runlog.schema import layer_columns
from sauron_train.runlog.writer import csv_lines

PRUNING = Pruning(1, "enc_conv_1", 0.1, 5, 0, 4, 3, (RemovedFilter(2, 0.05, 1, 0.01),))


def row(epoch: int, dice: float = 0.5) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        train_loss=1.0,
        train_segmentation_loss=0.9,
        train_delta_opt=0.2,
        val_loss=0.8,
        val_dice=dice,
        val_loss_before_cut=0.7,
        val_dice_before_cut=0.6,
        lr=1e-3,
        filters=7,
        filters_removed=1,
        parameters=90,
        flops=900,
        seconds=1.5,
        seconds_training=1.0,
        memory_mb=100.0,
        dice={"left, upper": dice, "right": float("nan")},
    )


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path / "runs" / "first", CONFIG, INFO)


def commit(writer: RunWriter, epoch: int) -> None:
    layers = [
        LayerRow(epoch, "enc_conv_1", 3, 0.2, threshold=0.1, raised=True, removed=1),
        LayerRow(epoch, "dec_trans_1", 4),
    ]
    writer.commit_epoch(row(epoch), layers, [replace(PRUNING, epoch=epoch)])


def commit_layers(writer: RunWriter, epoch: int, scale: float = 1.0, committed: bool = True) -> None:
    """An epoch in which δ_opt falls and neighbours grow; not committed = stopped before its line in `epochs.csv`."""
    layers = [
        LayerRow(epoch, name, 4, delta_opt=scale / epoch, dip=0.1 * scale, neighbours=scale * epoch)
        for name in ("enc_conv_1", "dec_trans_1")
    ]
    if committed:
        writer.commit_epoch(row(epoch), layers, [replace(PRUNING, epoch=epoch)])
    else:
        files.append(writer.path / files.LAYERS, csv_lines(layer_columns(), (r.cells() for r in layers), header=False))
        files.append(writer.path / files.PRUNINGS, json.dumps(asdict(replace(PRUNING, epoch=epoch))) + "\n")


def test_changes_of_a_run_that_was_stopped_and_went_on_are_those_of_a_run_that_was_not(tmp_path: Path) -> None:
    whole, stopped = (RunWriter.create(tmp_path / name, CONFIG, INFO) for name in ("whole", "stopped"))
    for epoch in range(1, 10):
        commit_layers(whole, epoch)
    for epoch in range(1, 6):
        commit_layers(stopped, epoch)
    commit_layers(stopped, 6, scale=77.0, committed=False)
    assert Run(stopped.path).layers()["epoch"].max() == 5
    # Thirds of the epochs that are there: one epoch of the five.
    assert table4(Run(stopped.path))["neighbours"].tolist() == pytest.approx([400.0, 400.0])
    stopped.finish("stopped")
    with (stopped.path / files.LAYERS).open("a") as table:
        table.write("6,enc_conv_1,3,0.2,0.1")
    again = RunWriter.reopen(stopped.path)
    assert Run(stopped.path).info.status == "running"
    for epoch in range(6, 10):
        commit_layers(again, epoch)
    pd.testing.assert_frame_equal(table4(Run(stopped.path)), table4(Run(whole.path)))
    assert table4(Run(whole.path))["neighbours"].tolist() == pytest.approx([300.0, 300.0])
    assert table4(Run(whole.path))["dip"].tolist() == [0.0, 0.0]
    for name in (files.LAYERS, files.EPOCHS, files.PRUNINGS):
        assert (stopped.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_what_is_written_is_read_back(writer: RunWriter) -> None:
    run = Run(writer.path)
    assert run.epochs().empty
    assert run.last_epoch == 0
    commit(writer, 1)
    assert run.info == INFO
    assert run.config == CONFIG
    epochs = run.epochs()
    assert epochs["dice_left, upper"].tolist() == [0.5]
    assert np.isnan(epochs["dice_right"]).all()
    assert np.isnan(epochs["hd95_right"]).all()
    layers = run.layers()
    assert layers["layer"].tolist() == ["enc_conv_1", "dec_trans_1"]
    assert layers["raised"].tolist()[0] is True
    assert np.isnan(layers["threshold"][1])
    assert run.prunings() == [PRUNING]
    assert run.evaluation() is None
    writer.finish("finished")
    assert run.status == "finished"
    assert run.info.ended is not None


def test_maps_and_probe(writer: RunWriter) -> None:
    rng = np.random.default_rng(0)
    maps = LayerMaps(
        epoch=1,
        layer="enc_conv_1",
        maps=rng.normal(size=(2, 3, 4, 4)).astype(np.float16),
        distances=symmetric(rng.random((2, 3, 3)).astype(np.float32)),
        filters=np.array([0, 1, 3]),
        delta_prune=np.array([0, np.nan, 1]),
        pooling=2,
    )
    images = rng.normal(size=(2, 1, 8, 8)).astype(np.float16).astype(np.float32)
    probe = Probe(images, np.ones((2, 8, 8), dtype=np.uint8), ("b slice 3", "c slice 1"), (1.5, 1.5))
    writer.write_probe(probe)
    writer.write_maps(maps)
    writer.write_prediction(1, np.zeros((2, 8, 8), dtype=np.uint8))
    run = Run(writer.path)
    assert run.map_epochs() == [], "maps count once their epoch is committed"
    commit(writer, 1)
    assert run.map_epochs() == [1]
    assert run.map_layers(1) == ["enc_conv_1"]
    stored = run.maps(1, "enc_conv_1")
    assert stored.shape == (2, 3, 4, 4)
    assert stored.pooling == 2
    assert stored.filters.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(stored.image(1), maps.maps[1])
    np.testing.assert_array_equal(stored.distances(0), maps.distances[0])
    np.testing.assert_allclose(stored.distances(), maps.distances.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(run.probe().images, images)
    assert run.probe().names == probe.names
    assert run.probe().spacing == (1.5, 1.5)
    assert run.prediction(1).shape == (2, 8, 8)
    with pytest.raises(RunError, match="no maps of dec_trans_1 at epoch 1"):
        run.maps(1, "dec_trans_1")


@pytest.mark.parametrize("name", [files.EPOCHS, files.LAYERS, files.PRUNINGS])
@pytest.mark.parametrize("torn_after", [1, 7, 40])
def test_a_torn_epoch_does_not_exist(writer: RunWriter, name: str, torn_after: int) -> None:
    commit(writer, 1)
    path = writer.path / name
    whole = path.read_bytes()
    sizes = {file: (writer.path / file).stat().st_size for file in (files.EPOCHS, files.LAYERS, files.PRUNINGS)}
    commit(writer, 2)
    # A crash after some bytes of this file; what is written later than it is not there at all.
    order = [files.LAYERS, files.PRUNINGS, files.EPOCHS]
    path.write_bytes(path.read_bytes()[: len(whole) + torn_after])
    for later in order[order.index(name) + 1 :]:
        os.truncate(writer.path / later, sizes[later])
    run = Run(writer.path)
    assert run.last_epoch == 1
    assert run.epochs()["epoch"].tolist() == [1]
    assert set(run.layers()["epoch"]) == {1}
    assert [p.epoch for p in run.prunings()] == [1]


def test_a_run_is_never_written_over(writer: RunWriter) -> None:
    with pytest.raises(RunError, match="exists already"):
        RunWriter.create(writer.path, CONFIG, INFO)


def test_a_run_whose_process_is_gone_is_lost(writer: RunWriter) -> None:
    assert Run(writer.path).status == "running"
    nobody = 2**22 + 1
    files.write_json(writer.path / files.INFO, replace(INFO, pid=nobody).to_json())
    assert Run(writer.path).status == "lost"
    files.write_json(writer.path / files.INFO, replace(INFO, pid=nobody, host="elsewhere").to_json())
    assert Run(writer.path).status == "running"


def test_a_run_whose_number_another_process_has_got_is_lost(writer: RunWriter) -> None:
    for process, status in ((identity(os.getpid()), "running"), ("another start of this machine 5", "lost")):
        files.write_json(writer.path / files.INFO, replace(INFO, process_identity=process).to_json())
        assert Run(writer.path).status == status


def test_which_process_a_number_means() -> None:
    own = os.getpid()
    assert is_running(own)
    assert is_running(own, identity(own))
    assert not is_running(own, "another")
    assert not any(map(is_running, (0, -1, -own, 2**22 + 1, 2**40)))
    assert identity(0) == identity(-1) == identity(2**22 + 1) == ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux has spaces of process numbers")
def test_a_process_of_another_container_cannot_be_asked_about() -> None:
    boot, _, began = identity(os.getpid()).split()
    assert is_running(2**22 + 1, f"{boot} pid:[1] {began}")
    assert not is_running(2**22 + 1, f"another-start pid:[1] {began}")


def test_a_process_of_another_user_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise PermissionError

    own = os.getpid()
    monkeypatch.setattr(os, "kill", kill)
    assert is_running(own, identity(own))
    assert not is_running(own, "another")
    assert is_running(2**22 + 1, "one that cannot be seen")


def test_without_proc_it_is_asked_of_ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sauron_train.runlog.process._PROC", tmp_path)
    own = os.getpid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        if shutil.which("ps"):
            assert is_running(own, identity(own))
            assert identity(own)
            assert identity(2**22 + 1) == ""
        monkeypatch.setenv("PATH", str(tmp_path))
        assert is_running(other.pid, "what nobody can tell")
        assert identity(own) == ""
        other.communicate(b"\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells that a process has ended")
def test_a_process_that_nobody_waited_for_is_gone(writer: RunWriter) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    files.write_json(writer.path / files.INFO, replace(INFO, pid=ended.pid).to_json())
    assert Run(writer.path).status == "lost"
    ended.wait()


def test_runs_are_found_however_deep(writer: RunWriter, tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "runs" / "study" / "a" / "second", CONFIG, INFO)
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    assert [run.name for run in find_runs(tmp_path / "runs")] == ["first", "second"]
    assert [run.name for run in find_runs(writer.path)] == ["first"]
    with pytest.raises(RunError, match="not a folder"):
        find_runs(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (files.INFO, "{", "not valid JSON"),
        (files.INFO, "[]", "holds no table"),
        (files.INFO, json.dumps({"format_version": 99}), "install a newer one"),
        (files.INFO, json.dumps({"format_version": 1, "layers": []}), "incomplete or damaged"),
        (files.INFO, json.dumps({"status": "x"}), "no format_version"),
        (files.INFO, json.dumps({**asdict(INFO), "status": "<img>"}), "damaged .status: "),
        (files.INFO, json.dumps({**asdict(INFO), "epochs_planned": "<img>"}), "damaged .epochs_planned: "),
        (files.PRUNINGS, json.dumps({**asdict(PRUNING), "reference": "<img>"}) + "\n", "damaged .reference: "),
        (files.EPOCHS, "", "no header"),
        (files.PRUNINGS, "nonsense\n", "damaged"),
        (files.CONFIG, "a: [", "not valid YAML"),
    ],
    # What stands in the files, such as the number of this process, is no part of a test's name.
    ids=lambda text: text[:20],
)
def test_damage_is_said_in_a_sentence(writer: RunWriter, name: str, content: str, sentence: str) -> None:
    (writer.path / name).write_text(content)
    run = Run(writer.path)
    with pytest.raises(Exception, match=sentence) as error:
        _ = (run.info, run.config, run.epochs(), run.prunings())
    assert "\n" not in str(error.value)
    assert type(error.value).__module__ == "sauron_train.errors"


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no run\.json"):
        Run(tmp_path)


def test_names_cannot_leave_the_folder() -> None:
    for name in ("../up", "a/b", ".hidden", ""):
        with pytest.raises(RunError, match="cannot be used as a file name"):
            files.maps_file(1, name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_was_left_of_a_folder_whose_maker_was_killed_is_swept(tmp_path: Path) -> None:
    names = (".second.abcd1234", ".second.abcd5678", ".other.abcd1234", ".second.somebody")
    old, young, other, foreign = (tmp_path / name for name in names)
    for path in (old, young, other, foreign):
        (path / "run").mkdir(parents=True)
    (foreign / "thesis.tex").write_text("")
    for path in (old, other, foreign):
        os.utime(path, (1e9, 1e9))
    RunWriter.create(tmp_path / "second", CONFIG, INFO)
    assert [path.exists() for path in (old, young, other, foreign)] == [False, True, True, True]


@pytest.mark.parametrize("at", range(3))
def test_a_folder_whose_making_fails_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    left, flush = iter(range(at, -1, -1)), os.fsync

    def full(handle: int) -> None:
        if not next(left, 0):
            raise OSError(28, "No space left on device")
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot be made: No space left"):
        RunWriter.create(tmp_path / "runs" / "first", CONFIG, INFO)
    assert list((tmp_path / "runs").iterdir()) == []


def symmetric(values: np.ndarray) -> np.ndarray:
    both = values + values.swapaxes(-1, -2)
    both[..., np.arange(values.shape[-1]), np.arange(values.shape[-1])] = 0
    return both


def test_how_maps_lie_to_each_other_is_kept_for_every_epoch(writer: RunWriter) -> None:
    layers = {
        name: LayerDistances(
            filters=np.array([0, 2, 5], dtype=np.int32),
            nearest=np.array([2, 0, -1], dtype=np.int32),
            nearest_distance=np.array([0.1, 0.1, np.nan], dtype=np.float32),
            reference_distance=np.array([0, 0.1, 0.4], dtype=np.float32),
            histogram=np.arange(200, dtype=np.float32),
        )
        for name in ("enc_conv_1", "dec_trans_1")
    }
    writer.write_distances(1, layers)
    run = Run(writer.path)
    assert run.distance_epochs() == []
    commit(writer, 1)
    assert run.distance_epochs() == [1]
    stored = run.distances(1)
    assert stored.keys() == layers.keys()
    np.testing.assert_array_equal(stored["dec_trans_1"].nearest_distance, layers["dec_trans_1"].nearest_distance)
    with pytest.raises(RunError, match="is not there"):
        run.distances(2)

"""`sauron-train check`: damage of any file is found, and what can be mended is, without losing what can be read."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_run import CONFIG, INFO, LAYERS, entries, small_run
from typer.testing import CliRunner

from sauron_train.cli import app
from sauron_train.errors import RunError
from sauron_train.runlog import Run, RunWriter, files
from sauron_train.runlog.check import TABLES, check
from sauron_train.runlog.files import write_json
from sauron_train.runlog.ledger import CHECKSUMS
from sauron_train.runlog.repair import repair


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path / "first")


def everything(run: Run) -> list[Path]:
    """All files that a checksum stands for."""
    arrays = [p for p in run.path.rglob("*") if p.suffix == ".safetensors" and files.DAMAGED not in p.parts]
    return sorted([*arrays, *(run.path / name for name in TABLES)])


def read_all(run: Run) -> None:
    """Whatever views read."""
    run.epochs(), run.layers(), run.prunings()
    for epoch in run.map_epochs():
        for layer in run.map_layers(epoch):
            assert np.isfinite(run.maps(epoch, layer).image(0)).all()
    for epoch in run.distance_epochs():
        run.distances(epoch)


def test_a_whole_run_is_whole(run: Run) -> None:
    found = check(run)
    assert (found.findings, found.epochs) == ([], 3)
    assert found.files == found.listed == len(everything(run))


def test_checksums_are_those_of_any_tool(run: Run) -> None:
    last = {str(entry["file"]): entry for entry in entries(run)}
    for path in everything(run):
        entry = last[path.relative_to(run.path).as_posix()]
        content = path.read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("how", ["flip", "shorten", "lengthen", "empty"])
def test_damage_of_any_file_is_found(tmp_path: Path, how: str) -> None:
    rng = np.random.default_rng(1)
    pristine = small_run(tmp_path / "first")
    for path in everything(pristine):
        content = path.read_bytes()
        spoilt = bytearray(content)
        if how == "flip":
            spoilt[rng.integers(len(spoilt))] ^= 1 << int(rng.integers(8))
        elif how == "shorten":
            del spoilt[int(rng.integers(1, len(spoilt))) :]
        elif how == "lengthen" and path.suffix == ".safetensors":
            spoilt += b"more"
        elif how == "empty":
            spoilt.clear()
        else:
            continue  # a longer table is one that has grown
        path.write_bytes(spoilt)
        found = check(pristine)
        assert path.relative_to(pristine.path).as_posix() in {finding.file for finding in found.lost}, path
        path.write_bytes(content)
    assert check(pristine).findings == []


def test_a_file_that_is_gone_is_missed(tmp_path: Path) -> None:
    pristine = small_run(tmp_path / "first")
    needed = [p for p in everything(pristine) if p.parent.name != files.CHECKPOINTS or p.stem == "epoch_0003"]
    for path in needed:
        content = path.read_bytes()
        path.unlink()
        lost = {finding.file: finding.kind for finding in check(pristine).lost}
        assert lost.get(path.relative_to(pristine.path).as_posix()) == "missing", path
        path.write_bytes(content)


def test_damaged_arrays_are_put_aside_and_the_rest_can_be_read(run: Run) -> None:
    path = run.path / files.maps_file(2, "enc_conv_1")
    path.write_bytes(path.read_bytes()[:200])
    found = repair(run)
    assert [finding.file for finding in found.lost] == [files.maps_file(2, "enc_conv_1")]
    assert (run.path / files.DAMAGED / files.maps_file(2, "enc_conv_1")).stat().st_size == 200
    assert run.map_layers(2) == ["dec_trans_1"]
    read_all(run)
    assert [finding.kind for finding in check(run).findings] == ["missing"]


@pytest.mark.parametrize("rest", [b"4,0.5,", b"garbage\n", b"4,0.5\n"])
def test_a_torn_last_epoch_is_dropped(run: Run, rest: bytes) -> None:
    before = (run.path / files.EPOCHS).read_bytes()
    (run.path / files.EPOCHS).write_bytes(before + rest)
    assert check(run).findings
    repair(run)
    assert (run.path / files.EPOCHS).read_bytes() == before
    assert check(run).findings == []
    read_all(run)


def test_a_row_of_a_finished_run_that_is_damaged_stays_with_all_that_belongs_to_it(run: Run) -> None:
    for name, before, after in ((files.LAYERS, b",4,", b",x,"), (files.EPOCHS, b"3,", b"3x,")):
        content = (run.path / name).read_bytes()
        *lines, last = content.splitlines(keepends=True)
        assert before in last
        (run.path / name).write_bytes(b"".join([*lines, last.replace(before, after, 1)]))
        contents = {path: path.read_bytes() for path in everything(run)}
        assert check(run).lost
        repair(run)
        assert {path: path.read_bytes() for path in everything(run)} == contents
        assert name in [finding.file for finding in check(run).lost], "it is told of again"
        (run.path / name).write_bytes(content)
    assert check(run).findings == []


def test_a_table_that_contradicts_what_is_as_it_was_written_is_the_one_to_blame(run: Run) -> None:
    lines = (run.path / files.LAYERS).read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b",4,", b",5,", 1)
    (run.path / files.LAYERS).write_bytes(b"".join(lines))
    contents = {path: path.read_bytes() for path in everything(run)}
    assert {finding.file for finding in check(run).lost} == {files.LAYERS}
    repair(run)
    assert {path: path.read_bytes() for path in everything(run)} == contents


def test_what_is_gone_is_told_of_after_a_repair_too(run: Run) -> None:
    shutil.rmtree(run.maps_folder(3))
    before = check(run).lost
    assert before
    repair(run)
    assert check(run).lost == before


def test_a_repair_that_was_cut_off_is_gone_on_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run.path / files.EPOCHS).read_bytes()
    write, writes = files.write_atomically, []

    def cut_off(at: int, path: Path, content: bytes) -> object:
        writes.append(path)
        if len(writes) == at:
            raise OSError(5, "the power failed")
        return write(path, content)

    for place in range(1, 6):
        (run.path / files.EPOCHS).write_bytes(before + b"garbage\n")
        writes.clear()
        with monkeypatch.context() as patched:
            patched.setattr(files, "write_atomically", partial(cut_off, place))
            with pytest.raises(RunError, match="cannot be mended"):
                repair(run)
        repair(run)
        assert (run.path / files.EPOCHS).read_bytes() == before
        assert check(run).findings == []


def test_an_epoch_whose_layers_are_not_all_there_is_dropped(tmp_path: Path) -> None:
    """Where training makes it again."""
    run = small_run(tmp_path / "first", status="stopped")
    torch.save({}, run.path / files.resume_file(2))
    lines = (run.path / files.LAYERS).read_bytes().splitlines(keepends=True)
    (run.path / files.LAYERS).write_bytes(b"".join(lines[:-1]))
    assert "epoch 3 has not one row for each of the 2 layers" in [finding.what for finding in check(run).lost]
    repair(run)
    assert run.last_epoch == 2
    assert set(run.layers()["epoch"]) == {1, 2}
    assert [record.epoch for record in run.prunings()] == [1, 2]
    assert check(run).lost == []
    assert (run.path / files.checkpoint_file(3)).is_file(), "nothing that can be read is taken away"


def test_damage_in_the_middle_of_a_table_is_told_and_left(run: Run) -> None:
    lines = (run.path / files.LAYERS).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b",4,", b",x,", 1)
    (run.path / files.LAYERS).write_bytes(b"".join(lines))
    repair(run)
    assert (run.path / files.LAYERS).read_bytes() == b"".join(lines)
    assert files.LAYERS in [finding.file for finding in check(run).lost], "its checksum is still that of what it was"


def test_what_a_write_left_is_swept(run: Run) -> None:
    left = run.path / files.CHECKPOINTS / ".epoch_0003.safetensors.abcd1234"
    left.write_bytes(b"half")
    aside = run.path / ".revision.abcd1234"
    aside.mkdir()
    assert {finding.kind for finding in check(run).findings} == {"left over"}
    repair(run)
    assert not left.exists()
    assert not aside.exists()


@pytest.mark.parametrize("spoil", ["gone", "line"])
def test_the_list_of_checksums_is_made_again(run: Run, spoil: str) -> None:
    before = sorted(map(str, entries(run)[-4:]))
    if spoil == "gone":
        (run.path / CHECKSUMS).unlink()
    else:
        lines = (run.path / CHECKSUMS).read_bytes().splitlines(keepends=True)
        (run.path / CHECKSUMS).write_bytes(b"".join([lines[0], b'{"epoch": 1}\n', *lines[2:]]))
    assert check(run).findings
    repair(run)
    assert check(run).findings == []
    assert set(before) <= set(map(str, entries(run)))


def test_tables_that_contradict_weights_are_found(run: Run) -> None:
    (run.path / CHECKSUMS).unlink()
    other = run.path / files.checkpoint_file(1)
    os.replace(run.path / files.checkpoint_file(2), other)
    found = {finding.file: finding for finding in check(run).lost}
    assert found[files.checkpoint_file(1)].what == "it has 2 filters of enc_conv_1, but layers.csv has 3"


def test_a_stopped_run_without_its_state_is_told_of(tmp_path: Path) -> None:
    stopped = small_run(tmp_path / "first", status="stopped")
    assert [finding.file for finding in check(stopped).lost] == [files.resume_file(3)]


def test_a_run_that_trains_is_looked_at_but_not_mended(tmp_path: Path) -> None:
    training = small_run(tmp_path / "first", status="running")
    (training.path / ".run.json.abcd1234").write_text("{")
    assert [finding.kind for finding in check(training).findings] == ["missing"], "only the state, which the test lacks"
    with pytest.raises(RunError, match="is training; repair it when it has ended"):
        repair(training)
    assert (training.path / ".run.json.abcd1234").exists()


def test_a_run_before_its_first_epoch(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "first", CONFIG, INFO)
    probe = writer.path / "maps" / "probe.safetensors"
    probe.parent.mkdir(exist_ok=True)
    save_file({"image": torch.zeros(1)}, probe)
    writer.finish("stopped")
    assert check(Run(writer.path)).findings == [], "nothing is listed before the first epoch"
    repair(Run(writer.path))
    assert Run(writer.path).last_epoch == 0


def test_the_command_tells_and_answers_by_its_exit_code(run: Run, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert told.exit_code == 0
    assert "first: whole, finished, 3 epochs" in told.output
    path = run.path / files.maps_file(2, LAYERS[0])
    path.write_bytes(b"")
    told = CliRunner().invoke(app, ["check", str(run.path)])
    assert told.exit_code == 1
    assert "1 file is not whole" in told.output
    assert f"  damaged: {files.maps_file(2, LAYERS[0])}: it has 0 bytes" in told.output, "one line, whatever its width"
    told = CliRunner().invoke(app, ["check", "--repair", str(run.path)])
    assert "what is damaged lies in" in told.output
    write_json(run.path / files.INFO, replace(run.info, status="stopped", epochs_planned=8).to_json())
    assert "stopped, 3 of 8 epochs" in CliRunner().invoke(app, ["check", str(run.path)]).output
    (run.path / files.INFO).write_text("{")
    told = CliRunner().invoke(app, ["check", str(run.path)])
    assert told.exit_code == 1
    assert "is damaged: it is not valid JSON" in told.output.replace("\n", "")


def test_a_damaged_run_does_not_keep_others_from_being_compared(run: Run, tmp_path: Path) -> None:
    damaged = small_run(tmp_path / "other")
    (damaged.path / files.CONFIG).write_text("epochs: [")
    told = CliRunner().invoke(app, ["compare", str(run.path), str(damaged.path)])
    assert told.exit_code == 1
    assert "Heads, validation cases" in told.output
    assert "other is left out: " in told.output
    told = CliRunner().invoke(app, ["compare", str(run.path), str(tmp_path / "nowhere")])
    assert told.exit_code == 1
    assert "nowhere is not there; give a run folder" in " ".join(told.output.split())


def test_weights_that_were_put_aside_are_told_of_again(run: Run) -> None:
    name = files.checkpoint_file(2)
    (run.path / name).write_bytes(b"")
    repair(run)
    (again,) = check(run).findings
    assert (again.kind, again.file) == ("missing", name)
    assert again.what == f"it was damaged, and lies in {files.DAMAGED}"


@pytest.mark.parametrize("name", [files.EPOCHS, files.LAYERS])
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: text[: len(text) // 2] + b"\r" + text[len(text) // 2 + 1 :],
        lambda text: text + b"a\rb\n",
        lambda text: text + b"x" * 200_000 + b"\n",
        lambda _text: bytes(range(256)) * 8 + b"\n",
    ],
    ids=["one byte", "a line", "a long line", "other bytes"],
)
def test_tables_with_anything_in_them(run: Run, name: str, spoilt: Callable[[bytes], bytes]) -> None:
    path = run.path / name
    path.write_bytes(spoilt(path.read_bytes()))
    assert name in {finding.file for finding in check(run).lost}
    repair(run)

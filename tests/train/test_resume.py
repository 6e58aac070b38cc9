"""A run that was interrupted and went on is the run that was not, to the last bit."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from resuming import EPOCHS, TINY, Stopper, assert_same, contents, tiny

from sauron_train import interruption
from sauron_train.analysis.widths import widths_below
from sauron_train.checkpoint import load_state, save_state
from sauron_train.cli import main
from sauron_train.config import Config, parse
from sauron_train.data.phantom import make_phantom
from sauron_train.errors import RunError, SauronError
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.progress import Observer
from sauron_train.resume import resume
from sauron_train.runlog import EpochRow, Run, files
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.ledger import CHECKSUMS
from sauron_train.runlog.process import identity
from sauron_train.trainer import Trainer

PROGRAM = [sys.executable, "-c", "from sauron_train.cli import main; main()"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=6, seed=1, size=(40, 40, 6))


@pytest.fixture(scope="module")
def begin(phantom: Path) -> Callable[..., Run]:
    """Trains a new run until an observer stops it, if one does."""

    def begun(out: Path, config: Config, observer: Observer | None = None) -> Run:
        trainer = Trainer(Experiment.prepare(config, phantom), out, observer)
        if observer is None:
            trainer.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
        return Run(out)

    return begun


@pytest.fixture(scope="module")
def whole(begin: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return begin(tmp_path_factory.mktemp("whole") / "run", tiny())


@pytest.fixture(scope="module")
def halves(begin: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return begin(tmp_path_factory.mktemp("halves") / "run", tiny(), Stopper(4, "step"))


@pytest.fixture
def half(halves: Run, tmp_path: Path) -> Run:
    """A run of three epochs that was stopped in its fourth, and may be changed."""
    return Run(Path(shutil.copytree(halves.path, tmp_path / "half")))


def cut_in(run: Run) -> set[int]:
    return {pruning.epoch for pruning in run.prunings()}


def test_widths_stay_multiples_also_when_a_run_goes_on(begin: Callable[..., Run], tmp_path: Path) -> None:
    settings = tiny("epochs=3", "network.init_filters=10", "network.levels=2", "prune.width_multiple=4")
    run = begin(tmp_path / "run", settings, Stopper(3, "step"))
    before = run.prunings()
    resume(run)
    assert_same(run, begin(tmp_path / "whole", settings))
    assert cut_in(run) > {cut.epoch for cut in before}, "it cut before and after"
    begun, allowed = {layer.name: layer.filters for layer in run.info.layers}, widths_below(20, 4)
    assert set(begun.values()) == {10, 20}
    rows, cuts = run.layers(), run.prunings()
    assert any(cut.filters_before == 10 for cut in cuts)
    assert all(width in (begun[name], *allowed) for name, width in zip(rows["layer"], rows["filters"], strict=True))
    assert all(cut.filters_after in allowed for cut in cuts)
    assert all(gone.delta_prune < cut.threshold for cut in cuts for gone in cut.removed)


@pytest.mark.parametrize("moment", ["step", "validating", "measuring redundancy", "end"])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    begin: Callable[..., Run], whole: Run, tmp_path: Path, moment: str
) -> None:
    run = begin(tmp_path / "run", tiny(), Stopper(3, moment))
    assert run.status == "stopped"
    begun = run.info
    last = run.last_epoch
    assert last == (3 if moment == "end" else 2)
    heard: list[int] = []

    class Heard(Observer):
        def epoch(self, row: EpochRow) -> None:
            heard.append(row.epoch)

    resume(run, observer=Heard())
    assert heard == list(range(last + 1, EPOCHS + 1)), "what was done is not done again"
    assert cut_in(run) & set(range(1, last + 1)), "something was cut before"
    assert cut_in(run) & set(range(last + 1, EPOCHS + 1)), "something was cut after"
    assert_same(run, whole)
    assert run.info == replace(begun, status="finished", message="", ended=run.info.ended)


def test_a_run_without_an_epoch_begins_again(begin: Callable[..., Run], whole: Run, tmp_path: Path) -> None:
    run = begin(tmp_path / "run", tiny(), Stopper(1, "measuring redundancy"))
    assert (run.status, run.last_epoch) == ("stopped", 0)
    resume(run)
    assert_same(run, whole)


def test_a_run_of_an_earlier_version_goes_on(half: Run, whole: Run) -> None:
    run = half
    state = load_state(run.path, run.last_epoch)
    for section, key in (("data", "folds"), ("data", "fold"), ("hardware", "devices")):
        del state["config"][section][key]
    del state["config"]["rival"]
    save_state(run.path, run.last_epoch, state)
    lines = (run.path / CHECKSUMS).read_text().splitlines(keepends=True)
    (run.path / CHECKSUMS).write_text("".join(line for line in lines if files.resume_file(run.last_epoch) not in line))
    resume(run)
    assert_same(run, whole)


def test_a_run_with_a_damaged_table_goes_on_when_asked_to(half: Run) -> None:
    with_another_number(half)
    resume(half, force=True)
    assert (half.status, half.last_epoch) == ("finished", EPOCHS)


@pytest.mark.soak
@pytest.mark.parametrize(
    "changes",
    [
        ["network.norm=batch", "optimizer.name=sgd", "optimizer.lr=0.01", "loss.reference=random"],
        ["preset=paper", "prune.threshold_start=0.6", "prune.threshold_max=0.9", "optimizer.amsgrad=true"],
    ],
    ids=["batch norm, SGD", "as published"],
)
def test_it_may_be_interrupted_again_and_again(
    begin: Callable[..., Run], tmp_path: Path, changes: Sequence[str]
) -> None:
    config = tiny(*changes)
    expected = begin(tmp_path / "whole", config)
    run = begin(tmp_path / "run", config, Stopper(2, "end"))
    for epoch, moment in ((3, "step"), (3, "validating"), (5, "end"), (EPOCHS, "end")):
        with pytest.raises(KeyboardInterrupt):
            resume(run, observer=Stopper(epoch, moment))
        assert run.status == "stopped"
    resume(run)  # all epochs are there; it only was not said that it is finished
    assert max(cut_in(run)) > 2
    assert_same(run, expected)


def test_a_full_disk_between_the_state_and_the_commit_leaves_the_state_of_the_epoch_before(
    begin: Callable[..., Run], whole: Run, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(Experiment.prepare(tiny(), phantom), tmp_path / "run")
    append, committed = files.append, []

    def full(path: Path, text: str) -> None:
        if path.name == files.EPOCHS:
            committed.append(path)
            if len(committed) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        append(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(files, "append", full)
        with pytest.raises(RunError, match="cannot be written: No space left on device"):
            trainer.run()
    run = Run(tmp_path / "run")
    assert (run.status, run.last_epoch) == ("failed", 2)
    assert {p.name for p in (run.path / files.CHECKPOINTS).glob("*.pt")} == {"resume_0002.pt", "resume_0003.pt"}
    (run.path / files.CHECKPOINTS / ".resume_0003.pt.ab12cd_9").write_bytes(b"half a file")
    resume(run)
    assert_same(run, whole)


def test_runs_are_killed_stopped_and_gone_on_with_from_the_command_line(
    phantom: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my run"
    # The sums of a convolution hang on the number of threads.
    surroundings = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}

    def train(*words: str, until: str, ending: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
        with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, text=True, env=surroundings) as process:
            assert process.stdout is not None
            assert any(line.split()[:1] == [until] for line in iter(process.stdout.readline, ""))
            ending(process)
            rest = process.stdout.read()
        return process.returncode, rest

    changes = [f"--set={change}" for change in TINY]
    words = ["run", "--recipe", "phantom2d", "--data", str(phantom), "--out", str(out), *changes]
    train(*words, until="2", ending=lambda process: process.kill())
    run = Run(out)
    assert run.status == "lost"
    code, rest = train("resume", str(out), until=str(run.last_epoch + 1), ending=lambda process: process.terminate())
    assert code == 143
    assert f"Go on with: sauron-train resume '{out}'" in rest
    assert (run.status, run.info.message) == ("stopped", interruption.BY_SIGTERM)
    assert 2 < run.last_epoch < EPOCHS
    monkeypatch.setattr(sys, "argv", ["sauron-train", "resume", str(out)])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    said = " ".join(capsys.readouterr().out.split())
    assert f"of {EPOCHS} epochs are done; going on" in said
    assert "of the FLOPs are left" in said
    assert_same(run, whole)
    assert [p.name for p in out.rglob("*.pt")] == [f"resume_{EPOCHS:04d}.pt"], "a finished run can be extended"


def extended(run: Run, out: Path, observer: Observer | None = None, epochs: int = 4) -> Run:
    copy = Run(Path(shutil.copytree(run.path, out)))
    if observer is None:
        resume(copy, extend=epochs)
    else:
        with pytest.raises(KeyboardInterrupt):
            resume(copy, observer=observer, extend=epochs)
    return copy


def test_a_finished_run_is_given_more_epochs_by_the_rule_of_its_schedule(whole: Run, tmp_path: Path) -> None:
    longer = extended(whole, tmp_path / "longer")
    assert (longer.status, longer.last_epoch, longer.config.epochs) == ("finished", EPOCHS + 4, EPOCHS + 4)
    assert (longer.info.epochs_planned, longer.info.extended) == (EPOCHS + 4, (EPOCHS,))
    optimizer = whole.config.optimizer
    rates = longer.epochs()["lr"].to_numpy()
    for epochs, planned in ((range(1, EPOCHS + 1), EPOCHS), (range(EPOCHS + 1, EPOCHS + 5), EPOCHS + 4)):
        for epoch in epochs:
            due = optimizer.lr * (1 - (epoch - 1) / planned) ** optimizer.power
            assert rates[epoch - 1] == pytest.approx(due, rel=1e-6)
    assert longer.checkpoints().keys() >= whole.checkpoints().keys(), "what was kept stays"
    before = longer.layers()[lambda table: table["epoch"] <= EPOCHS]
    pd.testing.assert_frame_equal(before, whole.layers(), check_dtype=False)


@pytest.mark.parametrize(("epoch", "moment"), [(EPOCHS + 1, "step"), (EPOCHS + 3, "validating")])
def test_an_extension_that_was_interrupted_goes_on_as_if_it_had_not_been(
    whole: Run, tmp_path: Path, epoch: int, moment: str
) -> None:
    longer = extended(whole, tmp_path / "longer")
    stopped = extended(whole, tmp_path / "stopped", Stopper(epoch, moment))
    assert stopped.status == "stopped"
    with pytest.raises(SauronError, match="has not finished its 12 epochs; resume it first, without --extend"):
        resume(stopped, extend=4)
    resume(stopped)
    assert_same(stopped, longer)


def test_a_run_that_kept_nothing_to_go_on_from_is_not_extended(whole: Run, tmp_path: Path) -> None:
    old = Run(Path(shutil.copytree(whole.path, tmp_path / "old")))
    state_file(old).unlink()
    before = contents(old.path)
    with pytest.raises(SauronError, match=r"did not keep what it takes to go on \(checkpoints/resume_0008\.pt\)"):
        resume(old, extend=4)
    assert contents(old.path) == before


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate("\n")


def changed(run: Run, **values: Any) -> None:
    files.write_json(run.path / files.INFO, replace(run.info, **values).to_json())


def state_file(run: Run) -> Path:
    return run.path / files.resume_file(run.last_epoch)


def shortened(run: Run) -> None:
    state_file(run).write_bytes(state_file(run).read_bytes()[:-99])


def unlisted(spoil: Callable[[Run], None]) -> Callable[[Run], None]:
    """In a run of a version that listed no checksums."""

    def change(run: Run) -> None:
        spoil(run)
        (run.path / CHECKSUMS).unlink()

    return change


def with_another_number(run: Run) -> None:
    content = (run.path / files.LAYERS).read_bytes()
    at = content.index(b"\n1,") + len(b"\n1,enc_conv_1,")
    (run.path / files.LAYERS).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def of_another_epoch(run: Run) -> None:
    state = load_state(run.path, run.last_epoch)
    save_state(run.path, 7, state | {"epoch": 7})
    (run.path / files.resume_file(7)).rename(state_file(run))


def of_another_network(run: Run) -> None:
    state = load_state(run.path, run.last_epoch)
    save_state(run.path, run.last_epoch, state | {"model": {}})


def with_key(key: str) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        config = with_overrides(run.config.model_dump(by_alias=True, mode="json"), [key])
        (run.path / files.CONFIG).write_text(parse(config).to_yaml())

    return change


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: changed(run, status="finished"), "is finished, so there is nothing left to train"),
        (lambda run: changed(run, status="running", host="elsewhere"), "training on elsewhere, which cannot be asked"),
        (lambda run: changed(run, data_root="/no/such/folder"), "is not in /no/such/folder any more; say with --data"),
        (lambda run: changed(run, fingerprint="0"), "is not the data set that run half was trained on"),
        (lambda run: state_file(run).unlink(), r"resume_0003\.pt is not there, so this run cannot go on"),
        (shortened, r"resume_0003\.pt is not what was written at epoch 3"),
        (unlisted(shortened), r"resume_0003\.pt cannot be"),
        (with_another_number, r"layers\.csv is not what it was at epoch 3 .* go on with it as it is with --force"),
        (unlisted(of_another_epoch), r"resume_0003\.pt belongs to epoch 7"),
        (unlisted(of_another_network), "left to go on from does not fit it"),
        (with_key("data.batch_size=3"), r"data\.batch_size in config\.yaml of run half is not what it was"),
        (with_key("epochs=9"), "epochs in config.yaml"),
        (lambda run: changed(run, train_cases=()), "splits the cases of run half otherwise"),
    ],
)
def test_what_cannot_go_on_is_said_and_left_as_it_is(half: Run, spoil: Callable[[Run], None], sentence: str) -> None:
    spoil(half)
    before = {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()}
    with pytest.raises(SauronError, match=sentence) as error:
        resume(half)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()} == before


def test_a_run_is_trained_by_one_process(half: Run, other_process: subprocess.Popen[str]) -> None:
    pid = other_process.pid
    changed(half, status="running", pid=pid, process_identity="what had this number before")
    assert half.status == "lost"
    changed(half, status="running", pid=pid, process_identity=identity(pid))
    with pytest.raises(SauronError, match=f"training now, as process {pid}; stop it first"):
        resume(half)
    code = "import sys; from pathlib import Path; from sauron_train.cli import main; main()"
    with claimed(half.path):
        done = subprocess.run(
            [sys.executable, "-c", code, "resume", str(half.path), "--force"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "error: another process is writing run half now; wait until it is done, or stop it\n"
    resume(half, force=True)
    assert half.status == "finished"
    assert half.info.pid == os.getpid()


def test_a_data_set_may_have_moved(half: Run, whole: Run, phantom: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(phantom, tmp_path / "moved"))
    changed(half, data_root="/no/such/folder")
    resume(half, data=moved)
    assert half.info.data_root == str(moved)
    assert json.loads((half.path / files.INFO).read_text())["created"] == half.info.created
    assert_same(half, whole)


def test_more_workers_and_another_radius_may_be_set_meanwhile(half: Run) -> None:
    with_key("data.workers=1")(half)
    with_key("probe.radius=0.2")(half)
    resume(half)
    assert half.status == "finished"

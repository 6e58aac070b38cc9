"""The processes of trainings that a view starts: followed, stopped, resumed, and told from others."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from jobbing import TINY, until

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_json
from sauron_train.runlog.process import identity
from sauron_viz.runs import Library
from sauron_viz.training.jobs import FOLDER, Jobs, Record
from sauron_viz.training.processes import end, launch, plain
from sauron_viz.training.progress import Follower, Progress, Tail
from sauron_viz.widgets.jobs import job_entry


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        if process.poll() is None:
            process.communicate("\n")


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tail = Tail(path, first=20)
    assert tail.read() == []
    path.write_text("one\ntw")
    assert tail.read() == ["one"]
    assert tail.read() == []
    with path.open("a") as file:
        file.write("o\nthree\n\nfour")
    assert tail.read() == ["two", "three", ""]
    path.unlink()
    path.write_text("again\n")
    assert tail.read() == ["again"], "a file that was begun anew is read anew"
    path.write_text("x" * 50 + "\nlast but one\nlast\n")
    assert Tail(path, first=20).read() == ["last but one", "last"]


def test_progress_follows_the_events(tmp_path: Path) -> None:
    path = tmp_path / "events"
    follower = Follower(path)

    def heard(*events: Any) -> Progress:
        with path.open("a") as file:
            file.writelines(f"{event if isinstance(event, str) else json.dumps(event)}\n" for event in events)
        return follower.read()

    assert follower.read() == Progress()
    now = heard({"event": "asked"}, {"event": "loading", "done": 3, "total": 8})
    assert (now.phase, now.step, now.steps, now.share, now.left_s) == ("reading cases", 3, 8, None, None)
    now = heard({"event": "begun", "epochs": 4, "done": 0, "dataset": "x", "device": "cpu"})
    assert (now.epoch, now.share, now.device) == (1, 0.0, "cpu")
    now = heard({"event": "step", "epoch": 1, "epochs": 4, "done": 5, "total": 10, "loss": 1.5})
    assert (now.share, now.loss, now.left_s) == (0.125, 1.5, None)
    now = heard({"event": "stage", "epoch": 1, "epochs": 4, "what": "validating"})
    assert (now.phase, now.share) == ("validating", 0.25)
    epoch = {"epochs": 4, "loss": 1.2, "val_loss": 1, "dice": None, "filters": 9, "removed": 0, "flops": 0.5}
    now = heard({"event": "epoch", "epoch": 1, "seconds": 10.0, **epoch})
    assert (now.done, now.share, now.left_s, now.dice) == (1, 0.25, 30.0, None)
    same = heard(
        "not json", "[]", {"event": "step"}, {"no": 1}, {"event": "step", "epoch": "x", "epochs": [], "loss": 1}
    )
    assert same == now
    now = heard({"event": "ended", "how": "stopped", "why": ""})
    assert now.ended == "stopped"
    now = heard({"event": "asked"})
    assert (now.phase, now.ended, now.share) == ("starting", "", 0.25)
    late = Follower(path)
    assert late.read() == now, "who comes later sees the same"


def test_a_number_means_one_process(sleeper: subprocess.Popen[str]) -> None:
    who = identity(sleeper.pid)
    assert who
    assert who == identity(sleeper.pid) != identity(os.getpid())
    assert identity(0) == identity(-5) == ""
    assert not end(1, identity(1)), "the first process of a machine is left alone"
    # Its number belongs to another process by now, whose own must not be ended by it.
    assert end(sleeper.pid, identity(os.getpid())) is False
    assert end(sleeper.pid, "") is False
    assert sleeper.poll() is None
    sleeper.terminate()
    until(lambda: not identity(sleeper.pid), "a zombie counts as gone")
    assert sleeper.returncode is None, "nobody had asked for it"
    assert end(sleeper.pid, who) is False


def test_a_process_has_a_session_of_its_own_and_is_ended_with_all_it_started(tmp_path: Path) -> None:
    inner_code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    code = f"{inner_code}; print('on', flush=True); time.sleep(600)"
    out = tmp_path / "out"
    pid = launch([sys.executable, "-c", code], out, tmp_path / "err")
    until(lambda: "on" in out.read_text(), "the child runs")
    assert os.getsid(pid) == pid != os.getsid(0)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    inner = [int(number) for number in children.read_text().split()] if children.exists() else []
    assert end(pid, identity(pid), at_once=True)
    until(lambda: not identity(pid) and not any(map(identity, inner)), "both are gone")


def test_training_does_not_run_with_the_settings_of_kernels() -> None:
    kept = plain(
        {"MALLOC_TRIM_THRESHOLD_": str(2**18), "MALLOC_MMAP_THRESHOLD_": "7", "FORCE_COLOR": "1", "HOME": "/x"}
    )
    assert kept == {"MALLOC_MMAP_THRESHOLD_": "7", "HOME": "/x", "NO_COLOR": "1"}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "/tmp/x", ".hidden", FOLDER, "a b", "a\nb", "x" * 101, "ü", "<img>"],
)
def test_names_that_no_run_may_have(jobs: Jobs, data: Path, name: str) -> None:
    with pytest.raises(SauronError) as error:
        jobs.start(name, "phantom2d", data / "phantom")
    assert "\n" not in str(error.value)
    assert list(jobs.root.iterdir()) == []


def test_records_that_were_tampered_with_are_not_believed(jobs: Jobs, sleeper: subprocess.Popen[str]) -> None:
    jobs.folder.mkdir()
    good = Record("good", ("run",), socket.gethostname(), sleeper.pid, "somebody else", "2024-01-01T00:00:00+00:00")
    for file, content in (
        ("good.json", asdict(good)),
        ("..%2Fup.json", asdict(replace(good, run="../up"))),
        (".json", asdict(replace(good, run="."))),
        ("other.json", asdict(replace(good, run="good2"))),
        ("pid.json", asdict(good) | {"run": "pid", "pid": "1; rm"}),
        ("list.json", []),
    ):
        write_json(jobs.folder / file, content)
    (jobs.folder / "half.json").write_text('{"run": "ha')
    assert [job.run for job in jobs.all()] == ["good"]
    job = jobs.all()[0]
    assert not job.alive, "the number is used again, by another process"
    job.stop(at_once=True)
    assert sleeper.poll() is None
    elsewhere = replace(good, host="elsewhere", run="far", who=identity(sleeper.pid))
    write_json(jobs.folder / "far.json", asdict(elsewhere))
    far = next(job for job in jobs.all() if job.run == "far")
    assert not far.alive
    with pytest.raises(SauronError, match="far trains on elsewhere; stop it there"):
        far.stop()
    assert job_entry(far, None, opened=False)["word"] == "training on another machine"


def test_a_run_of_a_terminal_says_why_it_cannot_be_stopped_from_here(runs: Path) -> None:
    line = Library(runs).summaries.of("bare")
    entry = job_entry(None, line, opened=False)
    assert (entry["word"], entry["wrong"]) == ("training", False)
    assert "press Ctrl-C where it runs" in entry["note"]
    assert "stop" not in [action[0] for action in entry["actions"]]


def test_a_training_is_stopped_found_by_others_and_resumed(jobs: Jobs, data: Path) -> None:
    job = jobs.start("first", "phantom2d", data / "phantom", [*TINY, "epochs=4000", "maps.every=2000"])
    assert os.getsid(job.record.pid) == job.record.pid
    for again in (lambda: jobs.start("first", "phantom2d", data / "phantom"), lambda: Jobs(jobs.root).resume("first")):
        with pytest.raises(SauronError):
            again()
    other = Jobs(jobs.root)
    found = other.of("first")
    assert found is not None
    assert found.alive
    until(lambda: found.progress().done >= 2, "two epochs, seen by another reader")
    assert found.progress().epochs == 4000
    found.stop()
    until(lambda: not job.alive, "it stops")
    assert job.progress().ended == "stopped"
    run = Run(jobs.root / "first")
    assert run.status == "stopped"
    assert jobs.of("first").record.stopping  # type: ignore[union-attr]
    with pytest.raises(SauronError, match="was stopped; go on with it: sauron-train resume"):
        job.result(jobs.root)
    with pytest.raises(SauronError, match="there is a run first already"):
        jobs.start("first", "phantom2d", data / "phantom")
    done = run.last_epoch
    resumed = Jobs(jobs.root).resume("first")
    assert not resumed.record.stopping
    seen = jobs.of("first")
    assert seen is not None
    assert seen.record.pid == resumed.record.pid
    until(lambda: seen.progress().done > done, "it goes on")
    os.kill(resumed.record.pid, signal.SIGKILL)
    until(lambda: not seen.alive, "it was killed")
    assert run.status == "lost"
    with pytest.raises(SauronError, match="ended without a word"):
        seen.result(jobs.root)
    log = seen.log.read_text()
    assert "sauron-train run --recipe=phantom2d" in log
    assert f"sauron-train resume {run.path}" in log
    assert "epochs are done; going on" in log


def test_a_training_that_fails_says_why_and_leaves_its_name(jobs: Jobs, data: Path) -> None:
    image = sorted((data / "phantom" / "imagesTr").iterdir())[0]
    image.write_bytes(image.read_bytes()[:-200])
    job = jobs.start("first", "phantom2d", data / "phantom", [*TINY, "epochs=2"])
    for _ in job.wait(0.05):
        pass
    with pytest.raises(SauronError, match=image.name):
        job.result(jobs.root)
    entry = job_entry(job, None, opened=False)
    assert (entry["status"], entry["wrong"]) == ("failed", True)
    assert image.name in entry["note"]
    assert [action[0] for action in entry["actions"]] == ["log"]
    assert not (jobs.root / "first").exists()
    assert jobs.free_name("first") == "first-2"
    again = jobs.start("first", "phantom2d", data / "phantom", [*TINY, "epochs=2"])
    assert again.progress().ended == "", "what the first one said is not said of the second"
    again.stop(at_once=True)
    until(lambda: not again.alive, "it is killed")
    entry = job_entry(again, None, opened=False)
    assert (entry["status"], entry["wrong"]) == ("stopped", False), "as it was asked to"

"""Runs as jobs, by the real submitit and its local executor: also one that is pre-empted while it trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small import epochs_of, small, trained_alike, until, words
from typer.testing import CliRunner

from sauron_train.cli import app
from sauron_train.errors import ConfigError
from sauron_train.experiment import Experiment
from sauron_train.runlog import Run
from sauron_train.study import cluster
from sauron_train.study.cluster import Cluster, Job, job_parameters
from sauron_train.study.work import Work
from sauron_train.trainer import Trainer

pytest.importorskip("submitit")
LONGER = "epochs=12"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds a job's process in /proc")
@pytest.mark.usefixtures("_same_threads")
@pytest.mark.soak
def test_a_job_that_is_preempted_requeues_and_resumes(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    begin = ("run", "--recipe", "phantom2d", "--data", str(phantom), "--out", str(out / "a_seed_0"), *words(LONGER))
    work = Work(out / "a_seed_0", begin, str(phantom), False, out / "logs" / "a_seed_0.log")
    handle = Cluster(out, "local", {}, None).start(work)
    controller = int(handle._job.job_id)  # type: ignore[attr-defined]
    until(lambda: epochs_of(work.folder) >= 1)
    # As Slurm does it: all processes of the job are asked to end, and then told that it is pre-empted.
    training, (task,) = Run(work.folder).info.pid, children(controller)
    assert training in children(task)
    for pid in (training, task):
        os.kill(pid, signal.SIGTERM)
    for pid in (task, training):
        os.kill(pid, signal.SIGUSR2)
    until(lambda: task not in children(controller))
    # Meanwhile another study that watches the same folder does not submit it a second time.
    other = Cluster(out, "local", {}, None).start(work)
    assert other._job.job_id == str(controller)  # type: ignore[attr-defined]
    assert not other.ended()
    until(handle.ended)
    assert handle.problem == ""
    log = work.log.read_text()
    assert log.count("$ sauron-train run") == 1
    assert log.count("$ sauron-train resume") == 1
    Trainer(Experiment.prepare(small(LONGER), phantom), tmp_path / "alone").run()
    assert trained_alike(Run(work.folder), Run(tmp_path / "alone"))
    assert not list(work.folder.rglob("*.pkl")), "no pickle lies in a run folder"
    assert list((out / "jobs").rglob("*.pkl"))
    until(Cluster(out, "local", {}, None).start(work).ended)
    assert work.log.read_text() == log, "a run that is finished is left as it is"


@pytest.mark.parametrize(("code", "waits"), [(143, True), (130, True), (2, False)])
def test_a_job_that_was_told_to_stop_waits_for_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, waits: bool
) -> None:
    waited: list[float] = []
    work = Work(tmp_path / "a", ("describe", "no_such_recipe"), "", False, tmp_path / "a.log")
    program = [sys.executable, "-c", f"raise SystemExit({code})"]
    monkeypatch.setattr(Work, "start", lambda *_: subprocess.Popen(program))
    monkeypatch.setattr(cluster.time, "sleep", waited.append)
    with pytest.raises(RuntimeError):
        Job(work, tmp_path / "record.json", "token")()
    assert (cluster._PREEMPTED_WITHIN_S in waited) == waits


def test_a_job_gives_up_where_another_was_submitted_since(tmp_path: Path) -> None:
    record = tmp_path / "jobs" / "a.json"
    work = Work(tmp_path / "a", ("describe", "no_such_recipe"), "", False, tmp_path / "a.log")
    record.parent.mkdir()
    # As a study leaves it that is killed between submitting and learning the job's number.
    record.write_text(json.dumps({"executor": "local", "token": "first"}))
    lost = Job(work, record, "first")
    handle = Cluster(tmp_path, "local", {}, 1).start(work)
    until(handle.ended)
    said = work.log.read_text()
    assert lost() == "given up"
    assert work.log.read_text() == said
    assert json.loads(record.read_text())["job"]


def test_a_number_that_is_another_process_now_is_no_job(tmp_path: Path) -> None:
    record = tmp_path / "jobs" / "a.json"
    work = Work(tmp_path / "a", ("describe", "no_such_recipe"), "", False, tmp_path / "a.log")
    record.parent.mkdir()
    record.write_text(json.dumps({"executor": "local", "token": "first", "job": str(os.getpid())}))
    handle = Cluster(tmp_path, "local", {}, 1).start(work)
    until(handle.ended)
    assert "no_such_recipe" in handle.problem


@pytest.mark.usefixtures("_same_threads")
def test_a_study_begins_with_jobs(phantom: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "runs", tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"recipe": "phantom2d", "arms": {"a": {}, "b": {"loss.lambda": 0}}}))
    order = ["study", str(file), "--data", str(phantom), "--out", str(out), "--executor", "local"]
    wrong = CliRunner().invoke(app, [*order, "--slurm", "nodes=2", *words("epochs=1")])
    assert "nodes must be 1" in str(wrong.exception)
    assert not out.exists(), "nothing is made before all is well"
    done = CliRunner().invoke(app, [*order, "--jobs", "2", *words("epochs=1", "prune.last_epoch=1")])
    assert done.exit_code == 0, (done.output, done.exception)
    assert {Run(out / f"{arm}_seed_0").status for arm in "ab"} == {"finished"}


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    work = Work(tmp_path / "a", ("describe", "no_such_recipe"), "", False, tmp_path / "a.log")
    handle = Cluster(tmp_path, "local", {}, 1).start(work)
    until(handle.ended)
    assert "there is no recipe 'no_such_recipe'" in handle.problem
    assert "whose own log is in" in handle.problem


def test_what_jobs_ask_for_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_parameters(["timeout_min=60", "slurm_partition=gpu", "mem_gb=1.5"]) == {
        "timeout_min": 60,
        "slurm_partition": "gpu",
        "mem_gb": 1.5,
    }
    with pytest.raises(ConfigError, match="must have the form KEY=VALUE"):
        job_parameters(["timeout_min"])
    with pytest.raises(ConfigError, match="say how long a job may take at a time"):
        Cluster(tmp_path, "slurm", {"gpus_per_node": 1}, None)
    with pytest.raises(ConfigError, match="a run is one process, so nodes must be 1"):
        Cluster(tmp_path, "local", {"nodes": 2}, None)
    with pytest.raises(ConfigError, match="timeout") as error:
        Cluster(tmp_path, "local", {"timeout": 2}, None)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no Slurm on this machine"):
        Cluster(tmp_path, "slurm", {"timeout_min": 60}, None)

"""A run is cut off between any two writes, and killed at any moment; it goes on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import TINY, Stopper, assert_same, tiny

from sauron_train.data.phantom import make_phantom
from sauron_train.experiment import Experiment
from sauron_train.resume import resume
from sauron_train.runlog import Run, files
from sauron_train.runlog.check import check
from sauron_train.runlog.claim import claimed
from sauron_train.trainer import Trainer

FEW = ("epochs=3", "prune.last_epoch=3")


class PowerCutError(BaseException):
    """The machine is off: nothing may catch it and go on writing."""


class Power:
    """Goes off at one of the writes; every later one fails too, as on a machine that is off."""

    def __init__(self, off_at: int | None) -> None:
        self.writes, self.off_at = 0, off_at

    def goes_off(self) -> bool:
        """Count a write."""
        self.writes += 1
        return self.off_at is not None and self.writes >= self.off_at


@contextmanager
def power(off_at: int | None) -> Iterator[Power]:
    """Renames, flushes, removals and appended lines may fail; a line that is being appended is left torn."""
    supply = Power(off_at)
    write = os.write

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if supply.goes_off():
                raise PowerCutError
            return real(*args, **kwargs)

        return call

    def torn(handle: int, data: bytes) -> int:
        if supply.goes_off():
            if supply.writes == supply.off_at:
                write(handle, data[: len(data) // 2])
            raise PowerCutError
        return write(handle, data)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "fsync", "unlink"):
            patch.setattr(files.os, name, failing(getattr(os, name)))
        patch.setattr(files.os, "write", torn)
        yield supply


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=6, seed=1, size=(40, 40, 6))


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("whole") / "run"
    Trainer(Experiment.prepare(tiny(*FEW), phantom), out).run()
    return Run(out)


@pytest.fixture(scope="module")
def begun(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(KeyboardInterrupt):
        Trainer(Experiment.prepare(tiny(*FEW), phantom), out, Stopper(1, "end")).run()
    return Run(out)


@pytest.fixture(scope="module")
def writes(begun: Run, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many there are in the two epochs that are left."""
    run = Run(Path(shutil.copytree(begun.path, tmp_path_factory.mktemp("counted") / "run")))
    with power(None) as supply:
        resume(run)
    return supply.writes


def cut_off_and_resume(begun: Run, whole: Run, out: Path, at: int) -> None:
    run = Run(Path(shutil.copytree(begun.path, out)))
    with power(at), pytest.raises(PowerCutError):
        resume(run)
    run.layers(), run.prunings()
    assert check(run).lost == [], "what is there is whole, also before anything was mended"
    # The last write of all is the flush of a folder whose run.json says already that the run is finished.
    if run.status != "finished":
        resume(run)
    assert_same(run, whole)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_a_run_that_is_cut_off_between_two_writes_goes_on(
    begun: Run, whole: Run, writes: int, tmp_path: Path, share: float
) -> None:
    cut_off_and_resume(begun, whole, tmp_path / "run", max(1, round(share * writes)))


@pytest.mark.soak
def test_between_any_two_writes(begun: Run, whole: Run, writes: int, tmp_path: Path) -> None:
    for at in range(1, writes + 1):
        cut_off_and_resume(begun, whole, tmp_path / str(at), at)
        shutil.rmtree(tmp_path / str(at))


def test_all_processes_of_a_run_may_be_told_to_stop(phantom: Path, tmp_path: Path) -> None:
    """As `timeout` and batch systems do; the workers that load data hear it too."""
    program = [sys.executable, "-m", "sauron_train", "run", "--recipe", "phantom2d", "--data", str(phantom)]
    words = ["--out", str(tmp_path / "run"), "--set", "epochs=500", "--set", "data.workers=2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*program, *words], stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert any(line.split()[:1] == ["1"] for line in iter(process.stdout.readline, "")), "an epoch"
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stdout.read()
    assert process.returncode == 143
    assert "sauron-train resume" in said
    assert "Traceback" not in said


def test_workers_that_outlive_their_training_do_not_hold_its_folder(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    here, over = fork.Event(), fork.Event()

    def work() -> None:
        here.set()
        over.wait()

    with claimed(tmp_path):
        worker = fork.Process(target=work, daemon=True)
        worker.start()
        assert here.wait(60)
    with claimed(tmp_path):
        over.set()
    worker.join()


@pytest.mark.soak
def test_fifty_kills(phantom: Path, tmp_path: Path) -> None:
    """A process is killed at a random moment after it began to train, over and over, until the run is finished."""
    changes = ["epochs=130", "prune.last_epoch=90", "prune.first_epoch=1", "prune.kappa=30"]
    expected = tmp_path / "whole"
    Trainer(Experiment.prepare(tiny(*changes), phantom), expected).run()
    assert Run(expected).prunings()
    # Of an epoch in full swing: the first of a process is longer, by what is loaded at its first step.
    usual = float(Run(expected).epochs()["seconds"].median())
    out, moments, kills = tmp_path / "killed", random.Random(1), 0
    surroundings = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()"]
    begin = ["run", "--recipe", "phantom2d", "--data", str(phantom), "--out", str(out)]
    begin += [f"--set={change}" for change in (*TINY, *changes)]
    while not (out / files.INFO).is_file() or Run(out).status != "finished":
        words = ["resume", str(out)] if (out / files.INFO).is_file() else begin
        with subprocess.Popen([*program, *words], stdout=subprocess.PIPE, text=True, env=surroundings) as process:
            assert process.stdout is not None
            # The heading of the table is printed when the first step is about to be made, then a line for each epoch.
            if any(line.split()[:1] == ["epoch"] for line in iter(process.stdout.readline, "")):
                for _ in range(moments.choice([0, 1, 1])):
                    process.stdout.readline()
                time.sleep(moments.uniform(0, usual))
                kills += process.poll() is None
                process.kill()
        if (out / files.INFO).is_file():
            assert check(Run(out)).lost == []
        elif out.exists():
            shutil.rmtree(out)  # killed while the folder was made
    assert_same(Run(out), Run(expected))
    assert kills >= 50, "it was to be killed more often"

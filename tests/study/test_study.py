"""A study from its file to its tables, in real processes: stopped, gone on with, changed, and with runs that fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small import epochs_of, small, trained_alike, until, words
from typer.testing import CliRunner, Result

from sauron_train import recipes
from sauron_train.cli import app
from sauron_train.errors import SauronError
from sauron_train.experiment import Experiment
from sauron_train.runlog import Run
from sauron_train.study.plan import Planned
from sauron_train.study.processes import Processes
from sauron_train.study.schedule import Handle, InterruptedStudyError, carry_out
from sauron_train.study.work import Work, comparable
from sauron_train.trainer import Trainer

# Long enough to be stopped in the middle.
LONGER = "epochs=12"
ARMS = {
    "baseline": {"prune.enabled": False, "loss.lambda": 0},
    "sauron": {},
    "l1": {"rival": "l1", "fine_tune": 2},
}


def study(*options: str | Path) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, options)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": "phantom2d", "arms": ARMS, "ends_in": ["comparison", "table4", "maps"]}))
    return path


@pytest.mark.usefixtures("_same_threads")
def test_a_study_is_stopped_and_gone_on_with_to_its_tables(file: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    order = [file, "--data", phantom, "--out", out, "--jobs", "2", *words(LONGER)]
    listed = study(*order, "--dry-run")
    assert listed.exit_code == 0
    assert "3 arms x 1 seed = 3 runs: 3 to begin" in listed.output
    commands = [line for line in listed.output.splitlines() if line.startswith("sauron-train run ")]
    assert commands, "whole lines, to be copied"
    assert all(f"--data {phantom}" in line and f"--out {out}/" in line for line in commands)
    assert not out.exists(), "a dry run writes nothing"

    program = [sys.executable, "-m", "sauron_train", "study", *map(str, order)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        until(lambda: epochs_of(out / "sauron_seed_0") >= 2)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[0]
    assert process.returncode == 130
    assert "Go on with the same command." in said
    assert Run(out / "sauron_seed_0").status == "stopped"

    done = study(*order)
    assert done.exit_code == 0, done.output
    assert {Run(out / f"{arm}_seed_0").status for arm in ("baseline", "sauron", "l1")} == {"finished"}
    Trainer(Experiment.prepare(small(LONGER), phantom), tmp_path / "alone").run()
    assert trained_alike(Run(out / "sauron_seed_0"), Run(tmp_path / "alone")), "as if it had never been stopped"
    check_tables(out)

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = study(file, "--data", phantom, "--out", out, "--only", "l1", *words(LONGER))
    assert again.exit_code == 0
    assert "3 arms x 1 seed = 3 runs: 3 finished" in again.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before, "nothing is done twice"
    assert_guarded(file, out)


def check_tables(out: Path) -> None:
    results = pd.read_csv(out / "results.csv").set_index("run")
    assert set(results.index) == {"baseline_seed_0", "sauron_seed_0", "l1_seed_0"}
    for name, row in results.iterrows():
        run = Run(out / str(name))
        last = run.epochs().iloc[-1]
        assert row["dice"] == pytest.approx(last["val_dice"], rel=1e-4)
        assert row["flops"] == pytest.approx(last["flops"] / run.info.flops, rel=1e-4)
    base = results.loc["baseline_seed_0"]
    assert results.loc["l1_seed_0", "dice_difference"] == pytest.approx(
        results.loc["l1_seed_0", "dice"] - base["dice"], abs=1e-4
    )
    assert np.isnan(base["dice_difference"])
    assert results.loc["l1_seed_0", "flops"] <= results.loc["sauron_seed_0", "flops"] < 1 == base["flops"]
    arms = pd.read_csv(out / "table.csv").set_index("arm")
    assert arms.loc["sauron", "dice_mean"] == pytest.approx(results.loc["sauron_seed_0", "dice"])
    assert len((out / "table.md").read_text().splitlines()) == 2 + 3
    assert (out / "table.tex").read_text().count(r" \\") == 1 + 3
    curves = pd.read_csv(out / "curves.csv")
    assert curves.groupby("arm")["epoch"].max().to_dict() == {"baseline": 12, "sauron": 12, "l1": 3}
    layers = {layer.name for layer in Run(out / "sauron_seed_0").info.layers}
    assert set(pd.read_csv(out / "table4.csv")["layer"]) == layers


def assert_guarded(file: Path, out: Path) -> None:
    """What was trained stays what it is: settings that changed and arms that went are refused."""

    def refused(sentence: str, *more: str, **arms: object) -> None:
        changed = file.with_name("changed.yaml")
        changed.write_text(yaml.safe_dump({"recipe": "phantom2d", "arms": {**ARMS, **arms}}))
        result = study(changed, "--data", "x", "--out", out, *words(LONGER, *more))
        assert isinstance(result.exception, SauronError)
        assert sentence in str(result.exception)

    refused("run sauron_seed_0 began with loss.window 2, but the study says 3 now", sauron={"loss.window": 3})
    refused("run l1_seed_0 began with epochs 3, but the study says 5 now", l1={"rival": "l1", "fine_tune": 4})
    refused("began with epochs 12, but the study says 13 now", "epochs=13", l1={"rival": "l1", "fine_tune": 2})
    file.write_text(yaml.safe_dump({"recipe": "phantom2d", "arms": {"baseline": ARMS["baseline"]}}))
    result = study(file, "--data", "x", "--out", out, *words(LONGER))
    assert "run l1_seed_0 is in" in str(result.exception)
    shutil.rmtree(out / "l1_seed_0")
    shutil.rmtree(out / "sauron_seed_0")
    assert study(file, "--out", out, "--table", *words(LONGER)).exit_code == 0
    assert list(pd.read_csv(out / "results.csv")["run"]) == ["baseline_seed_0"]


def test_data_that_are_not_there_are_missed_once_and_before_anything_is_made(file: Path, tmp_path: Path) -> None:
    for more in ([], ["--dry-run"]):
        result = study(file, "--data", tmp_path / "nowhere", "--out", tmp_path / "runs", *more, *words())
        assert "nowhere, which arm baseline is to be trained on; name the data set's with --data" in str(
            result.exception
        )
        assert not (tmp_path / "runs").exists()


def test_nothing_finished_makes_no_table(file: Path, tmp_path: Path) -> None:
    result = study(file, "--out", tmp_path / "runs", "--table", *words())
    assert "is finished yet, so there is nothing to make a table of" in str(result.exception)


class Written(Handle):
    """A run that leaves a file when it has been asked often enough, or a problem."""

    def __init__(self, work: Work, problem: str) -> None:
        self._work, self._problem, self._asked = work, problem, 0

    def ended(self) -> bool:
        self._asked += 1
        return self._asked > 1

    @property
    def problem(self) -> str:
        return self._problem


class Diary:
    """Runs nothing but the order of things, which it writes down."""

    def __init__(self, jobs: int | None, failing: Sequence[str] = (), interrupt_at: str = "") -> None:
        self.jobs, self._failing, self._interrupt_at = jobs, failing, interrupt_at
        self.events: list[str] = []
        self.together = 0
        self._now = 0

    def start(self, work: Work) -> Handle:
        if work.folder.name == self._interrupt_at:
            raise KeyboardInterrupt
        return Written(work, "it fell over" if work.folder.name in self._failing else "")

    def leave(self, handles: Sequence[Handle]) -> str:
        return f"{len(handles)} were running"

    def started(self, planned: Planned, running: int) -> None:
        self.events.append(f"+{planned.name}")
        self.together = max(self.together, running)

    def ended(self, planned: Planned, problem: str) -> None:
        self.events.append(f"-{planned.name}")

    def look(self, running: Sequence[Planned], waiting: Sequence[Planned]) -> None:
        """Nothing to see."""


def of_a_plan(tmp_path: Path) -> tuple[list[Planned], dict[str, Work]]:
    def run(name: str, *needs: str) -> Planned:
        return Planned(name, name, 0, None, small(), ("run",), tmp_path / name, "", needs)

    runs = [run("a"), run("b"), run("of_both", "a", "b"), run("c")]
    return runs, {each.name: Work.of(each, False) for each in runs}


def test_what_others_need_comes_first_and_not_too_many_run(tmp_path: Path) -> None:
    runs, works = of_a_plan(tmp_path)
    diary = Diary(2)
    assert carry_out(runs, works, diary, diary) == {}
    assert diary.together == 2
    assert diary.events.index("+of_both") > max(diary.events.index("-a"), diary.events.index("-b"))
    assert diary.events[:2] == ["+a", "+b"]
    assert sorted(diary.events) == sorted(f"{sign}{run.name}" for run in runs for sign in "+-")


def test_a_failure_takes_only_what_needs_it(tmp_path: Path) -> None:
    runs, works = of_a_plan(tmp_path)
    diary = Diary(None, failing=["b"])
    problems = carry_out(runs, works, diary, diary)
    assert problems == {"b": "it fell over", "of_both": "it needs b, which is not finished"}
    assert "+of_both" not in diary.events
    (tmp_path / "c").mkdir()
    assert "is no run folder that can be read" in carry_out(runs, works, Diary(None), diary)["c"]


def test_a_run_that_cannot_be_started_takes_no_other_with_it(tmp_path: Path) -> None:
    class Full(Diary):
        def start(self, work: Work) -> Handle:
            if work.folder.name == "a":
                raise OSError(28, "No space left on device")
            return super().start(work)

    runs, works = of_a_plan(tmp_path)
    diary = Full(None)
    problems = carry_out(runs, works, diary, diary)
    assert "could not be started" in problems["a"]
    assert "No space left" in problems["a"]
    assert problems.keys() == {"a", "of_both"}
    assert {"-b", "-c"} < set(diary.events)


@pytest.mark.parametrize("changed", [{}, {"flips": True}, {"largest_component": ["a"]}, {"epoch": 1}])
def test_a_score_counts_if_it_is_as_that_of_all_others(tmp_path: Path, changed: dict[str, object]) -> None:
    plain = {"epoch": 0, "flips": False, "largest_component": [], "mean_dice": 0.5}
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "epochs.csv").write_text("epoch\n")
    run = Run(tmp_path)
    assert not comparable(run), "there is none"
    (tmp_path / "evaluation.json").write_text(json.dumps(plain | changed))
    assert comparable(run) == (not changed)


def test_interrupted_it_says_what_becomes_of_what_runs(tmp_path: Path) -> None:
    runs, works = of_a_plan(tmp_path)
    diary = Diary(None, interrupt_at="c")
    with pytest.raises(InterruptedStudyError, match="2 were running"):
        carry_out(runs, works, diary, diary)


def test_a_run_that_fails_leaves_the_others_and_its_reason(tmp_path: Path) -> None:
    runs, _ = of_a_plan(tmp_path)
    logs = {run.name: tmp_path / f"{run.name}.log" for run in runs}
    logs["a"].write_text("$ sauron-train run\nerror: what was wrong before\n")
    works = {run.name: Work(run.folder, ("describe", "no_such_recipe"), "", False, logs[run.name]) for run in runs}
    runner = Processes(2, {"OMP_NUM_THREADS": "7"})
    problems = carry_out(runs, works, runner, Diary(2))
    assert problems["a"] == "there is no recipe 'no_such_recipe'; there are " + ", ".join(recipes.names())
    assert problems.keys() == {run.name for run in runs}
    again = Processes(2).start(works["a"])
    until(again.ended)
    assert again.problem == problems["a"]


def test_cores_are_shared_out() -> None:
    assert Processes(2, {"OMP_NUM_THREADS": "7"})._surroundings(0)["OMP_NUM_THREADS"] == "7"
    assert Processes(os.cpu_count() or 1, {})._surroundings(0)["OMP_NUM_THREADS"] == "1"
    assert Processes(3, {"CUDA_VISIBLE_DEVICES": "4,5"})._surroundings(2)["CUDA_VISIBLE_DEVICES"] == "4"
    alone = Processes(1, {"CUDA_VISIBLE_DEVICES": "4,5"})._surroundings(0)
    assert alone["CUDA_VISIBLE_DEVICES"] == "4,5", "one run at a time may train on all, by hardware.devices"


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path, phantom: Path) -> None:
    run, works = of_a_plan(tmp_path)[0][0], of_a_plan(tmp_path)[1]
    Trainer(Experiment.prepare(small("epochs=1"), phantom), run.folder)  # begun, by this process, and not finished
    handle = Processes(1).start(works["a"])
    assert not handle.ended()
    values = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(values | {"status": "stopped"}))
    assert handle.ended()
    assert "repeat the command to go on with it" in handle.problem
    assert not handle.leaves_more
    # Somebody brings it to its end before its turn comes: nothing is started, and its slot is free for the next.
    (run.folder / "run.json").write_text(json.dumps(values | {"status": "finished"}))
    runner = Processes(1)
    assert all(runner.start(works["a"]).ended() for _ in range(3))
    assert not handle.leaves_more
    scored = Work.of(run, evaluate=True)
    (run.folder / "run.json").write_text(json.dumps(values))
    other = Processes(1).start(scored)
    (run.folder / "run.json").write_text(json.dumps(values | {"status": "finished"}))
    assert other.ended()
    assert other.leaves_more, "its scores"

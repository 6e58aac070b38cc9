"""Trainings that are started from a view: what may be asked for, and the processes that do it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from sample import Spec, write_run

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_json
from sauron_viz.apps import Dashboard, TrainingView, train
from sauron_viz.runs import Library
from sauron_viz.training.allowed import ENVIRONMENT, Allowed, permit
from sauron_viz.training.jobs import FOLDER, Job, Jobs, Record
from sauron_viz.training.processes import end, identity, launch, plain
from sauron_viz.training.progress import Follower, Progress, Tail
from sauron_viz.training.request import LINES, assignments, check, differences, doubt, explained, fit, require
from sauron_viz.widgets.jobs import job_entry
from sauron_viz.widgets.training import TrainingPanel

TINY = [
    "data.patch=[32, 32]", "data.steps_per_epoch=3", "data.batch_size=2", "data.workers=0", "network.init_filters=4",
    "network.levels=3", "probe.images=1", "prune.enabled=false", "hardware.accelerator=cpu",
]  # fmt: skip
LONG_S = 120


def until(met: Callable[[], Any], what: str) -> Any:
    """Wait for something that other processes do; the limit is no judgement on speed."""
    over = time.monotonic() + LONG_S
    while not (found := met()):
        assert time.monotonic() < over, f"never came: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def data(trained: Path, tmp_path: Path) -> Path:
    """A folder with one data set, `phantom`."""
    folder = tmp_path / "data"
    shutil.copytree(trained.parent / "phantom", folder / "phantom")
    return folder


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A folder of runs; what still trains in it at the end is killed."""
    (tmp_path / "runs").mkdir()
    made = Jobs(tmp_path / "runs")
    yield made
    for job in Jobs(tmp_path / "runs").all():
        if job.alive:
            job.stop(at_once=True)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        if process.poll() is None:
            process.communicate("\n")


# What may be asked for


def test_data_sets_and_recipes_are_found_in_the_folders_that_were_named(data: Path, tmp_path: Path) -> None:
    deep = data / "a" / "b"
    shutil.copytree(data / "phantom", deep / "c")
    shutil.copytree(data / "phantom", deep / "c2" / "d" / "e")
    (data / ".hidden").mkdir()
    shutil.copytree(data / "phantom", data / ".hidden" / "phantom")
    broken = data / "broken"
    broken.mkdir()
    (broken / "dataset.json").write_text("{")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(data / "phantom", elsewhere / "inner")
    (data / "link").symlink_to(elsewhere)
    (data / "linked").symlink_to(elsewhere / "inner")
    (data / "mine.yaml").write_text("epochs: 3\n")
    (tmp_path / "outside.yaml").write_text("epochs: 3\n")
    (data / "sneaky.yaml").symlink_to(tmp_path / "outside.yaml")
    allowed = Allowed.of([data])
    found = allowed.datasets()
    assert list(found) == ["a/b/c", "broken", "linked", "phantom"], "three deep; a link is looked at, not followed"
    assert found["phantom"].about == "8 cases; 1 channel: MRI; 2 structures: ventricle, lesion"
    assert found["phantom"].title == "Phantom2D (phantom)"
    assert "is not valid JSON" in found["broken"].problem
    assert allowed.recipes()["phantom2d"] == "phantom2d"
    assert allowed.recipes()["mine.yaml"] == str(data / "mine.yaml")
    assert "sneaky.yaml" not in allowed.recipes()
    one = Allowed.of([data / "phantom"]).datasets()
    assert [(key, found.path) for key, found in one.items()] == [("phantom", data / "phantom")]


def test_what_is_new_in_a_data_set_is_seen(data: Path) -> None:
    allowed = Allowed.of([data])
    assert allowed.dataset("phantom").dataset is not None
    label = next((data / "phantom" / "labelsTr").iterdir())
    label.unlink()
    assert "has no label" in allowed.dataset("phantom").problem


@pytest.mark.parametrize("key", ["", ".", "..", "../data/phantom", "/etc", "phantom/../phantom", "phantom/imagesTr"])
def test_nothing_else_may_be_trained_on(data: Path, key: str) -> None:
    with pytest.raises(SauronError, match="is no data set that may be trained on here"):
        Allowed.of([data]).dataset(key)


@pytest.mark.parametrize("key", ["", "phantom", "../mine.yaml", "/etc/passwd", "--help"])
def test_nothing_else_may_be_trained_by(data: Path, key: str) -> None:
    (data.parent / "mine.yaml").write_text("epochs: 3\n")
    with pytest.raises(SauronError, match="is no recipe that may be trained here"):
        Allowed.of([data]).recipe(key)


def test_a_served_view_trains_only_where_it_was_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "/etc")
    write_run(tmp_path / "runs" / "a", Spec(epochs=1))
    permit([], tmp_path / "runs")
    assert Allowed.from_environment() is None, "what a user happens to have set does not count"
    app = Dashboard(tmp_path / "runs")
    assert "training" not in app.kinds
    app.state.tab = "training"
    assert "training" not in app.panels
    with pytest.raises(SauronError, match="is not a folder"):
        permit([data, tmp_path / "no"], tmp_path / "runs")
    permit([data], tmp_path / "new" / "runs")
    assert (tmp_path / "new" / "runs").is_dir(), "the first run may be trained here"
    app = Dashboard(tmp_path / "new" / "runs")
    assert app.state.tab == "training"
    assert app.body.layout.display is None
    assert "training" not in Dashboard(tmp_path / "runs" / "a").kinds, "no run is trained inside another"


def test_mistakes_are_said_at_their_field() -> None:
    def wrong(lines: str = "", **fields: str) -> dict[str, str]:
        return dict(
            check("phantom2d", {key.replace("__", "."): value for key, value in fields.items()}, lines).problems
        )

    assert wrong() == {}
    assert wrong(epochs="x") == {"epochs": "epochs must be a whole number (it is 'x')"}
    assert wrong(epochs="3").keys() == {"epochs"}
    assert "prune.first_epoch is 4 but there are 3 epochs" in wrong(epochs="3")["epochs"]
    assert wrong("prune.first_epoch=2", epochs="3") == {}
    assert wrong(data__patch="30 30").keys() == {"data.patch"}
    assert wrong(data__patch="32", data__batch_size="2").keys() == {"data.patch"}
    assert wrong(loss__lambda="-1", seed="3").keys() == {"loss.lambda"}
    assert wrong(loss__normalization="<img>").keys() == {"loss.normalization"}
    assert wrong("prune.kapa=3", epochs="50") == {LINES: "unknown key 'prune.kapa'; did you mean 'prune.kappa'?"}
    assert wrong("wurst=3") == {LINES: "unknown key 'wurst'; the configuration beside this lists all keys"}
    assert wrong("what is this") == {LINES: "'what is this' must have the form section.key=value"}
    assert wrong("epochs=0").keys() == {LINES}
    assert wrong("x" * 5000).keys() == {LINES}
    assert wrong("data.patch.a=[1", seed="1").keys() == {LINES}
    assert check("phantom2", {}).problems == {"": "there is no recipe 'phantom2'; did you mean 'phantom2d'?"}


def test_fields_become_assignments() -> None:
    asked = assignments(
        {"data.patch": " [64 × 64] ", "prune.enabled": "false", "seed": " ", "loss.lambda": "0.2"},
        "\n# a remark\n  optimizer.lr=0.01 \n",
    )
    assert asked == [
        ("data.patch", "data.patch=[64, 64]"),
        ("loss.lambda", "loss.lambda=0.2"),
        ("prune.enabled", "prune.enabled=false"),
        (LINES, "optimizer.lr=0.01"),
    ]


def test_the_configuration_is_explained_and_what_differs_is_marked() -> None:
    checked = check("phantom2d", {"epochs": "50", "loss.normalization": "off"}, "optimizer.lr=0.01")
    assert checked.config is not None
    assert checked.recipe is not None
    lines = explained(checked.config, checked.recipe)
    changed = {line.text.strip(): line.was for line in lines if line.was is not None}
    assert changed == {"epochs: 50": "42", "normalization: 'off'": "maps", "lr: 0.01": "0.003"}
    assert differences(lines) == 3
    assert any("ω: side and stride" in line.comment for line in lines)
    assert differences(explained(checked.recipe, checked.recipe)) == 0


def test_a_data_set_that_does_not_fit_is_said(data: Path) -> None:
    found = Allowed.of([data]).dataset("phantom")
    config = check("phantom2d", {}).config
    assert config is not None
    assert fit(found, config) == ""
    two = check("phantom2d", {}, "data.channels=2").config
    assert two is not None
    assert "has 1 channels but the recipe is made for 2" in fit(found, two)
    grouped = check("phantom2d", {}, "data.group_by=^(none)$").config
    assert grouped is not None
    assert "does not match data.group_by" in fit(found, grouped)
    volumes = check("hippocampus3d", {}).config
    assert volumes is not None
    assert "far smaller than the patch" in doubt(found, volumes)
    assert "single slices" in doubt(replace(found, shape=(40, 40, 1)), volumes)
    assert doubt(found, config) == ""


# How it stands


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


# The processes


def test_a_number_means_one_process(sleeper: subprocess.Popen[str]) -> None:
    who = identity(sleeper.pid)
    assert who
    assert who == identity(sleeper.pid) != identity(os.getpid())
    assert identity(0) == identity(1) == identity(-5) == ""
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


# What a page may ask of the kernel


@pytest.fixture
def panel(data: Path, jobs: Jobs) -> TrainingPanel:
    return TrainingView(jobs.root, data=data).panel


def press(panel: TrainingPanel, what: Any, run: Any) -> None:
    panel.list._answer(panel.list, {"press": what, "id": run}, [])


def test_messages_start_only_what_is_offered(panel: TrainingPanel, data: Path, jobs: Jobs) -> None:
    form, button = panel.form, panel.start_button
    outside = data.parent / "outside"
    shutil.copytree(data / "phantom", outside)
    for trait, value in (
        (form.recipe, str(data / "x.yaml")),
        (form.recipe, "../../etc/passwd"),
        (form.data, str(outside)),
        (form.data, "../outside"),
        (form.name, "../up"),
        (form.name, "a/../../b"),
        (form.lines, "--help"),
        (form.fields["epochs"], "1\n--out=/tmp/x"),
        (form.fields["loss.normalization"], "evil"),
    ):
        before = trait.value
        trait.value = value
        button._answer(button, {"press": "start"}, [])
        panel._pressed_start()
        assert 'class="sauron-alert"' in panel.said.value, value
        assert not jobs.folder.exists(), value
        trait.value = before
    write_run(jobs.root / "run", Spec(epochs=2), "failed", until=1)
    for _ in range(5):
        panel.viewer.beat()
    assert [entry["id"] for entry in panel.list.jobs] == ["run"]
    for what, run in (("stop", "run"), ("kill", "run"), ("resume", "../run"), ("resume", None), ("rm", "run"), (1, 2)):
        press(panel, what, run)
    assert not jobs.folder.exists()
    press(panel, "resume", "run")
    assert "Its data set, Rats, is not in /nowhere/data any more" in panel.list.problem
    assert not jobs.folder.exists()


def test_a_run_is_not_resumed_on_data_from_elsewhere(panel: TrainingPanel, jobs: Jobs, tmp_path: Path) -> None:
    sample = write_run(jobs.root / "run", Spec(epochs=2), "stopped", until=1)
    (tmp_path / "private").mkdir()
    write_json(sample / "run.json", Run(sample).info.to_json() | {"data_root": str(tmp_path / "private")})
    for _ in range(5):
        panel.viewer.beat()
    press(panel, "resume", "run")
    assert "which may not be trained on from here; resume it in a terminal" in panel.list.problem
    assert not jobs.folder.exists()


def test_the_form_says_what_is_wrong_and_starts_what_is_shown(panel: TrainingPanel, jobs: Jobs) -> None:
    form = panel.form
    assert form.recipe.value == "phantom2d", "the first recipe that fits the data set"
    assert form.name.placeholder == "phantom2d"
    assert form.fields["epochs"].placeholder == "42"
    assert form.fields["loss.normalization"].options[0] == ["", "maps (recipe)"]
    form.fields["epochs"].value = "x"
    assert form.fields["epochs"].problem.startswith("epochs must ")
    assert panel.start_button.disabled == ["start"]
    form.fields["epochs"].value = "4000"
    assert form.fields["epochs"].problem == ""
    assert panel.start_button.disabled == []
    form.lines.value = "\n".join(TINY)
    assert "keys differ from the recipe phantom2d" in form.preview.value
    assert "--set epochs=4000" in form.preview.value
    panel._pressed_start()
    assert "phantom2d was started" in panel.said.value
    assert form.name.placeholder == "phantom2d-2"
    job = jobs.of("phantom2d")
    assert job is not None
    assert job.alive
    assert panel.list.opened == "phantom2d"
    press(panel, "stop", "phantom2d")
    entry = panel.list.jobs[0]
    assert entry["word"] in ("stopping", "stopped by its user")
    until(lambda: not job.alive, "it stops, though it had hardly begun")
    panel.refresh()
    assert panel.list.jobs[0]["status"] == "stopped"
    assert panel.list.jobs[0]["note"].startswith("Stopped before")


def test_a_run_without_an_epoch_can_be_started_again(panel: TrainingPanel, jobs: Jobs) -> None:
    write_run(jobs.root / "run", Spec(epochs=2), "stopped", until=0)
    for _ in range(5):
        panel.viewer.beat()
    [entry] = panel.list.jobs
    assert entry["note"] == "Stopped before its first epoch was finished."
    assert [action[:2] for action in entry["actions"]] == [["resume", "Start again"]]


def test_data_sets_in_the_layouts_of_their_makers_are_offered(tmp_path: Path) -> None:
    for name in ("patient001_frame01", "patient001_frame01_gt", "patient002_frame01", "patient002_frame01_gt"):
        path = tmp_path / "heart" / "training" / name[:10] / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "notes" / "of" / "somebody").mkdir(parents=True)
    found = Allowed.of([tmp_path]).datasets()
    assert list(found) == ["heart"]
    assert found["heart"].dataset is not None
    assert found["heart"].dataset.name == "ACDC"
    assert require("acdc", tmp_path / "heart", []) == tmp_path / "heart"
    with pytest.raises(SauronError, match=r"no dataset\.json, and is in no other layout that is known"):
        require("acdc", tmp_path / "notes", [])


def test_in_a_notebook_one_line_trains(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "new" / "runs"
    for words, sentence in (
        (("phantom2", data / "phantom"), "did you mean 'phantom2d'"),
        (("phantom2d", data), "has no dataset.json"),
        (("phantom2d", data / "no"), "is not a folder"),
    ):
        with pytest.raises(SauronError, match=sentence):
            train(*words, out=runs / "first")
    with pytest.raises(SauronError, match="there are 2 epochs"):
        train("phantom2d", data / "phantom", out=runs / "first", set=["epochs=2"])
    settings: dict[str, object] = {"epochs": 2, "data.patch": [32, 32], "loss.normalization": "off"}
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()] + [c for c in TINY if "patch" not in c]
    run = train("phantom2d", data / "phantom", out=runs / "first", set=changes, wait=True)
    assert isinstance(run, Run)
    assert run.status == "finished"
    assert run.config.loss.normalization == "off"
    assert "of the FLOPs are left" in capsys.readouterr().out
    view = train("phantom2d", data / "phantom", out=runs / "second", set=changes)
    assert isinstance(view, TrainingView)
    assert view.state.run == "first"
    until(lambda: view.viewer.beat() or view.state.run == "second", "the view turns to what was started")
    view.job.stop(at_once=True)
    with pytest.raises(SauronError, match="there is a run first already"):
        train("phantom2d", data / "phantom", out=runs / "first", set={"epochs": 9})


def job_of(root: Path) -> Job:
    return Jobs(root).all()[0]


@pytest.mark.notebook
def test_a_training_outlives_the_notebook_that_started_it(data: Path, jobs: Jobs, tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    folder = Path(sys.modules["sauron_viz"].__file__ or "").parent / "notebooks"
    notebook = nbformat.read(folder / "train.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    state = json.dumps(notebook.metadata.get("widgets", {}))
    assert "New training" in state
    assert 'class=\\"sauron-alert' not in state
    job = job_of(jobs.root)
    assert job.run == "phantom2d"
    assert job.alive, "its kernel is gone"
    until(lambda: job.progress().phase != "starting", "it goes on")
    assert job.progress().ended == ""

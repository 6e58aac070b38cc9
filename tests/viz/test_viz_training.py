"""What a page may ask of the kernel, and what a notebook may: trainings that are started from a view."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from jobbing import TINY, until
from sample import Spec, write_run

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_json
from sauron_viz.apps import TrainingView, train
from sauron_viz.training.allowed import Allowed
from sauron_viz.training.jobs import Job, Jobs
from sauron_viz.training.request import require
from sauron_viz.widgets.training import TrainingPanel


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
    assert entry["word"] in ("stopping", "stopped")
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


@pytest.mark.soak
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

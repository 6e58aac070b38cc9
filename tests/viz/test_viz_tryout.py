"""Trying a cut from the explorer: the real command on a real, small run."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from sauron_train.runlog import Run
from sauron_viz.apps import FeatureMapExplorer
from sauron_viz.outlook import THRESHOLDS
from sauron_viz.runs import Library
from sauron_viz.widgets.explorer.tryout import TryOut, mean_dice
from sauron_viz.worker import Job

PATIENCE = 180.0


def opened(root: Path) -> tuple[FeatureMapExplorer, TryOut]:
    app = FeatureMapExplorer(root)
    app.panel.tabs.value = "outlook"
    card = app.panel.outlook
    assert card.found is not None
    card.slider.value = next(step for step, count in enumerate(card.found.count()) if count >= 2)
    return app, card.tryout


def press(tryout: TryOut, what: str) -> None:
    tryout.start._answer(None, {"press": what}, [])


def wait(tryout: TryOut) -> None:
    if tryout.job is not None:
        tryout.job.wait(PATIENCE)
    assert tryout.job is None


def test_what_the_threshold_says_is_cut_and_scored_and_can_be_kept(root: Path) -> None:
    app, tryout = opened(root)
    chosen = app.panel.outlook.found.chosen(app.panel.outlook.step)
    count = sum(len(numbers) for numbers in chosen.values())
    assert count > 0
    assert tryout.start.options[0][1] == f"Try it: cut {count} {'filter' if count == 1 else 'filters'}"
    press(tryout, "try")
    assert tryout.start.options[0][0] == "cancel"
    assert "<progress" in tryout.progress.value
    wait(tryout)
    assert tryout.said.value == ""
    attempt = tryout.attempts[-1]
    made = app.viewer.folder.open("small cut 1")
    assert attempt.guest == "small cut 1"
    assert {cut.layer: [gone.filter for gone in cut.removed] for cut in made.prunings} == chosen
    threshold = THRESHOLDS[app.panel.outlook.step]
    assert [cut.threshold for cut in made.prunings] == pytest.approx([threshold] * len(made.prunings), abs=1e-3)
    assert f"merged, τ {threshold:.3f}" in tryout.table.value
    found, step = app.panel.outlook.found, app.panel.outlook.step
    assert int(made.epochs["parameters"].iloc[-1]) == found.cost.parameters[step]
    assert attempt.left[1] == pytest.approx(found.cost.flops[step] / made.info.flops)
    assert f"{attempt.dice[1]:.3f}" in tryout.table.value
    assert tryout.before.prediction
    assert tryout.after.prediction
    assert tryout.result.layout.display is None
    layer, gone = app.state.layer, chosen[app.state.layer][0]
    cut, whole = made.frame(2, layer, 0), app.viewer.view.frame(2, layer, 0)
    assert cut.stats.gone[gone] == 2
    assert cut.stats.seen[gone] == 2
    np.testing.assert_array_equal(cut.pixels[gone], whole.pixels[gone])
    app.panel.comparison.choice.value = "run:small cut 1"
    assert app.panel.comparison.grid.base.startswith("small cut 1|")
    tryout.keeping.actions._answer(None, {"press": "save"}, [])
    assert str(root / "small_cut_1") in tryout.said.value
    kept = Run(root / "small_cut_1")
    assert kept.status == "finished"
    assert kept.info.derived_from is not None
    assert kept.info.derived_from.run == "small"
    assert app.state.runs == ["small", "small_cut_1"]
    assert not made.run.path.exists()
    assert tryout.keeping.widget.layout.display == "none"
    app.state.run = "small_cut_1"
    assert app.panel.grid.base.startswith("small_cut_1|")
    assert "Not saved" not in app.header.origin.line.value
    assert "cut" in app.header.origin.line.value


@pytest.mark.soak
def test_what_was_tried_is_a_run_until_it_is_thrown_away(root: Path) -> None:
    app, tryout = opened(root)
    press(tryout, "try")
    wait(tryout)
    assert app.state.runs == ["small", "small cut 1"]
    shutil.copytree(root / "small", root / "twin")
    app.viewer._find_runs()
    app.state.run = "twin"
    assert tryout.result.layout.display == "none"
    app.state.run = "small"
    assert tryout.result.layout.display is None
    tryout.open._answer(None, {"press": "open"}, [])
    assert app.state.run == "small cut 1"
    assert app.header.run.options[-1] == ["small cut 1", "small cut 1 (not saved)"]
    assert "Not saved" in app.header.origin.line.value
    assert "run=small&" in app.viewer.session.query + "&"
    (root / "taken").mkdir()
    keeping = app.header.origin.keeping
    keeping.name.value = "taken"
    keeping.actions._answer(None, {"press": "save"}, [])
    assert "exists already" in app.header.origin.told.value
    keeping.name.value = "x" * 300
    keeping.actions._answer(None, {"press": "save"}, [])
    assert "at most 100 characters" in app.header.origin.told.value
    scratch = app.viewer.view.run.path
    keeping.actions._answer(None, {"press": "discard"}, [])
    assert not scratch.exists()
    assert app.state.run == "small"
    assert app.state.runs == ["small", "twin"]
    assert app.header.origin.card.layout.display == "none"
    assert "Thrown away." in app.header.origin.told.value


def test_a_job_can_be_cancelled(root: Path) -> None:
    _, tryout = opened(root)
    press(tryout, "try")
    job = tryout.job
    assert job is not None
    press(tryout, "cancel")
    job.wait(PATIENCE)
    assert tryout.job is None
    assert "Cancelled." in tryout.said.value
    assert tryout.start.options[0][0] == "try"
    assert tryout.attempts == []


def test_what_fails_is_said_in_a_sentence(root: Path) -> None:
    app, tryout = opened(root)
    info = root / "small" / "run.json"
    info.write_text(info.read_text().replace("phantom", "elsewhere"))
    press(tryout, "try")
    wait(tryout)
    assert "elsewhere" in tryout.said.value
    assert "Traceback" not in tryout.said.value
    assert tryout.result.layout.display == "none"
    shutil.rmtree(root / "small" / "checkpoints")
    press(tryout, "try")
    assert "The weights of epoch 2 are not there" in app.viewer.notice.value


def test_nothing_is_cut_where_nothing_would_go(root: Path) -> None:
    app, tryout = opened(root)
    app.panel.outlook.slider.value = 0
    assert tryout.start.disabled == ["try"]
    press(tryout, "try")
    assert tryout.job is None


def test_a_job_that_dies_is_said(tmp_path: Path) -> None:
    told: list[tuple[Path | None, str]] = []
    job = Job(["no-such-command"], lambda *_: None, lambda made, why: told.append((made, why)))
    job.start()
    job.wait(PATIENCE)
    assert told[0][0] is None
    assert "no-such-command" in told[0][1]
    job.discard()
    assert not job.scratch.exists()


def test_mean_dice() -> None:
    labels = np.array([[[1, 1], [0, 2]], [[0, 0], [0, 0]]])
    assert mean_dice(labels, labels) == 1
    assert mean_dice(np.zeros_like(labels), labels) == 0
    other = np.array([[[1, 0], [0, 2]], [[1, 1], [1, 1]]])
    assert mean_dice(other, labels) == pytest.approx((2 / 3 + 1) / 2)


def test_a_run_is_kept_beside_a_run_that_is_looked_at_alone(root: Path) -> None:
    library = Library(root / "small")
    kept = library.keep(Run(root / "small"), "twin")
    assert kept == root / "twin"
    for name, sentence in (("", "give the run a name"), ("../x", "cannot be used"), ("twin", "exists already")):
        with pytest.raises(Exception, match=sentence):
            library.keep(Run(root / "small"), name)
    assert sorted(path.name for path in root.iterdir()) == ["small", "twin"]


@pytest.mark.soak
def test_an_image_is_shown_to_the_cut_network_that_is_looked_at(root: Path, image: Path) -> None:
    app, tryout = opened(root)
    press(tryout, "try")
    wait(tryout)
    tryout.open._answer(None, {"press": "open"}, [])
    left = int(app.viewer.view.epochs["filters"].iloc[-1])
    app.explore(image)
    app.panel.own.job.wait(PATIENCE)
    assert app.viewer.view.info.derived_from.run == "small_cut_1"
    assert int(app.viewer.view.epochs["filters"].iloc[-1]) == left
    assert app.header.origin.keeping.actions.options[-1] == ["back", "Back to small"]
    assert "run=small&" in app.viewer.session.query + "&"
    app.viewer.dismiss("small cut 1")
    app.panel.tabs.value = "own"
    assert app.viewer.notice.value == ""
    assert app.panel.main.layout.display is None
    shutil.rmtree(root / "small")
    app.viewer._find_runs()
    assert app.header.origin.keeping.actions.options[-1][0] == "discard"


def test_callbacks_of_a_job_come_on_the_loop_of_the_page(tmp_path: Path) -> None:
    async def page() -> list[int]:
        ended = asyncio.Event()
        threads: list[int] = []

        def on_end(_made: Path | None, _why: str) -> None:
            threads.append(threading.get_ident())
            ended.set()

        Job(["no-such-command"], lambda *_: None, on_end).start()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        return threads

    assert asyncio.run(page()) == [threading.get_ident()]

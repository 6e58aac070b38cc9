"""Folders of runs that grow, vanish, come back, are damaged or hold hostile names: followed, or said in words."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from asking import ask
from sample import SampleRun, Spec, write_run

from sauron_train.errors import RunError
from sauron_viz.apps import Costs, Dashboard, FeatureMapExplorer, PruningProgress, RunsTable
from sauron_viz.widgets.base import Notice


def test_a_growing_run_is_followed_unless_the_reader_went_back(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "live", Spec(every=1)).run(until=2)
    app = FeatureMapExplorer(tmp_path)
    assert app.state.epoch == 2
    version = app.state.version
    app.viewer.beat()
    assert app.state.version == version
    run.step()
    app.viewer.beat()
    assert app.state.epoch == 3
    app.state.epoch = 1
    run.step()
    app.viewer.beat()
    assert app.state.epoch == 1
    assert app.panel.epoch.options == [1, 2, 3, 4]


def test_a_run_that_was_trained_again_under_its_name_is_opened_again(tmp_path: Path) -> None:
    path = write_run(tmp_path / "demo", Spec(epochs=4))
    app = FeatureMapExplorer(tmp_path)
    base, frame = app.panel.grid.base, ask(app, 4)[1][0]
    again = tmp_path / "again"
    write_run(again, Spec(epochs=4, seed=8, pruning=False, created="2024-05-01T09:30:00+00:00"))
    shutil.rmtree(path)
    app.viewer.beat()
    assert app.viewer.view is None
    assert app.state.problem
    again.rename(path)
    app.viewer.beat()
    assert app.state.problem == ""
    assert app.panel.grid.base != base
    assert ask(app, 4)[1][0] != frame
    assert not app.viewer.view.pruned


def test_a_run_is_opened_again_even_where_no_beat_fell_between(tmp_path: Path) -> None:
    path = write_run(tmp_path / "demo", Spec(epochs=4))
    app = FeatureMapExplorer(tmp_path)
    frame = ask(app, 4)[1][0]
    shutil.rmtree(path)
    write_run(path, Spec(epochs=4, seed=8, created="2024-05-01T09:30:00+00:00"))
    app.viewer.beat()
    assert "T09:30:00" in app.panel.grid.base
    assert ask(app, 4)[1][0] != frame


def test_a_folder_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    root, away = tmp_path / "runs", tmp_path / "away"
    write_run(root / "one", Spec(epochs=1))
    app = Dashboard(root)
    root.rename(away)
    for _ in range(5):
        app.viewer.beat()
    assert "is not a folder" in app.header.problem.value
    away.rename(root)
    for _ in range(5):
        app.viewer.beat()
    assert app.state.problem == app.header.problem.value == ""
    assert app.body.layout.display is None


def test_a_missing_folder_that_appears_empty_is_said_so(tmp_path: Path) -> None:
    app = Dashboard(tmp_path / "later")
    (tmp_path / "later").mkdir()
    for _ in range(5):
        app.viewer.beat()
    assert "There are no runs in" in app.header.problem.value


def test_runs_appear_by_themselves(tmp_path: Path) -> None:
    app = Dashboard(tmp_path)
    assert "No runs to show" in app.header.problem.value
    assert app.body.layout.display == "none"
    write_run(tmp_path / "new", Spec(epochs=1))
    for _ in range(5):
        app.viewer.beat()
    assert app.state.run == "new"
    assert app.body.layout.display is None
    assert app.header.problem.value == ""


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert "is not a folder" in Dashboard(tmp_path / "nowhere").header.problem.value


def test_damage_is_said_and_another_run_still_opens(runs: Path) -> None:
    app = PruningProgress(runs)
    app.state.run = "damaged"
    assert "not valid JSON" in app.state.problem
    assert app.viewer.view is None
    assert 'data-status="damaged"' in app.header.status.value
    app.state.run = "off"
    assert app.state.problem == ""
    assert app.panel.off.layout.display is None
    assert app.panel.share.layout.display == "none"
    assert app.panel.network.epochs == [1, 2, 3, 4]


def test_a_damaged_configuration_is_said_once_with_what_to_do(tmp_path: Path) -> None:
    for name in ("whole", "torn one"):
        write_run(tmp_path / name, Spec(epochs=2))
    (tmp_path / "torn one" / "config.yaml").write_text("epochs: [")
    app = Dashboard(tmp_path)
    app.state.run = "torn one"
    assert app.viewer.view is None
    assert 'data-status="damaged"' in app.header.status.value
    said = app.header.problem.value
    assert "is not valid YAML: expected the node content" in said
    assert "(line 1, column 10). Choose another run above." in said
    assert f"sauron-train check '{tmp_path}/torn one'" in html.unescape(said)
    assert app.body.layout.display == "none", "empty tabs would only repeat it"
    app.state.run = "whole"
    assert app.header.problem.value == ""


def test_a_table_of_layers_that_ends_too_early_is_told_of(tmp_path: Path) -> None:
    path = write_run(tmp_path / "short", Spec(epochs=4))
    lines = (path / "layers.csv").read_text().splitlines(keepends=True)
    (path / "layers.csv").write_text("".join(line for line in lines if line[:1] not in ("3", "4")))
    said = Dashboard(tmp_path).header.problem.value
    assert "layers.csv ends at epoch 2 of 4, so what is shown of layers lacks the rest." in said
    assert f"sauron-train check {path}" in said
    (path / "layers.csv").write_text(lines[0])
    assert "layers.csv has no rows" in Dashboard(tmp_path).header.problem.value


def test_damaged_tables_become_words_not_blanks(tmp_path: Path) -> None:
    path = write_run(tmp_path / "torn", Spec(epochs=2))
    (path / "epochs.csv").write_text("")
    app = Dashboard(tmp_path)
    assert "no header" in app.header.problem.value + app.viewer.notice.value


def test_exceptions_in_callbacks_become_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notice = Notice()

    def fail(error: Exception | None) -> None:
        if error:
            raise error

    guarded = notice.guard(fail)
    guarded(RunError("the <run> is gone"))
    assert "the &lt;run&gt; is gone" in notice.value
    assert 'role="alert"' in notice.value
    guarded(ZeroDivisionError())
    assert "Something went wrong" in notice.value
    guarded(None)
    assert notice.value == ""


def test_names_from_a_run_are_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "evil", Spec(epochs=1, dataset="<img src=x onerror=alert(1)>"))
    app = Dashboard(tmp_path)
    assert "<img" not in app.header.numbers.value


EVIL = "<img src=x onerror=alert(1)>"


def markup(widget: Any) -> list[str]:
    """Everything below a widget that the page takes for HTML."""
    own = [widget.value] if isinstance(widget, ipywidgets.HTML) else []
    return own + [text for child in getattr(widget, "children", ()) for text in markup(child)]


@pytest.mark.parametrize("field", ["status", "created", "message", "dataset", "epochs_planned", "labels", "format"])
def test_no_field_of_a_run_reaches_the_page_as_markup(tmp_path: Path, field: str) -> None:
    path = write_run(tmp_path / "evil", Spec(epochs=3)) / "run.json"
    values = json.loads(path.read_text())
    values[field] = {EVIL: 1} if field == "labels" else EVIL
    path.write_text(json.dumps(values))
    app = Dashboard(tmp_path)
    for tab in ("trends", "pruning"):
        app.state.tab = tab
    for shown in (app, RunsTable(tmp_path), Costs(tmp_path)):
        assert not [text for text in markup(shown) if "<img" in text]


def test_costs_of_the_newest_run(runs: Path, tmp_path: Path) -> None:
    assert "FLOPs" in Costs(runs, "rats").children[1].figure
    assert Costs(tmp_path).children[1].figure == ""


def test_the_quickstart_says_what_is_missing_or_damaged(runs: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert "is not a folder" in RunsTable(nowhere).table.empty
    assert "is not a folder" in Costs(nowhere).children[1].empty
    assert "not valid JSON" in Costs(runs, "damaged").children[1].empty
    assert "damaged" in [row["status"] for row in RunsTable(runs).table.rows]


def test_tables_are_read_at_the_newest_epoch_while_the_newest_maps_are_shown(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "live", Spec(every=4)).run(until=6)
    app = Dashboard(tmp_path)
    app.state.tab = "pruning"
    pruning, maps = app.panels["pruning"], app.panels["maps"]
    assert (app.state.epoch, pruning.epoch.value) == (6, 6)
    assert "epoch 6" in pruning.layer.words.value
    assert pruning.layer.strip.label.startswith("Maps at epoch 4")
    app.state.tab = "maps"
    assert maps.epoch.value == 4
    maps.epoch.value = 1
    assert app.state.epoch == 1
    maps.epoch.value = 4
    assert app.state.epoch == 6, "the newest maps stand for now"
    run.run(until=8)
    app.viewer.beat()
    assert (app.state.epoch, maps.epoch.value) == (8, 8)
    maps.epoch.value = 1
    run.run(until=9)
    app.viewer.beat()
    assert app.state.epoch == 1

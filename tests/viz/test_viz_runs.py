"""Finding, opening and reading runs; maps as the canvas gets them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample import SampleRun, Spec, write_run

from sauron_train.errors import RunError
from sauron_viz import summaries
from sauron_viz.cache import ByteCache
from sauron_viz.figures.overview import dice_against_flops, pareto
from sauron_viz.runs import Library, default_layer, default_root
from sauron_viz.summaries import summarise
from sauron_viz.widgets.overview import overview_rows


def test_runs_are_named_by_their_path(runs: Path, tmp_path: Path) -> None:
    library = Library(runs)
    assert library.names() == ["bare", "broken", "damaged", "kits", "off", "rats"]
    assert {name: library.status(name) for name in library.names()} == {
        "bare": "running",
        "broken": "failed",
        "damaged": "damaged",
        "kits": "finished",
        "off": "finished",
        "rats": "finished",
    }
    assert library.first() == "bare"
    write_run(tmp_path / "deep" / "er" / "one", Spec(epochs=1))
    assert Library(tmp_path).names() == ["deep/er/one"]
    alone = Library(runs / "rats")
    assert alone.names() == ["."]
    assert alone.open(".").title == "rats"


def test_a_run_without_an_epoch_is_not_opened_before_one_that_has_some(tmp_path: Path) -> None:
    write_run(tmp_path / "old", Spec(epochs=1))
    SampleRun(tmp_path / "new", Spec(created="2024-05-01T09:30:00+00:00"))
    library = Library(tmp_path)
    assert library.status("new") == "running"
    assert library.first() == "old"


@pytest.mark.parametrize("name", ["../off", "/etc", "rats/../.."])
def test_nothing_outside_the_folder_is_opened(runs: Path, name: str) -> None:
    with pytest.raises(RunError, match=r"outside|not a run folder"):
        Library(runs / "rats").open(name)


def test_a_link_out_of_the_folder_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs / "rats")
    assert Library(tmp_path).names() == []
    with pytest.raises(RunError, match="outside"):
        Library(tmp_path).open("link")


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAURON_RUNS", raising=False)
    monkeypatch.setenv("SAURON_RUNS", "/elsewhere")
    assert default_root() == Path("/elsewhere")
    assert Library().root == Path("/elsewhere").resolve()


def test_without_a_name_the_first_usual_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAURON_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert Library().root == (tmp_path / "notebooks" / "runs").resolve()
    for folder in ("demo/runs", "notebooks/demo/runs", "runs", "notebooks/runs"):
        (tmp_path / folder).mkdir(parents=True)
        assert Library().root == (tmp_path / folder).resolve()


def test_a_named_folder_is_also_looked_for_one_folder_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert Library("mine").root == (tmp_path / "mine").resolve()
    (tmp_path / "notebooks" / "mine").mkdir()
    assert Library("mine").root == (tmp_path / "notebooks" / "mine").resolve()


def test_a_missing_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=f"{re.escape(str((tmp_path / 'mine').resolve()))} is not a folder"):
        Library("mine").names()


def test_the_cache_counts_bytes_and_drops_what_was_used_longest_ago() -> None:
    cache, made = ByteCache(limit=10), []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key, lambda _: 4)

    for key in "aabac":
        get(key)
    assert made == ["a", "b", "c"]
    get("a")
    get("b")
    assert made == ["a", "b", "c", "b"]
    assert cache.used == 8


def test_a_view_is_renewed_only_when_the_run_grew(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "live", Spec(every=1)).run(until=1)
    view = Library(tmp_path).open("live")
    assert view.map_epochs == [1]
    assert not view.refresh()
    run.step()
    assert view.map_epochs == [1]
    assert view.refresh()
    assert view.map_epochs == [1, 2]
    run.writer.finish("finished")
    assert view.refresh()
    assert view.status == "finished"


def test_the_default_layer_is_the_second_to_last_convolution_of_the_decoder(runs: Path) -> None:
    assert default_layer(Library(runs).open("rats").info.layers) == "dec_conv_3"
    assert default_layer(()) == ""


def test_a_layer_without_maps_says_so(runs: Path) -> None:
    with pytest.raises(RunError, match="no maps of dec_conv_1 at epoch 99"):
        Library(runs).open("rats").frame(99, "dec_conv_1", 0)


def test_all_runs_as_one_table(runs: Path, tmp_path: Path) -> None:
    rows = {row["id"]: row for row in overview_rows(Library(runs).overview())}
    assert list(rows) == Library(runs).names()
    assert (rows["rats"]["epochs"], rows["rats"]["epochs_of"]) == (12, 12)
    assert "not valid JSON" in rows["damaged"]["note"]
    assert rows["damaged"]["epochs"] is None
    assert rows["broken"]["status_word"] == "failed"
    json.dumps(list(rows.values()), allow_nan=False)
    assert Library(tmp_path).overview() == []


def test_a_line_of_the_list_says_what_the_tables_say(runs: Path) -> None:
    view = Library(runs).open("rats")
    line, last = summarise(view.run, "rats"), view.epochs.iloc[-1]
    assert line.dice == pytest.approx(last["val_dice"])
    assert line.hd95 == pytest.approx(np.nanmean([last[c] for c in view.epochs if c.startswith("hd95_")]))
    assert line.flops == pytest.approx(last["flops"] / view.info.flops)
    assert line.parameters == pytest.approx(last["parameters"] / view.info.parameters)
    assert line.filters == pytest.approx(last["filters"] / sum(layer.filters for layer in view.info.layers))
    assert line.seconds == pytest.approx(view.epochs["seconds"].sum())
    assert (line.mode, line.seed, line.inference) == (view.info.mode, view.info.seed, None)


def test_a_line_is_read_again_only_when_its_run_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SampleRun(tmp_path / "live", Spec()).run(until=1)
    write_run(tmp_path / "done", Spec(epochs=1))
    library, read = Library(tmp_path), []
    summarise = summaries.summarise
    monkeypatch.setattr(summaries, "summarise", lambda run, name: read.append(name) or summarise(run, name))
    first = library.overview()
    assert read == ["done", "live"]
    assert library.overview() == first
    assert read == ["done", "live"]
    run.step()
    assert [line.epochs for line in library.overview()] == [1, 2]
    assert read == ["done", "live", "live"]
    shutil.rmtree(tmp_path / "done")
    assert [line.name for line in library.overview()] == ["live"]


def test_a_run_whose_process_dies_is_lost_in_the_list(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = SampleRun(tmp_path / "live", Spec(), pid=process.pid).run(until=1)
    library = Library(tmp_path)
    assert library.overview()[0].status == "running"
    process.kill()
    process.wait()
    assert library.overview()[0].status == "lost"
    run.writer.finish("failed", "no memory")
    assert library.overview()[0].status == "failed"


@pytest.mark.parametrize("damage", ["", "epoch,val_dice\n", "epoch,val_dice,flops\n1,x,\n", "a\n1\n", "epoch\n1.5e\n"])
def test_odd_tables_make_no_line_that_fails(tmp_path: Path, damage: str) -> None:
    path = write_run(tmp_path / "odd", Spec(epochs=1))
    (path / "epochs.csv").write_text(damage)
    line = Library(tmp_path).overview()[0]
    assert line.dice is None
    assert line.status in ("finished", "damaged")


def test_no_run_on_the_front_is_beaten() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        points = [(float(x), float(y)) for x, y in rng.integers(0, 6, (12, 2))]
        front = {points[i] for i in pareto(points)}
        beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] >= p[1]}
        assert front == set(points) - beaten


def test_the_axis_of_dice_for_one_run_holds_dice_and_nothing_above_it(runs: Path) -> None:
    plot = dice_against_flops([Library(runs).summaries.of("rats")])
    assert plot is not None
    low, high = plot.figure().layout.yaxis.range
    dice = [point for trace in plot.figure().data if trace.name == "Rats" for point in trace.y]
    assert low < dice[0] < high <= 1.02
    assert high - low < 0.2

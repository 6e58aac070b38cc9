"""Finding, opening and reading runs; maps as the canvas gets them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sample import SampleRun, Spec, write_run

from sauron_train.errors import RunError
from sauron_viz.runs import ByteCache, Library, default_layer, default_root
from sauron_viz.widgets.overview import as_html, runs_table


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
    table = runs_table(Library(runs)).set_index("run")
    assert table.loc["rats", "epochs"] == "12 of 12"
    assert 0 < table.loc["rats", "FLOPs left (%)"] < 100
    assert "not valid JSON" in table.loc["damaged", "note"]
    assert as_html(runs_table(Library(runs))).count("<tr>") == 7
    assert "no runs" in as_html(runs_table(Library(tmp_path)))

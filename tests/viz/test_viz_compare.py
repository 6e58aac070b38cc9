"""Runs of a kind taken together, and set against the baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sample import SampleRun, Spec, write_run

from sauron_viz.apps import Dashboard
from sauron_viz.figures.compare import CURVES, colours, comparison
from sauron_viz.groups import Group, baseline_of, group_runs, other_settings
from sauron_viz.labels import tell_apart
from sauron_viz.runs import Library
from sauron_viz.widgets.compare import curves_note, end_rows, ends_note

DICE = CURVES[0]


def settings(path: Path, section: str, **values: object) -> None:
    """Give a run another configuration, as if it had been trained so."""
    config = path / "config.yaml"
    known = yaml.safe_load(config.read_text())
    known[section] |= values
    config.write_text(yaml.safe_dump(known))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared")
    for seed in (1, 2, 3):
        write_run(root / f"sauron-{seed}", Spec(epochs=6, seed=seed, maps=False))
    for seed in (1, 2):
        run = write_run(root / f"plain-{seed}", Spec(epochs=6, seed=seed, maps=False, pruning=False))
        settings(run, "loss", normalization="off")
    write_run(root / "other", Spec(epochs=4, seed=1, maps=False, dataset="ACDC"))
    longer = write_run(root / "longer", Spec(epochs=6, seed=1, maps=False))
    settings(longer, "optimizer", lr=0.25)
    return root


def grouped(root: Path, *names: str) -> list[Group]:
    library = Library(root)
    lines = [line for line in library.overview() if line.name.startswith(names)]
    return group_runs([library.open(line.name) for line in lines], lines)


def test_runs_that_differ_in_their_seed_only_belong_together(folder: Path) -> None:
    groups = grouped(folder, "sauron", "plain")
    assert [(group.label, len(group.views), group.is_baseline) for group in groups] == [
        ("baseline", 2, True),
        ("maps", 3, False),
    ]
    assert groups[1].title == "maps, 3 seeds"


def test_folds_belong_together_and_rivals_stand_alone(tmp_path: Path) -> None:
    for fold in (0, 1):
        settings(write_run(tmp_path / f"fold-{fold}", Spec(epochs=3, maps=False)), "data", folds=2, fold=fold)
    for seed, flops in ((1, 0.25), (2, 0.31)):
        rival = write_run(tmp_path / f"rival-{seed}", Spec(epochs=3, seed=seed, maps=False))
        config = yaml.safe_load((rival / "config.yaml").read_text())
        (rival / "config.yaml").write_text(yaml.safe_dump(config | {"rival": {"method": "l1", "flops": flops}}))
        info = json.loads((rival / "run.json").read_text())
        origin = {"run": "baseline", "epoch": 3, "how": "cut, then fine-tuned", "trained": True}
        (rival / "run.json").write_text(json.dumps(info | {"derived_from": origin}))
    groups = {group.label: group for group in grouped(tmp_path, "fold", "rival")}
    assert {label: group.title for label, group in groups.items()} == {"maps": "maps, 2 folds", "l1": "l1, 2 seeds"}
    assert not groups["l1"].is_baseline
    assert not any(view.derived for view in groups["l1"].views), "it was trained, so its trends are shown"


def test_what_differs_tells_groups_of_one_mode_apart(folder: Path) -> None:
    groups = grouped(folder, "sauron", "longer")
    assert {group.label for group in groups} == {"maps, lr 0.25", "maps, lr 0.001"}
    assert other_settings(groups[0], groups[1])[0].startswith("optimizer.lr")


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        (
            [{"prune.threshold_max": 0.3}, {"prune.threshold_max": 0.5}],
            ["maps, threshold_max 0.3", "maps, threshold_max 0.5"],
        ),
        (
            [{"epochs": 6, "loss.lambda": 0.5}, {"epochs": 2, "loss.lambda": 0.25}],
            ["maps, epochs 6, lambda 0.5", "maps, epochs 2, lambda 0.25"],
        ),
        ([{"optimizer.name": "adam"}, {"optimizer.name": "sgd"}], ["maps, optimizer adam", "maps, optimizer sgd"]),
        ([{"epochs": 6}, {"epochs": 6}], ["maps", "maps"]),
    ],
)
def test_labels_name_what_differs(settings: list[dict[str, object]], labels: list[str]) -> None:
    assert tell_apart(["maps"] * len(settings), settings) == labels


def test_of_many_settings_a_label_names_those_that_it_takes() -> None:
    grid = [
        {"epochs": 2, "data.steps_per_epoch": 3, "data.folds": None, "prune.threshold_max": top} for top in (0.3, 0.5)
    ]
    study = {"epochs": 3, "data.steps_per_epoch": 4, "data.folds": 2, "prune.threshold_max": 0.3}
    alone = {"epochs": 6, "data.steps_per_epoch": 5, "data.folds": None, "prune.threshold_max": 0.3}
    assert tell_apart(["maps", "maps", "maps", "maps", "l1"], [*grid, study, alone, study]) == [
        "maps, epochs 2, threshold_max 0.3",
        "maps, threshold_max 0.5",
        "maps, epochs 3",
        "maps, epochs 6",
        "l1",
    ]


@pytest.mark.parametrize(
    ("members", "title", "line", "ends"),
    [
        ([(1, 0)], "maps", "Line: one run.", "After the last epoch."),
        ([(1, 0), (2, 0)], "maps, 2 seeds", "differ in their seed only,", "Mean over seeds after"),
        ([(1, 0), (1, 1)], "maps, 2 folds", "differ in their fold only,", "Mean over folds after"),
        (
            [(1, 0), (1, 1), (2, 0), (2, 1)],
            "maps, 2 seeds × 2 folds",
            "differ in their seed or fold only,",
            "Mean over seeds and folds after",
        ),
        ([(1, 0), (2, 1)], "maps, 2 runs", "differ in their seed or fold only,", "Mean over seeds and folds after"),
        ([(1, 0), (1, 0)], "maps, 2 runs", "differ in nothing,", "Mean over repeated runs after"),
    ],
)
def test_what_a_mean_is_over_is_said(
    tmp_path: Path, members: list[tuple[int, int]], title: str, line: str, ends: str
) -> None:
    for place, (seed, fold) in enumerate(members):
        run = write_run(tmp_path / f"run-{place}", Spec(epochs=1, seed=seed, maps=False))
        settings(run, "data", folds=2, fold=fold)
    groups = grouped(tmp_path, "run")
    assert [group.title for group in groups] == [title]
    assert line in curves_note(groups)
    assert ends in ends_note(groups)


def test_each_data_set_has_its_own_baseline(folder: Path) -> None:
    groups = grouped(folder, "sauron", "plain", "other")
    other = next(group for group in groups if group.dataset == "ACDC")
    assert other.label == "ACDC: maps"
    assert baseline_of(other, groups) is None
    sauron = next(group for group in groups if group.label == "Rats: maps")
    assert baseline_of(sauron, groups) is next(group for group in groups if group.is_baseline)


def test_a_curve_is_mean_and_range_over_the_seeds(folder: Path) -> None:
    group = grouped(folder, "sauron")[0]
    table = group.curve("val_dice")
    scores = pd.concat([view.epochs.set_index("epoch")["val_dice"] for view in group.views], axis=1)
    assert table["mean"].tolist() == pytest.approx(scores.mean(axis=1).tolist())
    assert table["low"].tolist() == scores.min(axis=1).tolist()
    assert table["high"].tolist() == scores.max(axis=1).tolist()
    smooth = group.curve("val_dice", 3)
    each = scores.rolling(3, center=True, min_periods=1).mean()
    assert smooth["mean"].tolist() == pytest.approx(each.mean(axis=1).tolist())
    assert group.curve("no such column").empty


def test_a_curve_goes_as_far_as_all_runs_have_come(tmp_path: Path) -> None:
    write_run(tmp_path / "done", Spec(epochs=6, seed=1, maps=False))
    SampleRun(tmp_path / "going", Spec(epochs=6, seed=2, maps=False)).run(until=3)
    assert grouped(tmp_path, "")[0].curve("val_dice")["epoch"].tolist() == [1, 2, 3]


def test_the_figure_has_the_papers_colours_a_band_and_a_dashed_baseline(folder: Path) -> None:
    groups = grouped(folder, "sauron", "plain", "longer")
    assert len(set(colours(groups))) == len(groups)
    plot = comparison(grouped(folder, "sauron", "plain"), DICE)
    assert plot is not None
    figure = plot.figure()
    band, line = figure.data[0], figure.data[1]
    assert (line.name, line.line.dash, line.line.color) == ("baseline, 2 seeds", "dash", "#1f5fb4")
    assert (band.fill, len(band.x)) == ("toself", 12)
    assert figure.layout.shapes[0].y0 == line.y[-1]
    assert figure.data[3].line.color == "#e66100"
    assert comparison([], DICE) is None


def test_where_bands_would_cover_each_other_bars_tell_the_range_at_the_end(tmp_path: Path) -> None:
    for weight in (0.1, 0.2, 0.3, 0.4):
        for seed in (1, 2):
            run = write_run(tmp_path / f"w{weight}-{seed}", Spec(epochs=6, seed=seed, maps=False))
            settings(run, "loss", **{"lambda": weight})
    groups = grouped(tmp_path, "w")
    plot = comparison(groups, DICE)
    assert plot is not None
    traces = plot.figure().data
    assert [trace.fill for trace in traces] == [None] * 8
    bars = [trace for trace in traces if trace.error_y.array is not None]
    assert [bar.x[0] for bar in bars] == sorted({bar.x[0] for bar in bars}), "side by side"
    for bar, group in zip(bars, groups, strict=True):
        ends = [float(view.epochs["val_dice"].iloc[-1]) for view in group.views]
        assert bar.y[0] + bar.error_y.array[0] == pytest.approx(max(ends))
        assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(min(ends))


@pytest.mark.parametrize(
    ("section", "values", "compared"),
    [("optimizer", {"lr": 0.5}, True), ("data", {"workers": 3}, True), ("preprocess", {"spacing": [2, 2, 2]}, False)],
)
def test_a_difference_is_told_only_where_it_means_something(
    tmp_path: Path, section: str, values: dict[str, object], compared: bool
) -> None:
    settings(write_run(tmp_path / "plain", Spec(epochs=3, maps=False, pruning=False)), "loss", normalization="off")
    settings(write_run(tmp_path / "sauron", Spec(epochs=3, maps=False)), section, **values)
    base, row = end_rows(grouped(tmp_path, "plain", "sauron"))
    assert ("dice_change" in row) == compared
    assert bool(row["differs"]) == (section != "data"), "how many workers read decides nothing"
    assert "dice_change" not in base


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.column)
def test_every_curve_is_drawn_of_real_columns(folder: Path, curve: object) -> None:
    figure = comparison(grouped(folder, "sauron"), curve)  # type: ignore[arg-type]
    assert figure is not None
    assert len(figure.figure().data[-1].y) >= 1


def test_the_table_sets_each_against_the_baseline(folder: Path, tmp_path: Path) -> None:
    for name, seconds in (("sauron-1", 0.5), ("plain-1", 2.0), ("plain-2", 4.0)):
        (folder / name / "evaluation.json").write_text(json.dumps({"seconds_per_case": seconds}))
    app = Dashboard(folder)
    app.state.picked = ["sauron-1", "sauron-2", "plain-1", "plain-2"]
    app.state.tab = "compare"
    panel = app.panels["compare"]
    base, maps = panel.ends.rows
    assert (base["label"], base["shade"], base["runs"], base["inference"]) == ("baseline", True, 2, 3.0)
    assert maps["dice_change"] == pytest.approx(maps["dice"] - base["dice"])
    assert maps["faster"] == 6.0
    assert maps["dice_low"] <= maps["dice"] <= maps["dice_high"]
    assert "dice_change" not in base


def test_without_ticks_all_of_the_data_set_are_compared_and_that_is_said(folder: Path) -> None:
    app = Dashboard(folder)
    app.state.run, app.state.tab = "other", "compare"
    panel = app.panels["compare"]
    assert "all runs on ACDC" in panel.chart.note
    assert [row["runs"] for row in panel.ends.rows] == [1]
    panel.runs.ticked = ["sauron-1"]
    assert app.state.picked == ["sauron-1"]
    assert "No run is ticked" not in panel.chart.note


def test_a_growing_run_is_followed_in_the_comparison(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "live", Spec(epochs=6, maps=False)).run(until=2)
    app = Dashboard(tmp_path)
    app.state.tab = "compare"
    panel = app.panels["compare"]
    assert len(json.loads(panel.chart.figure)["data"][0]["x"]) == 2
    run.step()
    app.viewer.beat()
    assert len(json.loads(panel.chart.figure)["data"][0]["x"]) == 3
    app.state.tab = "runs"
    app.state.tab = "maps"
    assert not app.viewer._listing
    app.state.tab = "compare"
    assert len(app.viewer._listing) == 1

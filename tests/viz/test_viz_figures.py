"""Figures from tables, without a widget or a browser."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest

from sauron_train.analysis.trends import change
from sauron_train.config import PruneConfig
from sauron_viz.figures import (
    cost_lines,
    decision_lines,
    grid_of,
    layer_heat,
    measure,
    measure_lines,
    measure_multiples,
    measures,
    progress_lines,
)
from sauron_viz.figures.trends import CUTS, has_thirds, moved_lines
from sauron_viz.reasons import reason
from sauron_viz.runs import Library, RunView
from sauron_viz.theme import cividis, dark_swaps, layer_colours, palette


@pytest.fixture
def view(runs: Path) -> RunView:
    return Library(runs).open("rats")


def test_one_line_per_chosen_layer_in_its_own_colour(view: RunView) -> None:
    infos = view.info.layers
    chosen = ["enc_conv_1", "dec_conv_4"]
    figure = measure_lines(view.layers, infos, measure("delta_opt"), chosen, highlight="dec_conv_4").figure()
    assert [trace.name for trace in figure.data] == [*chosen, "p1", "p2", CUTS]
    colours = layer_colours([info.name for info in infos])
    assert [trace.line.color for trace in figure.data[:2]] == [colours[name] for name in chosen]
    assert [trace.line.width for trace in figure.data[:2]] == [1.8, 4]
    assert list(figure.data[0].x) == list(range(1, 13))
    assert figure.layout.meta["mark"] == [{"xref": "x", "yref": "paper", "layer": "below"}]


def test_the_means_of_the_thirds_are_those_that_the_change_is_told_from(view: RunView) -> None:
    figure = measure_lines(
        view.layers, view.info.layers, measure("dip"), ["enc_conv_2"], highlight="enc_conv_2"
    ).figure()
    first, last = figure.data[1:3]
    rows = view.layers.query("layer == 'enc_conv_2'")
    assert (list(first.x), list(last.x)) == ([1, 4], [9, 12])
    assert first.y[0] == pytest.approx(rows["dip"].iloc[:4].mean())
    assert 100 * (last.y[0] / first.y[0] - 1) == pytest.approx(change(rows["epoch"].tolist(), rows["dip"].tolist()))
    bands = [(shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert bands == [(0.5, 4.5), (8.5, 12.5)]


@pytest.mark.parametrize("epochs", [2, 4, 12])
def test_the_means_of_short_runs_are_seen_and_their_labels_stay_inside(view: RunView, epochs: int) -> None:
    table = view.layers.query("epoch <= @epochs")
    figure = measure_lines(table, view.info.layers, measure("dip"), ["enc_conv_2"], highlight="enc_conv_2").figure()
    marks = [trace for trace in figure.data if trace.name in ("p1", "p2")]
    assert bool(marks) == has_thirds(table["epoch"]) == (epochs > 2)
    assert all(shape.x1 - shape.x0 >= 1 for shape in figure.layout.shapes)
    assert len(figure.layout.shapes) == len(marks)
    for mark, at, place in zip(marks, (1, epochs), ("top right", "top left"), strict=False):
        labelled = [x for x, text in zip(mark.x, mark.text, strict=True) if text]
        assert (labelled, mark.textposition) == ([at], place)
        assert ("markers" in mark.mode) == (mark.x[0] == mark.x[1])


def test_moved_lines_are_those_of_the_figure(view: RunView) -> None:
    asked = (view.layers, view.info.layers, measure("dip"), ["enc_conv_1", "dec_conv_3", "dec_conv_4"], "dec_conv_3")
    figure = measure_lines(*asked).figure()
    moved = moved_lines(*asked)
    assert {trace.name for trace in figure.data} == set(moved)
    for trace in figure.data:
        assert [list(trace.x), list(trace.y)] == moved[trace.name][:2]


def test_small_plots_share_their_axes_or_not(view: RunView) -> None:
    infos = view.info.layers
    names = [info.name for info in infos]
    for same in (True, False):
        figure = measure_multiples(view.layers, infos, measure("neighbours"), names, "enc_conv_1", same).figure()
        lines = [trace for trace in figure.data if trace.name in names]
        assert [trace.name for trace in lines] == names
        assert len({trace.yaxis for trace in lines}) == len(names)
        assert figure.layout.yaxis2.matches == ("y" if same else None)
        assert len(figure.layout.meta["mark"]) == len(names)
    headings = [annotation.text for annotation in figure.layout.annotations]
    assert headings[0].startswith("<b>enc_conv_1</b>")
    moved = change(*(view.layers.query("layer == 'enc_conv_1'")[c].tolist() for c in ("epoch", "neighbours")))
    assert headings[0].endswith(f"{moved:+.0f} %".replace("-", "−"))


def test_dots_mark_exactly_the_epochs_with_cuts(view: RunView) -> None:
    cuts = [cut.epoch for cut in view.prunings if cut.layer == "dec_conv_3"]
    line, marks = measure_lines(view.layers, view.info.layers, measure("filters"), ["dec_conv_3"]).figure().data
    assert line.mode == "lines"
    assert [(x, y) for x, y in zip(line.x, line.y, strict=True) if x in cuts] == list(
        zip(marks.x, marks.y, strict=True)
    )
    assert list(marks.x) == cuts
    infos = view.info.layers
    grids = [grid_of(view.layers, infos, measure(name)) for name in ("filters_share", "removed")]
    heat, dots = layer_heat(grids[0], measure("filters_share"), "dec_conv_3", grids[1]).figure().data
    assert [x for x, y in zip(dots.x, dots.y, strict=True) if y == "dec_conv_3"] == cuts
    assert len(heat.z) == len(infos)


def test_unknown_numeric_columns_become_measures_and_empty_ones_do_not(view: RunView) -> None:
    table = view.layers.assign(dip=0.1, something_new=2.0, empty=float("nan"))
    offered = {known.column: known.name for known in measures(table)}
    assert offered["dip"] == "Dip statistic"
    assert offered["something_new"] == "something_new"
    assert not {"empty", "raised", "reference", "epoch", "layer"} & set(offered)


def test_shares_are_of_the_filters_at_the_start(view: RunView) -> None:
    infos = view.info.layers
    share = grid_of(view.layers, infos, measure("filters_share"))
    assert list(share.index) == [info.name for info in infos]
    last = view.layers[view.layers["epoch"] == 12].set_index("layer")["filters"]
    assert share[12].tolist() == pytest.approx([100 * last[info.name] / info.filters for info in infos])
    assert layer_heat(share, measure("filters_share")).figure().data[0].zmax == 100


def test_costs_start_at_the_whole_network(view: RunView) -> None:
    for figure in (cost_lines(view.epochs, view.info).figure(), progress_lines(view.epochs, view.info).figure()):
        assert {trace.name: trace.y[0] for trace in figure.data[:3]} == dict.fromkeys(
            ("FLOPs", "parameters", "filters"), 100
        )
        assert figure.data[0].y[-1] == pytest.approx(100 * view.epochs["flops"].iloc[-1] / view.info.flops)


def test_all_of_progress_stands_on_one_axis_of_epochs(view: RunView) -> None:
    figure = progress_lines(view.epochs, view.info).figure()
    assert {trace.xaxis for trace in figure.data} == {None}
    headings = [annotation.text for annotation in figure.layout.annotations]
    for place, words in enumerate(("Left of the network (%)", "Dice", "Segmentation loss", "Seconds", "Memory")):
        assert words in headings[place]
    domains = [figure.layout[f"yaxis{n}"].domain for n in ("", 2, 3, 4, 5)]
    assert all(upper[0] > lower[1] for upper, lower in itertools.pairwise(domains))
    assert [trace.y[-1] for trace in figure.data if trace.name == "whole epoch"] == [view.epochs["seconds"].iloc[-1]]


def test_scores_before_cuts_are_drawn_only_where_there_were_cuts(view: RunView, runs: Path) -> None:
    names = [
        trace.name for trace in progress_lines(view.epochs, view.info).figure().data if trace.meta == "Dice, validation"
    ]
    assert names == ["ventricle", "lesion", "mean", "before a cut"]
    off = Library(runs).open("off")
    assert "before a cut" not in [trace.name for trace in progress_lines(off.epochs, off.info).figure().data]


def test_decisions_show_the_conditions_that_were_asked_for(view: RunView) -> None:
    log = view.layers.query("layer == 'dec_conv_3'")
    assert [trace.type for trace in decision_lines(log).figure().data].count("heatmap") == 0
    held = [True, False] * 6
    figure = decision_lines(log.assign(enough_epochs=held, few_filters_removed=[None, *map(str, held[1:])])).figure()
    strip = figure.data[-1]
    assert list(strip.y) == ["few filters removed", "enough epochs"]
    assert [list(row) for row in strip.z] == [[None, *map(float, held[1:])], list(map(float, held))]
    tau = next(trace for trace in figure.data if trace.name == "τ")
    assert list(tau.y) == pytest.approx(log["threshold"].tolist())
    assert (tau.line.shape, figure.layout.yaxis3.tickvals) == ("hv", ("few filters removed", "enough epochs"))


@pytest.mark.parametrize(
    ("change_", "before", "words"),
    [
        (
            {"raised": True, "threshold": 0.1},
            {"threshold": 0.08, "patience": 0},
            "τ rose from 0.080 to 0.100: all",
        ),
        ({"patience": 3}, {"threshold": 0.1, "patience": 4}, "τ stays at 0.100: it had risen lately, and waits 3 more"),
        ({"patience": 0}, {"threshold": 0.1, "patience": 1}, "it had risen lately, and may rise in the next epoch."),
        ({"threshold": 0.3}, {"threshold": 0.3, "patience": 2}, "τ stays at 0.300: that is τ_max."),
        (
            {"training_loss_settled": False, "few_filters_removed": "False"},
            None,
            "not yet training loss settled and",
        ),
        ({"removed": 2}, None, "2 filters lay below it and went."),
        ({}, None, "No filter went: the smallest δ_prune was 0.200."),
        ({"threshold": float("nan"), "epoch": 2}, None, "Pruning begins in epoch 3."),
        ({"threshold": float("nan"), "epoch": 9}, None, "Pruning ended with epoch 8."),
    ],
)
def test_every_decision_has_its_reason(change_: dict, before: dict | None, words: str) -> None:
    row = {"epoch": 5, "threshold": 0.1, "patience": 0, "raised": False, "removed": 0, "delta_prune_min": 0.2}
    told = reason(row | change_, PruneConfig(first_epoch=3, last_epoch=8), before)
    assert words in told


@pytest.mark.parametrize(
    ("change_", "words"),
    [
        ({"removed": 8}, "8 filters below it went, as many as widths in multiples of 8 allow."),
        (
            {"delta_prune_min": 0.05},
            "smallest δ_prune was 0.050, but too few lie below τ for the next step in multiples",
        ),
        ({"delta_prune_min": 0.05, "layer": "dec_trans_2"}, "0.050, but the layer is excluded from cuts."),
        ({}, "No filter went: the smallest δ_prune was 0.200."),
    ],
)
def test_a_decision_in_multiples_has_its_reason(change_: dict, words: str) -> None:
    row = {"epoch": 5, "layer": "enc_conv_1", "threshold": 0.1, "patience": 0, "raised": False, "removed": 0}
    config = PruneConfig(width_multiple=8, exclude=("dec_trans_*",))
    assert words in reason(row | {"delta_prune_min": 0.2} | change_, config)


def test_figures_are_plain_json_with_named_axes(view: RunView) -> None:
    figure = measure_lines(view.layers, view.info.layers, measure("threshold"), ["enc_conv_1"]).figure()
    text = figure.to_json()
    assert "bdata" not in text
    layout = json.loads(text)["layout"]
    assert layout["xaxis"]["title"]["text"] == "epoch"
    assert "τ" in layout["yaxis"]["title"]["text"]


def test_a_table_without_rows_has_a_grid_without_epochs(view: RunView) -> None:
    assert grid_of(pd.DataFrame(), view.info.layers, measure("dip")).shape == (len(view.info.layers), 0)


def test_colours_run_from_dark_to_bright_and_differ() -> None:
    assert cividis([0.0, 1.0]) == ["#00224e", "#fee838"]
    layers = [f"layer_{i}" for i in range(32)]
    assert len(set(layer_colours(layers).values())) == 32
    assert set(layer_colours(layers).values()) <= set(dark_swaps(layers))
    assert layer_colours([]) == {}
    assert [len(palette(name)) for name in ("cividis", "grey")] == [768, 768]

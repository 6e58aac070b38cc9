"""Figures from tables, without a widget or a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sauron_viz.figures import cost_lines, dice_lines, filter_bars, loss_lines, measure_lines, measures, share_map
from sauron_viz.runs import Library, RunView, share_left
from sauron_viz.theme import cividis, dark_swaps, layer_colours, palette


@pytest.fixture
def view(runs: Path) -> RunView:
    return Library(runs).open("rats")


def test_one_line_per_chosen_layer_in_its_own_colour(view: RunView) -> None:
    infos = view.info.layers
    chosen = ["enc_conv_1", "dec_conv_4"]
    figure = measure_lines(view.layers, infos, "delta_opt", chosen, epoch=4, highlight="dec_conv_4")
    assert [trace.name for trace in figure.data] == chosen
    colours = layer_colours([info.name for info in infos])
    assert [trace.line.color for trace in figure.data] == [colours[name] for name in chosen]
    assert [trace.line.width for trace in figure.data] == [2, 4]
    assert list(figure.data[0].x) == list(range(1, 13))
    assert figure.layout.shapes[0].x0 == 4


def test_dots_mark_exactly_the_epochs_with_cuts(view: RunView) -> None:
    figure = measure_lines(view.layers, view.info.layers, "filters", ["dec_conv_3"])
    dots = [x for x, size in zip(figure.data[0].x, figure.data[0].marker.size, strict=True) if size > 1]
    assert dots == [cut.epoch for cut in view.prunings if cut.layer == "dec_conv_3"]


def test_unknown_numeric_columns_become_measures_and_empty_ones_do_not(view: RunView) -> None:
    table = view.layers.assign(dip=0.1, something_new=2.0, empty=float("nan"))
    offered = dict(measures(table))
    assert offered["dip"] == "Dip statistic"
    assert offered["something_new"] == "something_new"
    assert not {"empty", "raised", "reference", "epoch", "layer"} & set(offered)


def test_shares_and_bars_say_what_the_table_says(view: RunView) -> None:
    infos = view.info.layers
    share = share_left(view.layers, infos)
    assert list(share.index) == [info.name for info in infos]
    assert ((share > 0) & (share <= 1)).all().all()
    heat = share_map(share).data[0]
    assert heat.z[0][-1] == pytest.approx(100 * share.iloc[0, -1], abs=0.01)
    ghost, now = filter_bars(view.layers, infos, epoch=12).data
    assert list(ghost.x) == [info.filters for info in infos]
    last = view.layers[view.layers["epoch"] == 12].set_index("layer")["filters"]
    assert list(now.x) == [last[info.name] for info in infos]


def test_costs_start_at_the_whole_network(view: RunView) -> None:
    figure = cost_lines(view.epochs, view.info)
    assert {trace.name: trace.y[0] for trace in figure.data} == {"FLOPs": 100, "parameters": 100, "filters": 100}
    assert figure.data[0].y[-1] == pytest.approx(100 * view.epochs["flops"].iloc[-1] / view.info.flops)


def test_scores_before_cuts_are_drawn_only_where_there_were_cuts(view: RunView, runs: Path) -> None:
    names = [trace.name for trace in dice_lines(view.epochs).data]
    assert names == ["ventricle", "lesion", "mean", "before the cut"]
    assert "before the cut" not in [trace.name for trace in loss_lines(Library(runs).open("off").epochs).data]


def test_figures_are_plain_json_with_named_axes(view: RunView) -> None:
    figure = measure_lines(view.layers, view.info.layers, "threshold", ["enc_conv_1"])
    text = figure.to_json()
    assert "bdata" not in text
    layout = json.loads(text)["layout"]
    assert layout["xaxis"]["title"]["text"] == "epoch"
    assert "τ" in layout["yaxis"]["title"]["text"]


def test_colours_run_from_dark_to_bright_and_differ() -> None:
    assert cividis([0.0, 1.0]) == ["#00224e", "#fee838"]
    layers = [f"layer_{i}" for i in range(32)]
    assert len(set(layer_colours(layers).values())) == 32
    assert set(layer_colours(layers).values()) <= set(dark_swaps(layers))
    assert layer_colours([]) == {}
    assert [len(palette(name)) for name in ("cividis", "grey")] == [768, 768]

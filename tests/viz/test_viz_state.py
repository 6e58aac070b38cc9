"""State and linking: tests set traits, as the browser does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asking import ask
from sample import SampleRun, Spec, write_run

from sauron_train.analysis.tables import neighbours
from sauron_viz.apps import Dashboard, FeatureMapExplorer, PruningProgress
from sauron_viz.widgets.viewer import Viewer


@pytest.fixture
def app(runs: Path) -> Dashboard:
    made = Dashboard(runs)
    made.state.run, made.state.tab = "rats", "maps"
    return made


def test_opening_a_run_chooses_the_newest_maps_of_the_default_layer(app: Dashboard) -> None:
    assert (app.state.layer, app.state.epoch, app.state.filter) == ("dec_conv_3", 12, -1)
    panel = app.panels["maps"]
    assert panel.epoch.options == [1, 4, 8, 12]
    assert panel.grid.base.startswith(f"rats|{Spec().created}|dec_conv_3|0|")
    assert panel.layer.options[0][2] == "Encoder"


def test_frames_are_supplied_for_what_is_shown_and_for_nothing_else(app: Dashboard) -> None:
    content, buffers = ask(app, 4)
    assert content["epoch"] == 4
    assert len(buffers[0]) == content["n"] * content["h"] * content["w"]
    assert len(buffers[1]) == content["n"] * 4 * (12 + len(content["orders"]))
    assert "no maps" in ask(app, 99)[0]["note"]
    grid = app.panels["maps"].grid
    sent: list[Any] = []
    grid.send = lambda *args, **kwargs: sent.append(args)
    grid._answer(grid, {"want": 4, "base": "another|layer"}, [])
    assert sent == []


def test_a_choice_in_one_panel_is_the_choice_in_all(app: Dashboard) -> None:
    for tab in ("trends", "pruning"):
        app.tabs.value = tab
    assert list(app.panels) == ["runs", "maps", "trends", "pruning"]
    assert [panel.layout.display for panel in app.panels.values()] == ["none", "none", "none", None]
    app.panels["pruning"].network.layer = "enc_conv_1"
    assert app.state.layer == "enc_conv_1"
    assert "|dec_conv_3|" in app.panels["maps"].grid.base
    app.tabs.value = "maps"
    assert "|enc_conv_1|" in app.panels["maps"].grid.base
    assert app.panels["maps"].layer.value == "enc_conv_1"


def test_controls_write_to_the_state(app: Dashboard) -> None:
    panel = app.panels["maps"]
    panel.epoch.value = 4
    panel.layer.value = "enc_conv_2"
    panel.image.value = "1"
    panel.grid.filter = 2
    state = app.state
    assert (state.epoch, state.layer, state.image, state.filter) == (4, "enc_conv_2", 1, 2)
    assert panel.selected.picture.caption.startswith("Filter 2 over")
    assert panel.selected.picture.over
    assert "δ to the nearest" in panel.selected.numbers.value


def test_a_click_in_a_chart_chooses_the_epoch(app: Dashboard) -> None:
    for tab in ("trends", "pruning"):
        app.tabs.value = tab
    trends, pruning = app.panels["trends"], app.panels["pruning"]
    pruning.progress.clicked = {"x": 5.2}
    assert app.state.epoch == 5
    assert (pruning.epoch.value, pruning.network.epoch) == (5, 5)
    for chart in (pruning.progress, pruning.share, pruning.layer.decisions):
        assert chart.mark == 5
    pruning.share.clicked = {"x": 7, "y": "enc_conv_1"}
    assert (app.state.epoch, app.state.layer) == (7, "enc_conv_1")
    app.tabs.value = "maps"
    assert app.panels["maps"].epoch.value == 8, "the nearest epoch with maps"
    assert app.state.epoch == 7
    app.tabs.value = "trends"
    trends.charts[0].clicked = {"x": 1, "name": "enc_conv_1"}
    assert (app.state.epoch, app.state.layer) == (1, "enc_conv_1")
    assert all(chart.mark == 1 for chart in trends.charts)
    trends.charts[0].clicked = {"x": "nowhere"}
    assert app.state.epoch == 1


def test_any_epoch_can_be_chosen_in_a_run_without_maps(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "bare", Spec(maps=False)).run(until=3)
    app = PruningProgress(tmp_path)
    assert app.state.epoch == 3
    app.panel.progress.clicked = {"x": 2.2}
    run.step()
    app.viewer.beat()
    assert app.state.epoch == 2
    app.panel.progress.clicked = {"x": 99}
    run.step()
    app.viewer.beat()
    assert app.state.epoch == 5


def test_the_scale_of_the_whole_layer_holds_beside_the_grid_too(app: Dashboard) -> None:
    panel = app.panels["maps"]
    app.state.filter = 2
    picture = panel.selected.picture
    own, ends = picture.over, (picture.low, picture.high)
    frame = panel.scene.frame()
    panel.scale.value = "layer"
    assert picture.over == frame.on_common_scale(frame.index(2)).tobytes() != own
    assert (picture.low, picture.high) == tuple(f"{end:.3g}".replace("-", "−") for end in frame.whole_range)
    panel.scale.value = "map"
    assert picture.over == own
    assert (picture.low, picture.high) == ends


def test_a_removed_filter_is_traced_to_its_cut(app: Dashboard) -> None:
    cut = next(c for c in app.viewer.view.prunings if c.layer == app.state.layer)
    app.state.filter = cut.removed[0].filter
    said = app.panels["maps"].selected.numbers.value
    assert f'Removed at epoch</td><td class="num">{cut.epoch}</td>' in said
    assert f"{cut.removed[0].nearest}, at {cut.removed[0].distance:.3f}" in said


def test_the_selection_survives_a_change_of_epoch_but_not_of_run(app: Dashboard) -> None:
    app.state.filter, app.state.layer = 3, "enc_conv_1"
    app.state.epoch = 1
    assert app.state.filter == 3
    app.state.run = "kits"
    assert (app.state.filter, app.state.layer, app.state.epoch) == (-1, "enc_conv_1", 6)
    assert len(app.panels["maps"].slice.options) == 8


def test_slices_start_where_most_is_labelled_and_follow_the_axis(runs: Path) -> None:
    app = FeatureMapExplorer(runs)
    app.state.run = "kits"
    panel = app.panel
    labels = app.viewer.view.probe().labels[0]
    assert panel.slice.value == (labels > 0).sum(axis=(1, 2)).argmax()
    panel.axis.value = "2"
    assert len(panel.slice.options) == labels.shape[2]
    assert ask(app, 6)[0]["h"] == labels.shape[0]


def test_a_radius_asks_for_the_neighbours_of_all_epochs_at_once(app: Dashboard) -> None:
    app.state.tab = "trends"
    panel = app.panels["trends"]
    assert {"dip", "dip_p", "neighbours"} <= {value for value, _ in panel.measure[0].options}
    panel.measure[1].value = "dip"
    assert panel.radius.layout.display == "none", "no radius where no neighbours are shown"
    panel.measure[0].value = "neighbours"
    assert panel.radius.layout.display is None
    run = app.viewer.view.run
    other = panel.charts[1].figure
    for radius in (0.25, 0.1):
        panel.radius.value = int(1000 * radius)
        expected = neighbours(run, radius).query("layer == 'dec_conv_1'")
        epochs, values = panel.charts[0].values["dec_conv_1"]
        assert epochs == expected["epoch"].tolist()
        assert values == pytest.approx(expected["neighbours"].tolist())
        marks = panel.charts[0].values["p1"]
        thick = neighbours(run, radius).query("layer == 'dec_conv_3'")["neighbours"]
        assert marks[1][0] == pytest.approx(thick.iloc[:4].mean())
        assert marks[2][0].startswith(f"p1 = {thick.iloc[:4].mean():.3g}")
        assert panel.charts[0].title == f"Average neighbours within {radius:g} of a map's range"
    panel.radius.value = 300
    app.state.epoch = 4
    expected = neighbours(run, 0.3).query("layer == 'dec_conv_1'")
    line = next(t for t in json.loads(panel.charts[0].figure)["data"] if t["name"] == "dec_conv_1")
    assert (line["x"], panel.charts[0].values) == (expected["epoch"].tolist(), {})
    assert line["y"] == pytest.approx(expected["neighbours"].tolist())
    app.state.epoch = 12
    assert panel.charts[1].figure == other
    logged = run.layers().query("layer == 'dec_conv_1'")["neighbours"]
    assert neighbours(run, 0.1).query("layer == 'dec_conv_1'")["neighbours"].tolist() == pytest.approx(logged.tolist())


def test_measures_and_layers_choose_the_lines(app: Dashboard) -> None:
    app.tabs.value = "trends"
    panel = app.panels["trends"]
    assert panel.measure[0].value == "delta_opt"
    panel.picker.value = ["enc_conv_1"]
    assert '"name":"enc_conv_1"' in panel.charts[0].figure
    assert '"name":"enc_conv_2"' not in panel.charts[0].figure
    panel.measure[0].value = "threshold"
    assert "Threshold" in panel.charts[0].title
    panel.picker.value = []
    assert panel.charts[0].figure == ""


@pytest.mark.parametrize(("epochs", "told"), [(2, False), (4, True)])
def test_thirds_are_spoken_of_where_there_are_any(tmp_path: Path, epochs: int, told: bool) -> None:
    write_run(tmp_path / "short", Spec(epochs=epochs, maps=False))
    app = Dashboard(tmp_path)
    app.state.tab = "trends"
    assert ("Shaded" in app.panels["trends"].charts[0].note) == told


def test_terms_are_explained_where_they_stand(app: Dashboard) -> None:
    for tab in ("trends", "pruning"):
        app.tabs.value = tab
    assert 'title="δ_opt: mean distance' in app.header.numbers.value
    assert "λ: weight of δ_opt" in app.header.numbers.value
    assert next(c for c in app.panels["pruning"].cuts.columns if c["key"] == "threshold")["hint"].startswith("τ: thr")
    first, second = app.panels["trends"].charts
    assert first.hint.startswith("δ_opt: mean distance")
    assert second.hint.startswith("Neighbours: other maps")
    assert 'title="τ: threshold' in app.panels["pruning"].layer.words.value
    app.tabs.value = "maps"
    app.state.epoch, app.state.filter = 1, 1
    assert 'title="δ_prune: distance' in app.panels["maps"].selected.numbers.value


def test_the_address_carries_the_view(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERY_STRING", "run=rats&layer=enc_conv_1&epoch=4&filter=2&tab=trends&token=secret")
    app = Dashboard(runs)
    state = app.state
    assert (state.run, state.layer, state.epoch, state.filter, state.tab) == ("rats", "enc_conv_1", 4, 2, "trends")
    assert app.viewer.session.query == "run=rats&tab=trends&layer=enc_conv_1&epoch=4&filter=2"
    assert list(app.panels) == ["trends"]


def test_the_address_carries_what_panels_are_set_to(runs: Path) -> None:
    app = Dashboard(runs)
    app.state.run = "kits"
    app.tabs.value = "maps"
    maps = app.panels["maps"]
    maps.tabs.value, maps.order.value, maps.scale.value = "distances", "clusters", "layer"
    maps.axis.value = "1"
    maps.slice.value = 3
    app.tabs.value = "compare"
    app.panels["compare"].curve.value = "flops"
    app.panels["compare"].window.value = 5
    address = app.viewer.session.query
    assert address.endswith("&card=distances&order=clusters&scale=layer&axis=1&slice=3&curve=flops&smoothing=5")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUERY_STRING", address.replace("tab=compare", "tab=maps"))
        again = Dashboard(runs)
        assert again.viewer.session.query == address.replace("tab=compare", "tab=maps")
    there = again.panels["maps"]
    assert (there.tabs.value, there.order.value, there.scale.value) == ("distances", "clusters", "layer")
    assert (there.axis.value, there.slice.value, "distances" in there.cards) == ("1", 3, True)
    again.tabs.value = "compare"
    assert (again.panels["compare"].curve.value, again.panels["compare"].window.value) == ("flops", 5)
    there.axis.value = "0"
    there.tabs.value = "map"
    assert again.viewer.session.query.endswith("&order=clusters&scale=layer&curve=flops&smoothing=5")


def test_settings_that_are_not_offered_leave_the_address(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERY_STRING", "run=kits&tab=maps&card=nothing&order=%3Cb%3E&slice=99&axis=7")
    app = Dashboard(runs)
    assert app.panels["maps"].tabs.value == "map"
    assert app.viewer.session.query.split("&filter")[0].endswith("&epoch=6")


@pytest.mark.parametrize("query", ["run=../../etc&epoch=x", "epoch=99&layer=%3Cscript%3E&filter=-3&tab=nothing"])
def test_a_wrong_address_is_ignored(runs: Path, query: str) -> None:
    viewer = Viewer(runs, query)
    assert viewer.state.run == "bare"
    assert viewer.state.problem == ""


def test_the_kernel_moves_the_grid_only_where_it_moved_the_slider(app: Dashboard) -> None:
    panel = app.panels["maps"]
    panel.grid.epoch = 8  # The browser is there already, while its older message arrives here.
    panel.epoch.value = 4
    assert (app.state.epoch, panel.grid.epoch) == (4, 8)
    app.state.version += 1
    assert panel.grid.epoch == 8
    app.state.epoch = 1
    assert (panel.epoch.value, panel.grid.epoch) == (1, 1)


def test_a_question_of_the_page_is_always_answered(app: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_epoch: int) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(app.panels["maps"].grid, "_supply", fail)
    assert "could not be shown" in ask(app, 4)[0]["note"]


def test_the_picker_counts_the_maps_that_are_stored(app: Dashboard) -> None:
    panel = app.panels["maps"]
    for epoch in panel.epoch.options:
        app.state.epoch = epoch
        for name, words, _ in panel.layer.options:
            assert f" {app.viewer.view.run.maps(epoch, name).shape[1]}/" in words


def test_the_picker_tells_how_alike_the_maps_are(app: Dashboard) -> None:
    panel, view = app.panels["maps"], app.viewer.view
    rows = view.layers[view.layers["epoch"] == 12].set_index("layer")
    for name, words, _ in panel.layer.options:
        share = rows.loc[name, "neighbours"] / (rows.loc[name, "filters"] - 1)
        assert words.endswith(f" · {100 * share:.0f} % alike")
    assert f"{view.config.probe.radius:g}" in panel.layer.hint

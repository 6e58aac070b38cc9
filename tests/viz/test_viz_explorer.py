"""The explorer's cards: tests set traits and send messages, as the browser does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample import SampleRun, Spec, write_run

from sauron_train.analysis.removal import delta_prune
from sauron_train.complexity import complexity
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.policy import Measure, removable
from sauron_viz.apps import FeatureMapExplorer
from sauron_viz.outlook import THRESHOLDS
from sauron_viz.theme import palette
from sauron_viz.tints import CONFUSED, FALSE, MISSED, dice, errors, tint
from sauron_viz.widgets.explorer.matrix import matrix_message


@pytest.fixture
def app(runs: Path) -> FeatureMapExplorer:
    made = FeatureMapExplorer(runs)
    made.state.run = "rats"
    return made


def test_without_a_choice_the_input_is_shown(app: FeatureMapExplorer) -> None:
    card = app.panel.selected
    assert card.picture.caption == "Input: rat_031"
    assert card.picture.pixels
    assert not card.picture.over
    assert card.more.layout.display == "none"
    assert "Choose a map" in card.numbers.value


def test_the_nearest_maps_are_offered_and_can_be_chosen(app: FeatureMapExplorer) -> None:
    app.state.layer = "enc_conv_6"
    frame = app.panel.scene.frame()
    number = int(frame.stats.filters[frame.left[3]])
    app.state.filter = number
    card, distances = app.panel.selected, app.viewer.view.shelf.distances(12, "enc_conv_6", 0)
    order = [i for i in np.argsort(distances[3], kind="stable") if i != 3][:6]
    assert card.nearest.names == frame.stats.filters[frame.left[order]].tolist()
    assert card.nearest.texts == [f"{distances[3, i]:.3f}" for i in order]
    assert len(card.nearest.pixels) == 6 * card.nearest.height * card.nearest.width
    card.nearest._answer(None, {"choose": card.nearest.names[2]}, [])
    assert app.state.filter == frame.stats.filters[frame.left[order[2]]]
    card.nearest._answer(None, {"choose": 10_000}, [])
    assert app.state.filter != 10_000


def test_a_filter_that_went_shows_its_survivor(app: FeatureMapExplorer) -> None:
    cut = next(c for c in app.viewer.view.prunings if c.layer == app.state.layer and c.epoch > 1)
    app.state.filter = cut.removed[0].filter
    assert app.panel.selected.nearest.names in ([cut.removed[0].nearest], [])
    assert app.panel.selected.picture.over


def test_two_maps_side_by_side_with_their_difference(app: FeatureMapExplorer) -> None:
    card = app.panel.selected
    app.state.filter = 1
    card.actions._answer(None, {"press": "pin"}, [])
    assert card.actions.options[0][1] == "Unpin"
    assert card.pair_box.layout.display == "none", "one map has no difference"
    app.state.filter = 2
    assert card.pair_box.layout.display is None
    assert [picture.caption for picture in card.pair] == ["1 (pinned)", "2", "2 − 1"]
    a, b, difference = (np.frombuffer(picture.pixels, np.uint8).astype(int) for picture in card.pair)
    np.testing.assert_allclose(difference, 127.5 + (b - a) / 2, atol=1)
    assert card.pair[2].palette == palette("difference")
    card.actions._answer(None, {"press": "pin"}, [])
    app.state.filter = 1
    card.actions._answer(None, {"press": "pin"}, [])
    app.state.filter = 1
    assert card.pair_box.layout.display == "none"


def test_the_charts_below_follow_whichever_card_is_beside_the_grid(app: FeatureMapExplorer) -> None:
    app.state.filter = 0
    assert app.panel.selected._history.title == "Filter 0 over the epochs"
    app.panel.tabs.value = "segmentation"
    app.state.filter = 1
    assert app.panel.selected._history.title == "Filter 1 over the epochs"
    app.state.run = "off"
    assert app.panel.selected.below.layout.display == "none"


def test_history_and_values(app: FeatureMapExplorer) -> None:
    app.state.filter = 2
    history, histogram = app.panel.selected.below.children
    data = json.loads(history.figure)["data"]
    lies = app.viewer.view.run.distances(5)["dec_conv_3"]
    place = lies.filters.tolist().index(2)
    nearest = next(trace for trace in data if trace["name"] == "to the nearest")
    assert nearest["y"][nearest["x"].index(5)] == pytest.approx(float(lies.nearest_distance[place]))
    assert any("τ" in trace["name"] for trace in data)
    assert sum(json.loads(histogram.figure)["data"][0]["y"]) == 48 * 48
    assert (history.source, histogram.title) == ("rats", "Values of filter 2")
    history.clicked = {"x": 3.8}
    assert app.state.epoch == 4
    app.state.run = "off"
    app.state.filter = 2
    assert "τ" not in history.figure
    assert history.source == "off"


def test_a_volume_is_shown_in_three_planes(app: FeatureMapExplorer) -> None:
    app.state.run = "kits"
    app.state.filter = 1
    card, scene = app.panel.selected, app.panel.scene
    assert card.plane_box.layout.display is None
    volume = app.viewer.view.shelf.map_of(scene.epoch, scene.layer, scene.image, 1)
    shapes = [(picture.height, picture.width) for picture in card.planes]
    assert shapes == [volume.shape[1:], (volume.shape[0], volume.shape[2]), volume.shape[:2]]
    app.state.run = "rats"
    app.state.filter = 1
    assert card.plane_box.layout.display == "none"


def ask(app: FeatureMapExplorer, content: dict[str, Any]) -> list[Any]:
    matrix, sent = app.panel.matrix.matrix, []
    matrix.send = lambda content, buffers=None: sent.append((content, buffers or []))
    matrix._answer(matrix, content, [])
    return sent


def test_the_matrix_is_in_the_order_of_the_grid(app: FeatureMapExplorer) -> None:
    panel = app.panel
    panel.tabs.value = "distances"
    assert panel.matrix.matrix.active
    content, buffers = ask(app, {"want": 12, "base": panel.matrix.matrix.base})[0]
    frame, count = panel.scene.frame(), content["n"]
    stored = app.viewer.view.shelf.distances(12, "dec_conv_3", 0)
    values = np.frombuffer(buffers[0], np.uint16).reshape(count, count) / 65534 * content["most"]
    np.testing.assert_allclose(values, stored, atol=content["most"] / 60_000)
    numbers = np.frombuffer(buffers[1], np.int32).reshape(-1, count)
    assert numbers[0].tolist() == frame.stats.filters[frame.left].tolist()
    by_cluster = numbers[2 + content["orders"].index("clusters")]
    grid = [row for row in frame.orders["clusters"] if frame.is_left(row)]
    assert numbers[0][by_cluster].tolist() == frame.stats.filters[grid].tolist()
    assert ask(app, {"want": 12, "base": "another"}) == []
    assert "no maps" in ask(app, {"want": 99, "base": panel.matrix.matrix.base})[0][0]["note"]
    assert "clusters" in panel.matrix.note.value
    table = panel.matrix.csv().splitlines()
    assert len(table) == count + 1
    assert float(table[1].split(",")[2]) == pytest.approx(float(stored[0, 1]), rel=1e-5)


def test_distances_can_be_taken_away(app: FeatureMapExplorer) -> None:
    sent = ask(app, {"csv": True})
    assert sent[0][0]["csv"] == app.panel.matrix.csv()
    assert sent[0][0]["name"] == "rats-dec_conv_3-epoch-12-distances.csv"


def test_a_picture_says_what_it_shows(app: FeatureMapExplorer) -> None:
    assert app.panel.grid.caption == "Run rats, Rats, image rat_031, each map over its own range"
    app.panel.scale.value = "layer"
    assert app.panel.grid.caption.endswith("one colour scale for all maps")
    app.state.run = "kits"
    assert "along axis 1" in app.panel.grid.caption


def test_a_cell_of_the_matrix_shows_its_two_maps(app: FeatureMapExplorer) -> None:
    ask(app, {"pick": [1, 3]})
    assert (app.panel.selected.pinned, app.state.filter) == (1, 3)
    ask(app, {"pick": [4, 4]})
    assert (app.panel.selected.pinned, app.state.filter) == (-1, 4)


def test_distances_that_are_no_numbers_are_marked(app: FeatureMapExplorer) -> None:
    frame = app.panel.scene.frame()
    distances = np.array(app.viewer.view.shelf.distances(12, "dec_conv_3", 0))
    distances[1, :] = np.nan
    _, buffers = matrix_message(frame, distances)
    values = np.frombuffer(buffers[0], np.uint16).reshape(distances.shape)
    assert (values[1] == 65535).all()
    assert values[0, 0] == 0


def test_only_the_card_that_is_seen_is_drawn(app: FeatureMapExplorer) -> None:
    panel = app.panel
    panel.tabs.value = "distances"
    before = panel.selected.picture.caption
    app.state.filter = 2
    assert panel.selected.picture.caption == before
    panel.tabs.value = "map"
    assert panel.selected.picture.caption.startswith("Filter 2 over")
    assert panel.matrix.widget.layout.display == "none"
    assert not panel.matrix.matrix.active


def test_what_would_go_is_what_the_rule_says(app: FeatureMapExplorer) -> None:
    panel = app.panel
    app.state.layer = "enc_conv_6"
    panel.tabs.value = "outlook"
    card, view = panel.outlook, app.viewer.view
    assert card.found is not None
    left = view.shelf.filters(12, "enc_conv_6")
    delta = view.shelf.delta_prune(12, "enc_conv_6")
    maps = np.stack([view.run.maps(12, "enc_conv_6").image(i) for i in range(2)]).astype(np.float32)
    np.testing.assert_allclose(delta, delta_prune(maps, 2), atol=1e-6)
    step = THRESHOLDS.index(0.3)
    measure = Measure(tuple(range(len(left))), tuple(range(len(left))), delta.astype(float))
    gone = sorted(removable(measure, 0.3))
    assert card.found.chosen(step) == {"enc_conv_6": left[gone].tolist()}
    assert len(gone) > 2
    row = card.numbers.rows[0]
    assert (row["now"], row["values"][step]) == (len(left), len(left) - len(gone))
    going = np.frombuffer(panel.grid.going, np.uint8).reshape(len(THRESHOLDS), len(left))
    assert np.flatnonzero(going[step]).tolist() == gone
    assert panel.grid.goingOf == f"{panel.grid.base}|12"
    panel.tabs.value = "map"
    assert panel.grid.going == b""


def test_what_it_would_save_is_what_the_network_costs(app: FeatureMapExplorer) -> None:
    app.panel.tabs.value = "outlook"
    card = app.panel.outlook
    card.scope.value = "all"
    step, found, config = THRESHOLDS.index(0.2), card.found, app.viewer.view.config
    assert found is not None
    widths = {name: int(np.broadcast_to(width, (len(THRESHOLDS),))[step]) for name, width in found.widths.items()}
    assert sum(widths.values()) < sum(len(filters) for filters in found.filters.values())
    spec = UNetSpec.unpruned(config.network, 1, 3).with_filters(widths)
    cost = complexity(UNet(spec), 1, config.data.patch)
    assert [row["name"] for row in card.numbers.rows] == ["Filters", "Parameters", "FLOPs"]
    assert card.numbers.rows[1]["values"][step] == cost.parameters
    assert card.numbers.rows[2]["values"][step] == cost.flops


def test_the_map_that_is_compared_with_can_be_chosen(app: FeatureMapExplorer) -> None:
    app.panel.tabs.value = "outlook"
    card = app.panel.outlook
    card.turns.value = "chosen"
    left = app.viewer.view.shelf.filters(12, "dec_conv_3")
    assert f"Choose a map to be π; until then it is filter {left[0]}." in card.note.value
    gone = next(cut for cut in app.viewer.view.prunings if cut.layer == "dec_conv_3").removed[0].filter
    app.state.filter = gone
    assert f"Filter {gone} is gone and cannot be π" in card.note.value
    for number in (2, 5):
        app.state.filter = number
        delta, left = (
            app.viewer.view.shelf.delta_prune(12, "dec_conv_3"),
            app.viewer.view.shelf.filters(12, "dec_conv_3"),
        )
        place = left.tolist().index(number) if number in left else 0
        step = THRESHOLDS.index(0.4)
        expected = left[[i for i in range(len(left)) if i != place and delta[place, i] < 0.4]].tolist()
        assert card.found is not None
        assert card.found.chosen(step).get("dec_conv_3", []) == expected


def test_the_slider_begins_at_the_threshold_of_the_layer(app: FeatureMapExplorer) -> None:
    app.state.epoch = 8
    app.panel.tabs.value = "outlook"
    rows = app.viewer.view.layers.query("epoch == 8 and layer == 'dec_conv_3'")
    assert THRESHOLDS[app.panel.outlook.step] == pytest.approx(float(rows["threshold"].iloc[0]), abs=0.001)
    app.state.run = "off"
    assert app.panel.outlook.step == 0


def test_label_prediction_and_errors(app: FeatureMapExplorer) -> None:
    app.panel.tabs.value = "segmentation"
    card, view = app.panel.cards["segmentation"], app.viewer.view
    label, predicted = view.probe().labels[0], view.prediction(12)[0]
    shown = np.frombuffer(card.pictures["Prediction"].pixels, np.uint8).reshape(label.shape)
    assert ((shown >= 64) == (predicted > 0)).all()
    wrong = np.frombuffer(card.pictures["Errors"].pixels, np.uint8).reshape(label.shape)
    assert ((wrong >= 64) == (label != predicted)).all()
    score = 2 * np.sum((label == 1) & (predicted == 1)) / (np.sum(label == 1) + np.sum(predicted == 1))
    assert f"{score:.3f}" in card.table.value
    assert card.pictures["Prediction"].caption == "Prediction, epoch 12"
    app.state.epoch = 4
    assert card.pictures["Prediction"].caption == "Prediction, epoch 4"
    (view.run.maps_folder(4) / "prediction.safetensors").rename(view.run.maps_folder(4) / "away")
    try:
        app.viewer.open("rats")
        view = app.viewer.view
        view._cache._items.clear()
        app.state.epoch = 4
        card.update()
        assert "has not stored it" in card.note.value
    finally:
        (view.run.maps_folder(4) / "away").rename(view.run.maps_folder(4) / "prediction.safetensors")


def test_tints_keep_the_image_and_tell_structures_apart() -> None:
    image = np.linspace(0, 1, 64).reshape(8, 8)
    classes = np.zeros((8, 8), int)
    classes[2, 2], classes[5, 5] = 1, 3
    pixels, palette = tint(image, classes, ["#ff0000", "#00ff00", "#0000ff"])
    table = np.frombuffer(palette, np.uint8).reshape(256, 3)
    assert table[pixels[2, 2]][0] > 140
    assert table[pixels[5, 5]][2] > 140
    grey = table[pixels[classes == 0]]
    assert (grey == grey[:, :1]).all()
    assert (np.diff(grey[:, 0].astype(int)) >= 0).all()
    label, prediction = np.array([[0, 1, 1, 2]]), np.array([[1, 0, 2, 2]])
    assert errors(label, prediction).tolist() == [[FALSE, MISSED, CONFUSED, 0]]
    assert dice(label, prediction, 2) == pytest.approx(2 / 3)
    assert np.isnan(dice(label, prediction, 7))


def test_another_epoch_or_run_stands_beside(app: FeatureMapExplorer) -> None:
    panel = app.panel
    other = panel.comparison
    assert other.widget.layout.display == "none"
    values = [option[0] for option in other.choice.options]
    assert {"", "epoch:4", "run:off", "run:kits"} <= set(values)
    assert "epoch:12" not in values
    assert "run:rats" not in values
    other.choice.value = "epoch:4"
    assert other.widget.layout.display is None
    assert (other.grid.epoch, other.grid.label) == (4, "rats: dec_conv_3")
    frame = other._supply(4)
    assert frame is app.viewer.view.frame(4, "dec_conv_3", 0)
    other.choice.value = "run:off"
    assert other.grid.epoch == 4, "the nearest to epoch 12"
    assert other.grid.label == "off: dec_conv_3"
    panel.grid.filter = 3
    assert app.state.filter == 3
    assert other.grid.filter == -1, "the browser hands the choice on, in either direction; the kernel would be late"
    app.state.layer = "enc_conv_1"
    assert other.grid.label == "off: enc_conv_1"
    for run, sentence in (("kits", "is 3D"), ("bare", "holds no feature maps"), ("damaged", "not valid JSON")):
        app.state.layer = "dec_conv_3"
        other.choice.value = f"run:{run}"
        assert sentence in other.grid.note
        assert other.grid.base == ""
    other.choice.value = ""
    assert other.widget.layout.display == "none"


def test_an_image_without_label_is_cut_in_the_middle(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "own", Spec(dim=3, side=32, init=4, epochs=1))
    run.writer.write_probe(replace(run.probe, labels=np.zeros_like(run.probe.labels)))
    run.run()
    app = FeatureMapExplorer(tmp_path)
    assert app.panel.slice.value == run.probe.labels.shape[1] // 2
    app.panel.tabs.value = "segmentation"
    assert "no label" in app.panel.cards["segmentation"].note.value


def test_a_run_without_maps_has_words_and_no_cards(tmp_path: Path) -> None:
    write_run(tmp_path / "bare", Spec(maps=False, epochs=2), "finished")
    app = FeatureMapExplorer(tmp_path)
    assert "holds no feature maps" in app.panel.empty.value
    assert app.panel.main.layout.display == "none"
    assert app.panel.matrix.matrix.base == ""


def test_maps_that_were_taken_away_meanwhile_are_missed_in_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "rats", Spec(epochs=4))
    app = FeatureMapExplorer(tmp_path)
    shutil.rmtree(tmp_path / "rats" / "maps")
    app.viewer.folder.cache._items.clear()
    assert "has no maps of dec_conv_3" in str(app.panel._supply(4))
    app.state.epoch = 1
    assert "is not there" in app.panel.empty.value
    assert app.panel.main.layout.display == "none"
    assert app.viewer.notice.value == ""
    again = FeatureMapExplorer(tmp_path)
    assert "This run holds no feature maps." in again.panel.empty.value


def test_a_comparison_ends_where_it_makes_no_sense(app: FeatureMapExplorer) -> None:
    choice = app.panel.comparison.choice
    choice.value = "run:off"
    assert app.panel.comparison.grid.base.startswith("off|")
    app.state.run = "kits"
    assert choice.value == ""
    assert app.panel.comparison.grid.base == ""
    app.state.run = "rats"
    choice.value = "run:off"
    app.state.run = "damaged"
    app.state.run = "rats"
    assert choice.value == "run:off"

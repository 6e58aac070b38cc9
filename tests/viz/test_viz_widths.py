"""Views of a run whose layers are cut to multiples: what they say would go, and that they say so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from sauron_train.pruning.policy import Measure, removable
from sauron_viz.apps import Dashboard
from sauron_viz.outlook import THRESHOLDS

WORDS = "multiples of 4, below that to 2, 1"


@pytest.fixture
def app(runs: Path, tmp_path: Path) -> Dashboard:
    for name in ("free", "wide"):
        shutil.copytree(runs / "rats", tmp_path / name)
    path = tmp_path / "wide" / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["prune"]["width_multiple"] = 4
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    made = Dashboard(tmp_path)
    made.state.run = "wide"
    return made


def test_what_would_go_keeps_to_the_multiple(app: Dashboard) -> None:
    app.state.tab = "maps"
    app.state.layer = "enc_conv_6"
    panel = app.panels["maps"]
    panel.tabs.value = "outlook"
    card, view = panel.outlook, app.viewer.view
    assert card.found is not None
    left, delta = view.shelf.filters(12, "enc_conv_6"), view.shelf.delta_prune(12, "enc_conv_6").astype(float)
    measure = Measure(tuple(range(len(left))), tuple(range(len(left))), delta)
    counts = set()
    for step in range(0, len(THRESHOLDS), 10):
        gone = sorted(removable(measure, THRESHOLDS[step], 4))
        assert card.found.chosen(step).get("enc_conv_6", []) == left[gone].tolist()
        counts.add(len(left) - len(gone))
    assert counts <= {len(left), *range(0, len(left), 4), 2, 1}
    assert len(counts) > 2
    assert WORDS in card.note.value
    free = np.unique(card.found.widths["enc_conv_6"])
    app.state.run = "free"
    assert WORDS not in card.note.value
    assert len(np.unique(card.found.widths["enc_conv_6"])) > len(free)


def test_the_filters_of_each_layer_say_to_which_widths_they_are_cut(app: Dashboard) -> None:
    app.state.tab = "pruning"
    panel = app.panels["pruning"]
    assert WORDS in panel.share.note
    assert WORDS in panel.layer.words.value
    app.state.run = "free"
    assert WORDS not in panel.share.note + panel.layer.words.value

"""An image of one's own in the explorer: the real command on a real, small run."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from sauron_train.errors import DataError, RunError
from sauron_train.runlog import Run
from sauron_viz.apps import Dashboard, FeatureMapExplorer
from sauron_viz.widgets.explorer.own import OwnImageCard

PATIENCE = 180.0


def opened(root: Path) -> tuple[FeatureMapExplorer, OwnImageCard]:
    app = FeatureMapExplorer(root)
    app.panel.tabs.value = "own"
    return app, app.panel.own


def wait(card: OwnImageCard) -> None:
    if card.job is not None:
        card.job.wait(PATIENCE)
    assert card.job is None


def test_an_image_is_shown_to_the_network_and_explored(root: Path, image: Path) -> None:
    app, card = opened(root)
    app.explore(image, epoch=1)
    assert "<progress" in card.progress.value
    assert card.cancel.layout.display is None
    assert card.upload.disabled
    wait(card)
    assert card.said.value == ""
    name = image.name.removesuffix("_0000.nii.gz")
    guest = f"small: {name}, epoch 1"
    assert app.state.run == guest
    assert app.state.runs == ["small", guest]
    assert app.panel.tabs.value == "map"
    assert app.panel.grid.base.startswith(guest)
    shown = [text for _, text in app.panel.image.options]
    assert len(shown) == 2
    assert all(text.startswith(f"{name} slice ") for text in shown)
    app.panel.tabs.value = "segmentation"
    result = app.panel.cards["segmentation"]
    assert "no label to compare with" in result.note.value
    assert result.pictures["Label"].layout.display == "none"
    assert result.pictures["Prediction"].pixels
    frame = app.panel.scene.frame()
    assert len(frame.left) == app.viewer.view.layers.set_index("layer")["filters"][app.state.layer]
    line = app.header.origin.line.value
    assert f"maps of {image.name}" in line
    assert "<b>small</b> at epoch 1" in line
    app.header.origin.keeping.actions._answer(None, {"press": "back"}, [])
    assert app.state.run == "small"


def test_the_maps_of_it_can_be_saved_as_a_run(root: Path, image: Path) -> None:
    app, card = opened(root)
    app.explore(image)
    wait(card)
    scratch = app.viewer.view.run.path
    keeping = app.header.origin.keeping
    keeping.name.value = "mine"
    keeping.actions._answer(None, {"press": "save"}, [])
    assert app.state.run == "mine"
    assert Run(root / "mine").info.derived_from is not None
    assert not scratch.exists()
    assert "Not saved" not in app.header.origin.line.value


def test_all_panels_of_a_dashboard_show_it(root: Path, image: Path) -> None:
    app = Dashboard(root)
    app.panels["maps"].own.run([image])
    wait(app.panels["maps"].own)
    for tab in ("trends", "pruning"):
        app.state.tab = tab
    assert app.viewer.notice.value == ""
    points = app.panels["trends"].charts[0].figure
    assert '"mode":"markers"' in points
    progress = app.panels["pruning"].progress
    assert '"mode":"markers"' in progress.figure
    assert "Dotted" not in progress.note
    assert progress.mark == 0


def test_an_upload_goes_the_same_way_and_leaves_nothing(root: Path, image: Path) -> None:
    app, card = opened(root)
    content = image.read_bytes()
    card.upload.send = lambda *_: None
    card.upload._answer(None, {"begin": 1, "files": [[image.name, len(content)]]}, [])
    folder = card.upload._folder
    card.upload._answer(None, {"piece": 1, "place": 0, "offset": 0}, [content])
    assert card.job is not None
    with pytest.raises(RunError, match="another image is on its way"):
        card.run([image])
    wait(card)
    assert app.state.run.startswith("small: ")
    assert folder is not None
    assert not folder.exists()


def test_who_has_gone_on_to_another_run_is_not_called_back(root: Path, image: Path) -> None:
    shutil.copytree(root / "small", root / "other")
    app, card = opened(root)
    app.state.run = "small"
    app.explore(image)
    app.state.run = "other"
    wait(card)
    assert app.state.run == "other"
    assert "is ready: it is in the list of runs" in card.said.value
    assert app.state.runs[-1].startswith("small: ")


def test_it_can_be_cancelled(root: Path, image: Path) -> None:
    app, card = opened(root)
    app.explore(image)
    scratch = card.job.scratch
    card.cancel._answer(None, {"press": "cancel"}, [])
    wait(card)
    assert not scratch.exists()
    assert "Cancelled." in card.said.value
    assert app.state.runs == ["small"]


def test_what_cannot_be_read_is_said_in_a_sentence(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a kernel has it.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    app, card = opened(root)
    with pytest.raises(DataError, match="is not there"):
        app.explore(tmp_path / "nothing.nii.gz")
    with pytest.raises(DataError, match="give a NIfTI file"):
        app.explore()
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(gzip.compress(b"no image"))
    for epoch, sentence in ((None, "torn.nii.gz"), (7, "epoch 7")):
        app.explore(torn, epoch=epoch)
        scratch = card.job.scratch
        wait(card)
        assert not scratch.exists()
        assert sentence in card.said.value
        assert "\x1b" not in card.said.value
        assert "sauron-alert" in card.said.value
        assert "Traceback" not in card.said.value
    assert app.state.runs == ["small"]


def test_the_number_of_files_must_be_that_of_the_channels(root: Path, image: Path) -> None:
    _, card = opened(root)
    card.upload.send = lambda *_: None
    sizes = [[f"{i}.nii.gz", 3] for i in range(2)]
    card.upload._answer(None, {"begin": 1, "files": sizes}, [])
    assert "2 files were chosen; this network needs one file" in card.said.value
    assert card.job is None


def test_without_weights_nothing_can_be_shown(root: Path, image: Path) -> None:
    shutil.rmtree(root / "small" / "checkpoints")
    app, card = opened(root)
    assert "No weights of run small are kept" in card.about.value
    assert card.upload.disabled
    with pytest.raises(RunError, match="no weights"):
        app.explore(image)

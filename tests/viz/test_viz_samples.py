"""Augmented samples beside the form of a training."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sauron_train.errors import SauronError
from sauron_viz.apps import TrainingView
from sauron_viz.widgets.training import TrainingPanel


@pytest.fixture
def panel(trained: Path, tmp_path: Path) -> TrainingPanel:
    shutil.copytree(trained.parent / "phantom", tmp_path / "data" / "phantom")
    return TrainingView(tmp_path / "runs", data=tmp_path / "data").panel


def test_samples_are_drawn_of_what_the_form_says_and_leave_nothing_behind(panel: TrainingPanel) -> None:
    samples = panel.samples
    assert samples.card.layout.display == "none"
    panel.form.fields["data.patch"].value = "32 32"
    panel.form.name.value = "no/name that a run may have"
    samples._pressed("draw")
    assert samples.card.layout.display is None
    job = samples._job
    assert job is not None
    assert "--set=data.patch=[32, 32]" in job._program
    job.wait(120)
    content = samples.picture.value.partition("base64,")[2].partition('"')[0]
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.width > 7 * 170
    assert samples.said.value == ""
    assert not job.scratch.exists()


def test_what_cannot_be_drawn_is_said(panel: TrainingPanel, tmp_path: Path) -> None:
    panel.form.fields["epochs"].value = "x"
    panel.samples._pressed("draw")
    assert "epochs must be a whole number" in panel.samples.said.value
    with pytest.raises(SauronError):
        panel.samples.draw()
    panel.form.fields["epochs"].value = ""
    for label in (tmp_path / "data" / "phantom" / "labelsTr").iterdir():
        label.write_bytes(b"no label")
    job = panel.samples.draw()
    job.wait(120)
    assert "cannot be used either: phantom_002" in panel.samples.said.value
    assert 'role="alert"' in panel.samples.said.value

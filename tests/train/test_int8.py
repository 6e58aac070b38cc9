"""Networks in eight bits: smaller files that say what they cost, and that others can read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from commanding import sauron

from sauron_train.checkpoint import load_model
from sauron_train.deploy import libraries
from sauron_train.deploy.engines import openvino_network
from sauron_train.deploy.export import export_run
from sauron_train.deploy.int8 import PATCHES, export_int8
from sauron_train.deploy.portable import KEY
from sauron_train.errors import DataError
from sauron_train.evaluate import evaluate
from sauron_train.runlog import Run

openvino = pytest.importorskip("openvino", reason="openvino of the extra `export` is not installed")
pytest.importorskip("nncf", reason="nncf of the extra `int8` is not installed")


def quiet(_done: int, _total: int, _what: str) -> None:
    pass


def test_a_network_in_eight_bits(cut_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(cut_run)
    made = export_int8(run, tmp_path / "small.xml", None, None, quiet)
    assert capsys.readouterr() == ("", ""), "NNCF writes nothing between our bars"
    assert 0 < made.patches <= PATCHES
    assert {path.name for path in made.files} == {"small.xml", "small.bin"}
    whole = export_run(run, "openvino", tmp_path / "whole.xml")
    assert (tmp_path / "small.bin").stat().st_size < (tmp_path / "whole.bin").stat().st_size
    assert made.dice.keys() == made.dice_int8.keys() == run.info.labels.keys() - {"background"}
    assert abs(made.cost) < 0.1
    measured = evaluate(run, None, None, quiet)
    assert measured["mean_dice"] == pytest.approx(sum(made.dice.values()) / len(made.dice), abs=0.05)
    assert made.seconds > 0
    assert made.seconds_float32 > 0
    assert made.size_float32 == pytest.approx(whole.size, rel=0.02)

    model = openvino.Core().read_model(tmp_path / "small.xml")
    told = json.loads(model.get_rt_info(KEY).astype(str))
    assert told["quantization"]["val_dice"] == made.dice_int8
    assert any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    images = torch.randn(2, 1, 32, 24, generator=torch.Generator().manual_seed(0))
    network, _ = load_model(run.checkpoint(None)[1])
    with torch.no_grad():
        expected = network(images)[-1]
    found = openvino_network(model, 1)(images)[-1]
    assert found.shape == expected.shape
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.8


def test_the_command(cut_run: Path, tmp_path: Path) -> None:
    done = sauron("export", cut_run, "--format", "openvino", "--int8", "--out", tmp_path / "small.xml")
    assert done.returncode == 0, done.stderr
    assert "Dice, int8" in done.stdout
    assert "mean Dice of the validation cases" in done.stdout
    assert re.search(r"a patch takes [\d.]+ ms in 32 bits, [\d.]+ ms in 8 on this machine \([\d.]+\)", done.stdout)
    again = sauron("export", cut_run, "--format", "openvino", "--int8", "--out", tmp_path / "small.xml")
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--int8", "--out", "a.onnx"], "--int8 is for OpenVINO; add --format openvino"),
        (["--out", "a.onnx", "--data", "x"], "--data is only read for --int8; leave it out"),
        (["--int8", "--format", "openvino", "--out", "a.onnx"], "must end in .xml"),
        (["--int8", "--format", "openvino", "--out", "a.xml", "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said(
    cut_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = sauron("export", cut_run, *words)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_missing_library_is_named_with_its_extra(
    cut_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    done = sauron("export", cut_run, "--format", "openvino", "--int8", "--out", tmp_path / "small.xml")
    assert "pip install 'sauron-unet[" in " ".join(done.stderr.split())


def test_data_that_have_changed_are_refused(cut_run: Path, tmp_path: Path, heads: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset.json").write_text((heads / "dataset.json").read_text())
    with pytest.raises(DataError):
        export_int8(Run(cut_run), tmp_path / "small.xml", other, None, quiet)
    assert not (tmp_path / "small.xml").exists()

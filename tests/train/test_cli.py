"""The command line as a person meets it: exit codes, sentences, and nothing left behind by bad input.

The command runs in this process, through its real entry point; one test starts it as a program.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commanding import sauron

from sauron_train.data.phantom import make_phantom
from sauron_train.runlog import Run

SMALL = [
    "--set=epochs=3",
    "--set=data.steps_per_epoch=3",
    "--set=data.workers=0",
    "--set=data.patch=[32, 32]",
    "--set=network.init_filters=4",
    "--set=network.levels=3",
    "--set=prune.first_epoch=2",
    "--set=prune.threshold_start=0.6",
    "--set=prune.threshold_max=0.6",
]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=5, seed=1)


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    done = sauron("run", "--recipe", "phantom2d", "--data", phantom, "--out", out, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "of the FLOPs are left" in " ".join(done.stdout.split())
    return out


def test_help_teaches() -> None:
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["predict", "--help"],
        ["evaluate", "--help"],
        ["score", "--help"],
        ["describe", "--help"],
    ):
        done = sauron(*arguments)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert "phantom2d" in sauron("recipes").stdout
    assert sauron("--version").stdout.startswith("sauron-unet ")


def test_the_program_leaves_with_two(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()", "describe", "phantom2"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no recipe 'phantom2'; did you mean 'phantom2d'?\n"


def test_describe_shows_layers_and_configuration() -> None:
    done = sauron("describe", "hippocampus3d")
    assert "dec_trans_1" in done.stdout
    assert "17 layers" in done.stdout
    done = sauron("describe", "phantom2d", "--config", "--set", "loss.lambda=0.25")
    assert "lambda: 0.25" in done.stdout


def test_a_run_leaves_a_whole_folder(trained: Path) -> None:
    run = Run(trained)
    assert run.status == "finished"
    epochs = run.epochs()
    assert epochs["epoch"].tolist() == [1, 2, 3]
    assert epochs["filters"].iloc[-1] < epochs["filters"].iloc[0]
    assert epochs["flops"].iloc[-1] < run.info.flops
    assert run.map_epochs() == [1, 3]
    assert set(run.checkpoints()) == {1, 3}
    last = run.layers().query("epoch == 3").set_index("layer")["filters"]
    for layer in run.info.layers:
        maps = run.maps(3, layer.name)
        assert len(maps.filters) == last[layer.name]
        gone = {r.filter for p in run.prunings() if p.layer == layer.name for r in p.removed}
        assert sorted(gone | set(maps.filters.tolist())) == list(range(layer.filters))
    kept_then = {(p.layer, p.epoch): p.filters_after for p in run.prunings()}
    assert kept_then, "the thresholds of this test cut something"


def test_predict_and_evaluate(trained: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    done = sauron("predict", trained, phantom / "imagesTr", "--out", out)
    assert done.returncode == 0, done.stderr
    image = sorted((phantom / "imagesTr").iterdir())[0]
    label = nib.load(out / image.name.replace("_0000", ""))
    assert label.shape == nib.load(image).shape
    np.testing.assert_allclose(label.affine, nib.load(image).affine)
    again = sauron("predict", trained, image, "--out", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "--skip-existing" in again.stderr
    done = sauron("evaluate", trained)
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "evaluation.json").read_text())
    assert 0 <= result["mean_dice"] <= 1
    assert len(result["cases"]) == len(Run(trained).info.validation_cases)


def test_another_data_set_is_not_scored(trained: Path, tmp_path: Path) -> None:
    other = make_phantom(tmp_path / "other", dim=2, cases=5, seed=2)
    done = sauron("evaluate", trained, "--data", other)
    assert done.returncode == 2
    assert "is not the data set that run first was trained on" in done.stderr


@pytest.mark.soak
def test_a_run_that_is_terminated_says_so_and_keeps_its_latest_network(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()", "run", "--recipe", "phantom2d"]
    more = ["--data", str(phantom), "--out", str(out), *SMALL, "--set=epochs=1000", "--set=maps.every=500"]
    with subprocess.Popen([*program, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.split()[:1] == ["3"] for line in lines), "the third epoch is announced"
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 143
    assert "stopped; the epochs that were finished are whole in" in rest
    assert f"Go on with: sauron-train resume {out}" in rest
    run = Run(out)
    assert run.status == "stopped"
    assert run.last_epoch >= 3
    assert max(run.checkpoints()) == run.last_epoch


@pytest.mark.soak
def test_a_run_goes_on_when_nobody_reads_what_it_prints(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()", "run", "--recipe", "phantom2d"]
    more = ["--data", str(phantom), "--out", str(out), *SMALL]
    with subprocess.Popen([*program, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert Run(out).status == "finished"
    assert Run(out).last_epoch == 3


def broken(phantom: Path, folder: Path, how: str) -> Path:
    data = folder / "data"
    shutil.copytree(phantom, data)
    first = sorted((data / "labelsTr").iterdir())[0]
    if how == "no dataset.json":
        (data / "dataset.json").unlink()
    elif how == "image without label":
        first.unlink()
    elif how == "unknown label value":
        label = nib.load(first)
        voxels = np.asarray(label.dataobj).copy()
        voxels[0, 0, 0] = 7
        nib.save(nib.Nifti1Image(voxels, label.affine), first)
    elif how == "background only":
        for path in (data / "labelsTr").iterdir():
            label = nib.load(path)
            nib.save(nib.Nifti1Image(np.zeros(label.shape, dtype=np.uint8), label.affine), path)
    return data


@pytest.mark.parametrize(
    ("how", "extra", "sentence"),
    [
        ("no dataset.json", [], "dataset.json"),
        ("image without label", [], "has no label"),
        ("unknown label value", [], "label value 7"),
        ("background only", [], "no training case of Phantom2D has a voxel of any structure"),
        ("", ["--set", "data.channels=2"], "has 1 channels but the recipe is made for 2"),
        ("", ["--set", "loss.lamda=1"], "did you mean 'loss.lambda'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    phantom: Path, tmp_path: Path, how: str, extra: list[str], sentence: str
) -> None:
    data = broken(phantom, tmp_path, how)
    done = sauron("run", "--recipe", "phantom2d", "--data", data, "--out", tmp_path / "out", *SMALL, *extra)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_other_bad_input(phantom: Path, trained: Path, tmp_path: Path) -> None:
    cases = [
        (["run", "--recipe", "phantom2", "--data", phantom, "--out", tmp_path / "o"], "did you mean 'phantom2d'"),
        (["run", "--recipe", "phantom2d", "--data", phantom, "--out", trained], "exists already"),
        (["run", "--recipe", "phantom2d", "--data", tmp_path / "no", "--out", tmp_path / "o"], "there is no folder"),
        (["predict", tmp_path, phantom, "--out", tmp_path / "o"], "not a run folder"),
        (["predict", trained, tmp_path / "none", "--out", tmp_path / "o"], "is not there"),
        (["predict", trained, phantom, "--out", tmp_path / "o", "--epoch", "2"], "keeps no weights of epoch 2"),
        (["evaluate", trained, "--data", tmp_path], "dataset.json"),
        (["phantom", phantom], "exists"),
    ]
    for arguments, sentence in cases:
        done = sauron(*arguments)
        assert done.returncode == 2, arguments
        assert sentence in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "o").exists()

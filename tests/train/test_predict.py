"""Segmenting and scoring as a person does it, with a network that was hardly trained."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commanding import sauron
from scipy.spatial.transform import Rotation

from sauron_train.data.inputs import images_in
from sauron_train.data.phantom import make_phantom
from sauron_train.predict import Output, evaluate
from sauron_train.predictor import Inference, Predictor, chosen_classes, untrained_flips
from sauron_train.runlog import Run
from sauron_train.runlog.files import EVALUATION, EVALUATION_TABLE, INFO

TINY = [
    *("epochs=2", "data.steps_per_epoch=60", "data.foreground=1.0", "data.batch_size=4", "data.patch=[16, 16]"),
    *("network.init_filters=8", "network.levels=2", "prune.enabled=false", "loss.lambda=0", "optimizer.lr=0.01"),
    *("augment.scale_p=0", "augment.rotation_p=0", "augment.gamma_p=0"),
    *("data.workers=0", "probe.images=1", "hardware.accelerator=cpu"),
]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=5, seed=1, size=(24, 22, 6))


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    changes = [f"--set={change}" for change in TINY]
    done = sauron("run", "--recipe", "phantom2d", "--data", phantom, "--out", out, *changes)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run, to be written into."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def image(phantom: Path, number: int = 1) -> Path:
    return phantom / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_a_run_records_how_its_images_lie(trained: Path, run: Path, phantom: Path) -> None:
    info = Run(trained).info
    assert info.orientation == "".join(nib.aff2axcodes(nib.load(image(phantom)).affine))
    assert info.spacing == pytest.approx(nib.load(image(phantom)).header.get_zooms(), rel=1e-5)
    values = json.loads((run / INFO).read_text())
    del values["orientation"], values["spacing"]
    (run / INFO).write_text(json.dumps(values))
    assert (Run(run).info.orientation, Run(run).info.spacing) == ("", ())
    assert Predictor.from_run(Run(run)).load([image(phantom)]).image.any()


def test_an_image_in_any_of_48_orientations_gives_the_same_labels(trained: Path, phantom: Path, tmp_path: Path) -> None:
    source = nib.load(image(phantom))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (10, -15, 20), degrees=True).as_matrix() @ source.affine[:3, :3]
    affine[:3, 3] = (12, -40, 7)
    oblique = nib.Nifti1Image(np.asarray(source.dataobj), affine)
    turns = [
        np.array(tuple(zip(axes, flips, strict=True)))
        for axes in itertools.permutations(range(3))
        for flips in itertools.product((1, -1), repeat=3)
    ]
    (tmp_path / "images").mkdir()
    for number, turn in enumerate(turns):
        nib.save(oblique.as_reoriented(turn), tmp_path / "images" / f"t{number:02d}_0000.nii")
    done = sauron(
        "predict", trained, tmp_path / "images", "--out", tmp_path / "out", "--probabilities", "--overlap", "0"
    )
    assert done.returncode == 0, done.stderr
    assert "t01: its axes lead to" in done.stdout
    expected = nib.load(tmp_path / "out" / "t00.nii.gz")
    assert len(np.unique(expected.dataobj)) > 1, "the network is trained enough for this test"
    classes = nib.load(tmp_path / "out" / "t00_probabilities.nii.gz")
    for number, turn in enumerate(turns):
        labels = nib.load(tmp_path / "out" / f"t{number:02d}.nii.gz")
        probabilities = nib.load(tmp_path / "out" / f"t{number:02d}_probabilities.nii.gz")
        np.testing.assert_array_equal(labels.affine, nib.load(tmp_path / "images" / f"t{number:02d}_0000.nii").affine)
        np.testing.assert_array_equal(labels.dataobj, expected.as_reoriented(turn).dataobj)
        np.testing.assert_array_equal(probabilities.dataobj, classes.as_reoriented(turn).dataobj)
    np.testing.assert_array_equal(np.asarray(classes.dataobj).argmax(axis=-1), expected.dataobj)


def spoil(images: Path) -> dict[str, str]:
    """Damage all but one image of a folder, each in its own way; what the sentence about each must say."""
    first = nib.load(images / "phantom_001_0000.nii.gz")
    data = np.asarray(first.dataobj).astype(np.float32)
    holed = data.copy()
    holed[0, 0, 0] = np.nan
    colour = np.zeros(data.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for number, wrong in ((2, holed), (3, data[..., None].repeat(2, axis=-1)), (4, colour)):
        nib.save(nib.Nifti1Image(wrong, first.affine), images / f"phantom_{number:03d}_0000.nii.gz")
    whole = (images / "phantom_005_0000.nii.gz").read_bytes()
    (images / "phantom_005_0000.nii.gz").write_bytes(whole[:-40])
    shutil.copy(images / "phantom_001_0000.nii.gz", images / "odd.nii.gz")
    return {
        "phantom_002": "has 1 voxel of",
        "phantom_003": "has 4 dimensions",
        "phantom_004": "store one real number per voxel",
        "phantom_005": "it is damaged or incomplete",
        "odd.nii.gz": "is not named CASE_0000",
    }


def test_a_batch_goes_on_without_the_cases_that_cannot_be_used(trained: Path, phantom: Path, tmp_path: Path) -> None:
    images, out = Path(shutil.copytree(phantom / "imagesTr", tmp_path / "images")), tmp_path / "out"
    sentences = spoil(images)
    done = sauron("predict", trained, images, "--out", out)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    for name, sentence in sentences.items():
        assert any(line.startswith(f"left out {name}: ") and sentence in line for line in lines), name
    assert lines[-1].startswith("error: 5 of 6 cases could not be used and were left out: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in out.iterdir()] == ["phantom_001.nii.gz"]
    (images / "phantom_001_0000.nii.gz").unlink()
    none = sauron("predict", trained, images, "--out", tmp_path / "none")
    assert none.returncode == 2
    assert "error: none of the 5 cases can be used; " in none.stderr
    alone = sauron("predict", trained, images / "phantom_002_0000.nii.gz", "--out", tmp_path / "none")
    assert alone.returncode == 2
    assert alone.stderr.count("\n") == 1
    assert "phantom_002_0000.nii.gz has 1 voxel of" in alone.stderr
    labels = sauron("predict", trained, phantom / "labelsTr", "--out", tmp_path / "none")
    assert "_0000.nii.gz, as images are" in labels.stderr
    assert not (tmp_path / "none").exists()


def test_a_batch_that_was_interrupted_goes_on(trained: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sauron("predict", trained, image(phantom), "--out", out).returncode == 0
    mark = b"not to be touched"
    (out / "phantom_001.nii.gz").write_bytes(mark)
    again = sauron("predict", trained, phantom / "imagesTr", "--out", out)
    assert again.returncode == 2
    assert "phantom_001.nii.gz exists already" in again.stderr
    assert len(list(out.iterdir())) == 1
    done = sauron("predict", trained, phantom / "imagesTr", "--out", out, "--skip-existing")
    assert done.returncode == 0, done.stderr
    assert "4 label maps in" in done.stdout
    assert "1 there already" in done.stdout
    assert (out / "phantom_001.nii.gz").read_bytes() == mark
    assert sauron("predict", trained, image(phantom), "--out", out, "--overwrite").returncode == 0
    assert voxels(out / "phantom_001.nii.gz").shape == nib.load(image(phantom)).shape
    both = sauron("predict", trained, image(phantom), "--out", out, "--overwrite", "--skip-existing")
    assert both.returncode == 2
    # A label map without the probabilities that are asked for is not done.
    assert Output(out, probabilities=True, existing="skip").to_do(images_in([image(phantom)], 1).cases)
    assert not Output(out, existing="skip").to_do(images_in([image(phantom)], 1).cases)


def test_an_image_is_never_written_over(trained: Path, phantom: Path, tmp_path: Path) -> None:
    scan = Path(shutil.copy(image(phantom), tmp_path / "scan.nii.gz"))
    before = scan.read_bytes()
    done = sauron("predict", trained, scan, "--out", tmp_path, "--overwrite")
    assert done.returncode == 2
    assert "is an image that is to be segmented" in done.stderr
    assert scan.read_bytes() == before


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_is_no_folder_for_label_maps(trained: Path, phantom: Path, tmp_path: Path, inside: str) -> None:
    file = tmp_path / "README.md"
    file.touch()
    done = sauron("predict", trained, image(phantom), "--out", file / inside)
    assert done.returncode == 2
    assert done.stderr == f"error: {file} is a file; name a folder for the label maps with --out\n"


def test_options_change_what_is_written(trained: Path, phantom: Path, tmp_path: Path) -> None:
    source = image(phantom)
    for name, *options in (("plain",), ("flips", "--flips"), ("largest", "--largest-component")):
        done = sauron("predict", trained, source, "--out", tmp_path / name, "--probabilities", *options)
        assert done.returncode == 0, done.stderr
    plain, flips, largest = (voxels(tmp_path / name / "phantom_001.nii.gz") for name in ("plain", "flips", "largest"))
    of_flips = voxels(tmp_path / "flips" / "phantom_001_probabilities.nii.gz")
    assert not np.array_equal(of_flips, voxels(tmp_path / "plain" / "phantom_001_probabilities.nii.gz"))
    np.testing.assert_array_equal(of_flips.argmax(axis=-1), flips)
    kept = (largest > 0) & (plain > 0)
    np.testing.assert_array_equal(largest[kept], plain[kept])
    assert not (largest[plain == 0]).any()
    wrong = sauron("predict", trained, source, "--out", tmp_path / "no", "--largest-of", "spleen")
    assert wrong.returncode == 2
    assert "'spleen' is no class of this run; it has " in wrong.stderr
    if not torch.cuda.is_available():
        assert "sees no GPU" in sauron("predict", trained, source, "--out", tmp_path / "no", "--device", "cuda").stderr
    assert not (tmp_path / "no").exists()


def test_flips_that_were_never_trained_are_told_of(trained: Path) -> None:
    config = Run(trained).config
    for axes, p, missing in (((0, 1), 0.5, ()), ((0,), 0.5, (1,)), ((0, 1), 0.0, (0, 1))):
        augment = config.augment.model_copy(update={"flip_axes": axes, "flip_p": p})
        assert untrained_flips(config.model_copy(update={"augment": augment})) == missing


def test_classes_are_chosen_by_name() -> None:
    labels = {"background": 0, "a": 1, "b": 2}
    assert chosen_classes(labels, every=True, named=()) == ("a", "b")
    assert chosen_classes(labels, every=False, named=("b",)) == ("b",)
    assert chosen_classes(labels, every=False, named=()) == ()


def test_scores_are_those_of_the_label_maps_that_are_written(run: Path, phantom: Path, tmp_path: Path) -> None:
    done = sauron("evaluate", run, "--tolerance", "3", "--overlap", "0.25")
    assert done.returncode == 0, done.stderr
    result = json.loads((run / EVALUATION).read_text())
    assert (result["tolerance_mm"], result["overlap"], result["flips"]) == (3, 0.25, False)
    names = [f"{case}_0000.nii.gz" for case in Run(run).info.validation_cases]
    images = [phantom / "imagesTr" / name for name in names]
    out, table = tmp_path / "out", tmp_path / "scores.csv"
    assert sauron("predict", run, *images, "--out", out, "--overlap", "0.25").returncode == 0
    (out / "notes.txt").write_text("no label map")
    scored = sauron("score", out, "--data", phantom, "--out", table, "--tolerance", "3")
    assert scored.returncode == 0, scored.stderr
    assert "without a label map" in scored.stdout
    assert table.read_text() == (run / EVALUATION_TABLE).read_text()
    rows = list(csv.DictReader(table.open()))
    labels = nib.load(out / names[0].replace("_0000", ""))
    assert {row["class"] for row in rows} == set(Run(run).info.labels) - {"background"}
    first = rows[0]
    value = Run(run).info.labels[first["class"]]
    count = (np.asarray(labels.dataobj) == value).sum()
    assert float(first["predicted_ml"]) == pytest.approx(count * np.prod(labels.header.get_zooms()) / 1000, abs=1e-5)
    assert sauron("score", out, "--data", phantom, "--out", table).returncode == 2
    numbered = sauron("score", out, "--data", phantom / "labelsTr")
    assert first["class"] in numbered.stdout


def test_label_maps_that_cannot_be_scored_are_left_out(phantom: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(phantom / "labelsTr", tmp_path / "labels"))
    paths = sorted(folder.iterdir())
    turn = np.array([[1, -1], [2, 1], [0, 1]])
    nib.save(nib.load(paths[4]).as_reoriented(turn), paths[4])  # turned, which is no obstacle
    for path, change in zip(paths[:4], ("empty", "moved", "smaller", "other value"), strict=True):
        label = nib.load(path)
        data, affine = np.asarray(label.dataobj).copy(), label.affine.copy()
        if change == "empty":
            data[:] = 0
        elif change == "moved":
            affine[0, 3] += 50
        elif change == "smaller":
            data = data[:-1]
        else:
            data[0, 0, 0] = 9
        nib.save(nib.Nifti1Image(data, affine), path)
    done = sauron("score", folder, "--data", phantom)
    assert done.returncode == 2
    for path, sentence in zip(paths[1:4], ("lies elsewhere than", "voxels but", "label value 9"), strict=True):
        name = path.name.removesuffix(".nii.gz")
        assert any(f"left out {name}" in line and sentence in line for line in done.stderr.splitlines())
    assert "was missed in 1 case: its Dice and surface Dice are 0 there" in done.stdout
    assert "3 of 5 cases could not be used" in done.stderr
    table = tmp_path / "scores.csv"
    assert sauron("score", folder, "--data", phantom, "--out", table).returncode == 2
    partial = Path(shutil.copytree(phantom, tmp_path / "partial"))
    lacking = paths[4].name.removesuffix(".nii.gz")
    (partial / "imagesTr" / f"{lacking}_0000.nii.gz").unlink()
    done = sauron("score", partial / "labelsTr", "--data", partial)
    assert done.returncode == 2
    assert f"left out {lacking}" in done.stderr
    assert "1 of 5 cases could not be used" in done.stderr
    rows = [row for row in csv.DictReader(table.open()) if row["case"] == paths[4].name.removesuffix(".nii.gz")]
    assert {row["dice"] for row in rows if row["reference_ml"] != "0"} == {"1"}
    (folder / "dataset.json").unlink(missing_ok=True)
    swapped = sauron("score", phantom / "labelsTr", "--data", folder)
    assert "(false alarms)" in swapped.stdout
    assert sauron("score", folder, "--data", tmp_path).returncode == 2
    assert "there is no folder" in sauron("score", tmp_path / "none", "--data", phantom).stderr


def test_what_predict_and_evaluate_are_called_by(trained: Path) -> None:
    result = evaluate(Run(trained), None, None, lambda *_: None, Inference(largest_component=("lesion",)))
    assert result["largest_component"] == ["lesion"]
    assert len(result["cases"]) == len(Run(trained).info.validation_cases)

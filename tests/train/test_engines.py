"""Other programs that compute a network: which is chosen, that it says what torch says, and how long each takes."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commanding import sauron

from sauron_train.arguments import image_size
from sauron_train.config import NetworkConfig
from sauron_train.data.inputs import images_in
from sauron_train.deploy import choice, trial
from sauron_train.deploy.benchmark import COLUMNS
from sauron_train.deploy.choice import choose, patches_of
from sauron_train.deploy.engines import NEEDS, EngineName, Network
from sauron_train.deploy.timing import Load, interleaved, peak_memory
from sauron_train.deploy.trial import TOLERANCE, example, fastest
from sauron_train.errors import ConfigError, RunError
from sauron_train.inference import class_probabilities
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.predict import Listeners, Output, predict
from sauron_train.predictor import Inference, Predictor
from sauron_train.runlog import Run

CPU = torch.device("cpu")


def needed(engine: EngineName) -> None:
    for name in NEEDS[engine]:
        pytest.importorskip(name, reason=f"{name} of the extra `export` is not installed")


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_segments_as_torch_does(engine: EngineName, cut_run: Path, heads: Path, tmp_path: Path) -> None:
    needed(engine)
    image = heads / "imagesTr" / "phantom_001_0000.nii.gz"
    for name in ("torch", engine):
        done = sauron(
            "predict", cut_run, image, "--out", tmp_path / name, "--engine", name, "--probabilities", "--flips"
        )
        assert done.returncode == 0, done.stderr
        assert "as was asked for" in done.stdout
    by_torch, found = (voxels(tmp_path / name / "phantom_001_probabilities.nii.gz") for name in ("torch", engine))
    np.testing.assert_allclose(found, by_torch, atol=TOLERANCE)
    assert not np.array_equal(found, by_torch), "another program computed it"


def test_an_engine_that_computes_something_else_is_not_taken(
    cut_run: Path, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, images = Run(cut_run), [heads / "imagesTr" / "phantom_001_0000.nii.gz"]
    other = Predictor.from_run(run).model
    monkeypatch.setattr(trial, "network_on", lambda *_: lambda images: (1.01 * other(images)[-1],))
    monkeypatch.setattr(choice, "library", lambda _name: None)
    with pytest.raises(RunError, match=r"OpenVINO computes something else than torch here .* choose --engine torch"):
        Predictor.from_run(run, None, Inference(engine="openvino")).ready_for(images)
    _, chosen = fastest(other, ["openvino"], 1, (32, 32))
    assert chosen.engine == "torch"
    assert "computes something else" in chosen.sentence()


@pytest.mark.parametrize(("delay", "engine"), [(0.0, "onnx"), (0.5, "torch")])
def test_the_fastest_engine_is_found_by_trying(delay: float, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=4), 1, 2)
    model = UNet(spec, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        answers = {images.shape: model(images) for images in (example(model, (16, 16)),)}

    def known_by_heart(*_: object) -> Network:
        def network(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            time.sleep(delay)
            return answers[images.shape]

        return network

    monkeypatch.setattr(trial, "network_on", known_by_heart)
    network, chosen = fastest(model, ["onnx"], 1, (16, 16))
    assert chosen.engine == engine
    assert (network is model) == (engine == "torch")
    assert "ms in torch, " in chosen.why


def test_engines_are_tried_where_there_is_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "available", lambda: ["openvino", "onnx", "torch"])
    large, small = 10**11, 10**6
    assert choose("auto", CPU, 1000, large, 1) is None
    few = choose("auto", CPU, 1000, small, 1)
    assert few is not None
    assert few.sentence() == "computed by torch: about 1000 patches, too few for a faster engine to be got ready"
    # What is enough for one thread is not for many.
    assert choose("auto", CPU, 10, large, 1) is None
    assert choose("auto", CPU, 10, large, 64) is not None
    gpu = torch.device("cuda")
    on_gpu = choose("auto", gpu, 1000, large, 1)
    assert on_gpu is not None
    assert on_gpu.sentence() == "computed by torch: it runs on the GPU"
    with pytest.raises(ConfigError, match="--engine onnx runs on a CPU only"):
        choose("onnx", gpu, 1000, large, 1)
    monkeypatch.setattr(choice, "available", lambda: ["torch"])
    alone = choose("auto", CPU, 1000, large, 1)
    assert alone is not None
    assert "sauron-unet[export]" in alone.why


@pytest.mark.parametrize("spacing", [None, (2.0, None, 1.0)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_patches_are_counted_as_they_come(
    cut_run: Path, heads: Path, tmp_path: Path, overlap: float, spacing: tuple[float | None, ...] | None
) -> None:
    image = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((40, 21, 5), dtype=np.float32), np.diag([1, 2, 3, 1])), image)
    config = Run(cut_run).config
    patch = (12, 8)
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"patch": patch}),
            "preprocess": config.preprocess.model_copy(update={"spacing": spacing}),
        }
    )
    seen = 0

    def network(windows: torch.Tensor) -> tuple[torch.Tensor]:
        nonlocal seen
        seen += len(windows)
        return (windows.repeat(1, 2, 1, 1),)

    sides = (40, 21, 5) if spacing is None else (20, 21, 15)
    class_probabilities(network, torch.zeros(sides[2], 1, *sides[:2]), patch, CPU, overlap, flips=True)
    assert patches_of([image], config, overlap, flips=True) == seen


def test_a_case_that_breaks_after_it_was_checked_is_left_out_and_named(
    cut_run: Path, heads: Path, tmp_path: Path
) -> None:
    images = Path(shutil.copytree(heads / "imagesTr", tmp_path / "images"))
    broken = images / "phantom_003_0000.nii.gz"
    told: dict[str, str] = {}
    threads: set[str] = set()

    def progress(_done: int, _total: int, what: str) -> None:
        threads.update(thread.name for thread in threading.enumerate())
        if what == "phantom_001":  # all were checked; the first is segmented while the second is read
            broken.write_bytes(broken.read_bytes()[:100])

    tell = Listeners(progress, lambda *_: None, told.__setitem__)
    done = predict(Run(cut_run), [images], Output(tmp_path / "out"), Inference(), None, tell)
    assert list(told) == ["phantom_003"] == list(done.left_out)
    assert "phantom_003_0000.nii.gz" in told["phantom_003"]
    assert [path.name for path in done.written] == [f"phantom_00{number}.nii.gz" for number in (1, 2, 4, 5)]
    assert all(path.is_file() for path in done.written)
    assert {name for name in threads if name.startswith("reading")} == {"reading_0"}, "one thread reads ahead"
    assert not any(thread.name.startswith("reading") for thread in threading.enumerate())
    # Each label map is that of its own image.
    for case in images_in([images / "phantom_005_0000.nii.gz"], 1).cases:
        alone = Output(tmp_path / "alone")
        predict(Run(cut_run), case.images, alone, Inference(), None, tell)
        np.testing.assert_array_equal(voxels(alone.labels(case)), voxels(Output(tmp_path / "out").labels(case)))


def test_evaluate_says_what_computed(cut_run: Path, tmp_path: Path) -> None:
    needed("onnx")
    run = Path(shutil.copytree(cut_run, tmp_path / "run"))
    scores = {}
    for engine in ("torch", "onnx"):
        assert sauron("evaluate", run, *(["--engine", engine] if engine != "torch" else [])).returncode == 0
        result = json.loads((run / "evaluation.json").read_text())
        assert result["engine"] == engine
        scores[engine] = result["mean_dice"]
    assert scores["onnx"] == pytest.approx(scores["torch"], abs=1e-3)


def test_a_benchmark_times_both_networks(cut_run: Path, tmp_path: Path) -> None:
    needed("onnx")
    options = ("--engine", "torch", "--engine", "onnx", "--threads", "1", "--rounds", "3", "--no-memory")
    done = sauron("benchmark", cut_run, *options, "--size", "16x24", "--out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    found, run = json.loads((tmp_path / "b.json").read_text()), Run(cut_run)
    assert (found["size"], found["batch"], found["rounds"]) == ([16, 24], 1, 3)
    assert [row["engine"] for row in found["rows"]] == ["torch", "onnx"]
    for row in found["rows"]:
        assert row["seconds_cut_q25"] <= row["seconds_cut"] <= row["seconds_cut_q75"]
        assert row["time_ratio"] == pytest.approx(row["seconds_cut"] / row["seconds_unpruned"])
        assert row["gap"] == pytest.approx(row["time_ratio"] / row["flops_ratio"])
        assert row["flops_ratio"] == pytest.approx(found["flops_cut"] / found["flops_unpruned"])
        assert row["parameters_cut"] < row["parameters_unpruned"] <= run.info.parameters
        assert row["memory_mb_cut"] is None
    done = sauron("benchmark", cut_run, *options[:2], *options[4:], "--out", tmp_path / "b.csv", "--batch", "2")
    assert done.returncode == 0, done.stderr
    assert "gap" in done.stdout
    rows = list(csv.DictReader((tmp_path / "b.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1
    assert sauron("benchmark", cut_run, "--out", tmp_path / "b.csv").returncode == 2
    assert "must end in .json or .csv" in sauron("benchmark", cut_run, "--out", tmp_path / "b.txt").stderr
    assert "multiples of 4" in sauron("benchmark", cut_run, "--size", "16x18").stderr


def test_sizes_are_read_as_people_write_them() -> None:
    assert image_size("160x96X32", 3, 16) == (160, 96, 32)
    for text in ("160", "160x", "160xa", "1.5x32", "16x32x8"):
        with pytest.raises(ConfigError, match="must be 2 numbers with an x between them, as in 128x128"):
            image_size(text, 2, 8)
    with pytest.raises(ConfigError, match="at least 16"):
        image_size("8x8", 2, 8)


def test_what_is_slower_is_measured_as_slower() -> None:
    order: list[str] = []
    images = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))

    def work(name: str, times: int) -> None:
        order.append(name)
        for _ in range(times):
            torch.mm(images, images)

    spreads = interleaved({"small": lambda: work("small", 100), "large": lambda: work("large", 800)}, 5, CPU)
    assert spreads["small"].median < spreads["large"].median
    assert all(spread.q25 <= spread.median <= spread.q75 for spread in spreads.values())
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes >= 5, "they took turns"


@pytest.mark.soak
def test_memory_is_that_of_the_network() -> None:
    spec = UNetSpec(2, 1, 2, 2, "instance", dict.fromkeys(UNET_LAYERS, 16))
    found = peak_memory(Load(spec, "torch", 1, (512, 512), 1, "cpu"))
    if found is None:
        pytest.skip("this system does not tell how much memory a process had at its peak")
    one_map = 16 * 512 * 512 * 4 / 2**20
    assert 2 * one_map < found < 12 * one_map
    with pytest.raises(RunError, match="could not be measured"):
        peak_memory(Load(spec, "torch", 1, (511, 512), 1, "cpu"))


UNET_LAYERS = ("enc_conv_1", "enc_conv_2", "enc_conv_3", "enc_conv_4", "dec_trans_1", "dec_conv_1", "dec_conv_2")

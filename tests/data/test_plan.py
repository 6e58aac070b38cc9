"""Recipes that are planned by looking at a data set: what was decided, and that it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import miniatures
import numpy as np
import pytest
import torch
import yaml
from data_making import LABELS, write, write_case, write_dataset, write_json
from typer.testing import CliRunner

from sauron_train.cli import app
from sauron_train.config import NetworkConfig, parse
from sauron_train.data.datasets import read_dataset
from sauron_train.data.survey import Survey, survey
from sauron_train.errors import ConfigError
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.losses import deep_supervision_loss
from sauron_train.memory import step_memory
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.plan import Choice, as_recipe, plan

GIB = 2**30


def look(root: Path, cases: int = 20) -> Survey:
    return survey(read_dataset(root), cases, 0, lambda *_: None)


def like(seen: Survey, shape: tuple[int, int, int], spacing: tuple[float, float, float], cases: int = 40) -> Survey:
    return replace(seen, shapes=np.array([shape] * cases), spacings=np.array([spacing] * cases))


def chosen(seen: Survey, memory: float = 4.0, dim: int | None = None) -> dict[str, Choice]:
    return {choice.key: choice for choice in plan(seen, "mine", int(memory * GIB), dim)}


@pytest.fixture
def seen(tmp_path: Path) -> Survey:
    return look(write_dataset(tmp_path / "data"))


@pytest.mark.parametrize(
    ("shape", "spacing", "dim", "axis", "why"),
    [
        ((256, 256, 120), (1.0, 1.0, 1.2), 3, None, "at most 1.2 times"),
        ((320, 320, 40), (0.7, 0.7, 6.0), 2, 2, "8.6 times as thick"),
        ((24, 320, 320), (5.0, 0.7, 0.7), 2, 0, "largest spacing, 5 mm"),
        ((200, 200, 10), (1.0, 1.0, 1.0), 2, 2, "fewest voxels, 10"),
    ],
)
def test_slices_or_volumes_as_the_voxels_are(
    seen: Survey, shape: tuple[int, int, int], spacing: tuple[float, float, float], dim: int, axis: int, why: str
) -> None:
    found = chosen(like(seen, shape, spacing))
    assert found["network.dim"].value == dim
    assert ("data.slice_axis" in found) == (dim == 2)
    assert dim == 3 or found["data.slice_axis"].value == axis
    assert why in " ".join(choice.why for choice in found.values())
    assert chosen(like(seen, shape, spacing), dim=5 - dim)["network.dim"].value == 5 - dim


def test_what_is_spaced_differently_is_resampled_to_the_median(seen: Survey) -> None:
    spacings = np.array([[1.0, 1.0, 2.0]] * 3 + [[1.5, 1.5, 2.0]] * 2 + [[0.9, 0.9, 2.1]])
    mixed = replace(seen, shapes=np.full((6, 3), 100), spacings=spacings)
    assert chosen(mixed)["preprocess.spacing"].value == [1.0, 1.0, None]
    assert "differ by up to 1.7 times" in chosen(mixed)["preprocess.spacing"].why
    assert chosen(like(seen, (100, 100, 100), (1, 1, 2)))["preprocess.spacing"].value is None
    thick = replace(mixed, spacings=spacings * [1, 1, 4] * np.array([1, 1, 1, 1, 1, 2])[:, None])
    assert chosen(thick)["preprocess.spacing"].value[2] is None, "slices are never made up in 2D"


@pytest.mark.parametrize("memory", [0.5, 2.0, 12.0])
def test_patches_are_as_large_as_memory_allows_and_fit_it(seen: Survey, memory: float) -> None:
    found = chosen(like(seen, (240, 240, 155), (1.0, 1.0, 1.0)), memory)
    patch, batch = found["data.patch"].value, found["data.batch_size"].value
    network = NetworkConfig(dim=3, levels=found["network.levels"].value, init_filters=24)
    needed = step_memory(network, 1, 3, patch, batch)
    assert needed <= memory * GIB
    assert step_memory(network, 1, 3, [side + 2 ** (network.levels - 1) for side in patch], 2 * batch) > memory * GIB
    assert patch[0] == patch[1] >= patch[2]
    assert "more than memory takes" in found["data.patch"].why or memory > 10


def test_what_does_not_fit_at_all_is_refused(seen: Survey) -> None:
    with pytest.raises(ConfigError, match=r"not even a patch of .* fits into 0\.0 GiB; give more with --memory"):
        chosen(like(seen, (200, 200, 200), (1, 1, 1)), 0.002)


@pytest.mark.parametrize("dim", [2, 3])
def test_memory_is_what_a_step_keeps(dim: int) -> None:
    network = NetworkConfig(dim=dim, levels=3, init_filters=4)
    patch = [32] * dim
    model = UNet(UNetSpec.unpruned(network, 1, 2)).train()
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(torch.zeros(2, 1, *patch))
    deep_supervision_loss(outputs, torch.zeros(2, *patch, dtype=torch.long)).backward()
    told = step_memory(network, 1, 2, patch, 2)
    assert sum(kept.values()) < told < 3 * sum(kept.values())
    assert step_memory(network, 1, 2, patch, 4) > 1.6 * told


def test_ct_keeps_its_numbers_and_mr_is_normalised(seen: Survey, tmp_path: Path) -> None:
    assert chosen(seen)["augment.z_normalise"].value is True
    root = tmp_path / "ct"
    write_json(root, channel_names={"0": "CT"})
    rng = np.random.default_rng(0)
    label = np.zeros((24, 24, 20), dtype=np.uint8)
    label[6:18, 6:18, 4:16] = 1
    for name in ("a", "b"):
        image = np.where(label > 0, rng.normal(60, 20, label.shape), -1000).astype(np.float32)
        write(root / "imagesTr" / f"{name}_0000.nii.gz", image)
        write(root / "labelsTr" / f"{name}.nii.gz", label)
    found = chosen(look(root))
    assert found["augment.z_normalise"].value is False
    assert found["preprocess.shift_scale"].value == pytest.approx([60, 20], abs=1.5)
    low, high = found["preprocess.clip"].value
    assert low == pytest.approx(60 - 2.58 * 20, abs=4)
    assert high == pytest.approx(60 + 2.58 * 20, abs=4)
    values = json.loads((root / "dataset.json").read_text()) | {"channel_names": {"0": "scan"}}
    (root / "dataset.json").write_text(json.dumps(values))
    assert look(root).hounsfield, "air tells it"


def test_axes_that_lead_different_ways_are_compared_turned(tmp_path: Path) -> None:
    write_json(tmp_path)
    for place, (name, order) in enumerate({"a": (0, 1, 2), "b": (2, 0, 1), "c": (0, 1, 2)}.items()):
        affine = np.eye(4)
        affine[:3, :3] = np.diag([1.0, 1.0, 6.0])[:, order]
        shape = np.array((24, 20, 6))[list(order)]
        label = np.zeros(shape, dtype=np.uint8)
        label[1:4, 1:4, 1:4] = 1
        write(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", np.full(shape, place, dtype=np.float32), affine)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", label, affine)
    seen = look(tmp_path)
    assert seen.shapes.tolist() == [[24, 20, 6]] * 3
    assert seen.spacings.tolist() == [[1, 1, 6]] * 3
    found = chosen(seen)
    assert (found["preprocess.orientation"].value, found["data.slice_axis"].value) == ("canonical", 2)


def test_slices_across_the_first_axis_are_turned_so_that_rotation_stays_in_them(tmp_path: Path) -> None:
    """As KiTS19 is handed out: axes lead to S, A and L, and slices lie across the first."""
    write_json(tmp_path)
    affine = np.array([[0, 0, -1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    shape = (20, 32, 40)
    label = np.zeros(shape, dtype=np.uint8)
    label[1:4, 1:4, 1:4] = 1
    for name in ("a", "b", "c"):
        write(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", np.ones(shape, dtype=np.float32), affine)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", label, affine)
    seen = look(tmp_path)
    assert (seen.shapes[0].tolist(), seen.spacings[0].tolist()) == ([40, 32, 20], [1, 1, 3])
    orientation = chosen(seen, dim=3)["preprocess.orientation"]
    assert orientation.value == "canonical"
    assert orientation.why.startswith("slices of SAL lie across another axis")


def test_a_channel_of_several_that_is_ct_is_not_what_all_are(seen: Survey, tmp_path: Path) -> None:
    root = tmp_path / "pet"
    write_json(root, channel_names={"0": "PET", "1": "CT"})
    for name in ("a", "b"):
        write_case(root, name, channels=2)
    assert not look(root).hounsfield


@pytest.mark.parametrize(
    ("label", "axes"),
    [
        ("left kidney", [1, 2]),
        ("kidney_R", [1, 2]),
        ("cleft", [0, 1, 2]),
        ("bright", [0, 1, 2]),
        ("Anterior hippocampus", [0, 2]),
        ("lobe_upper_left", [1]),
    ],
)
def test_nothing_is_mirrored_that_has_a_side(seen: Survey, label: str, axes: list[int]) -> None:
    sided = replace(seen, dataset=replace(seen.dataset, labels=LABELS | {label: 3}))
    assert chosen(like(sided, (64, 64, 64), (1, 1, 1)), dim=3)["augment.flip_axes"].value == axes


def test_images_that_lie_in_several_ways_are_turned(seen: Survey) -> None:
    assert chosen(seen)["preprocess.orientation"].value == "file"
    mixed = replace(seen, orientations=("RAS", "LPS", "RAS", "RAS"))
    assert chosen(mixed)["preprocess.orientation"].value == "canonical"
    assert "LPS, RAS" in chosen(mixed)["preprocess.orientation"].why


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (("p1_ED", "p1_ES", "p2_ED", "p2_ES", "p3_ED", "p3_ES"), "^(.+)_[^_]+$"),
        (("case_001", "case_002", "case_003", "case_004"), None),
        (("a", "b", "c"), None),
    ],
)
def test_cases_of_one_patient_are_known_by_their_names(
    tmp_path: Path, names: tuple[str, ...], pattern: str | None
) -> None:
    assert chosen(look(write_dataset(tmp_path, names)))["data.group_by"].value == pattern


@pytest.mark.parametrize("layout", [miniatures.acdc, miniatures.kits19, miniatures.rats, write_dataset])
def test_every_layout_gets_a_recipe_that_trains(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    root = layout(tmp_path)
    text = as_recipe(plan(look(root), "mine", GIB // 2))
    config = parse(with_overrides(yaml.safe_load(text), ["data.workers=0"]))
    experiment = Experiment.prepare(config, root)
    patch = experiment.patches[0]
    spec = UNetSpec.unpruned(config.network, config.data.channels or 1, max(experiment.dataset.labels.values()) + 1)
    network = UNet(spec)
    loss = deep_supervision_loss(network(patch.image[None]), patch.label[None])
    assert torch.isfinite(loss)
    assert text.count("#") > 15, "reasons"


def test_the_command_writes_a_recipe_and_nothing_over_another(tmp_path: Path) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "mine.yaml"
    write(data / "labelsTr" / "p1_ED.nii.gz", np.zeros((20, 18, 6), dtype=np.uint8))
    words = ["init", str(data), "--out", str(out), "--memory", "0.5"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "Nothing is labelled in 1 of 4 cases: p1_ED" in done.output
    assert "sauron-train preview --recipe" in done.output
    assert parse(yaml.safe_load(out.read_text())).name == "mine"
    before = out.read_text()
    assert "exists already" in str(CliRunner().invoke(app, words).exception)
    assert out.read_text() == before
    again = CliRunner().invoke(app, ["init", str(data), "--out", str(tmp_path / "again.yaml"), "--memory", "0.5"])
    assert again.exit_code == 0
    assert (tmp_path / "again.yaml").read_text() == before.replace("name: mine", "name: again")


def test_the_command_does_not_recommend_what_will_be_refused(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "one", ("p1",))
    done = CliRunner().invoke(app, ["init", str(one), "--out", str(tmp_path / "one.yaml"), "--memory", "0.5"])
    assert "will refuse to train on this data set: one holds one case" in done.output
    bare = write_dataset(tmp_path / "bare")
    for label in (bare / "labelsTr").iterdir():
        write(label, np.zeros((20, 18, 6), dtype=np.uint8))
    done = CliRunner().invoke(app, ["init", str(bare), "--out", str(tmp_path / "bare.yaml"), "--memory", "0.5"])
    assert "Nothing is labelled in 4 of 4 cases: p1_ED, p1_ES, p2_ED, …" in done.output
    assert "nothing is labelled in any training case of bare" in done.output
    assert "sauron-train preview" not in done.output

"""Whatever stands in the files of a run, a configuration or a checkpoint: they are read, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import small_run

from sauron_train import recipes
from sauron_train.checkpoint import CheckpointInfo, load_model, load_state, save_checkpoint, save_state
from sauron_train.config import parse
from sauron_train.data.datasets import read_dataset
from sauron_train.errors import SauronError
from sauron_train.keys import load_yaml, with_overrides
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.runlog import Run, files
from sauron_train.runlog.check import check
from sauron_train.runlog.repair import repair

EASY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CHANGES = st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), min_size=1, max_size=6)


def tried(*attempts: Callable[[], object]) -> None:
    """Any error other than Sauron's own goes through, and so does a sentence of several lines."""
    for attempt in attempts:
        try:
            attempt()
        except SauronError as error:
            assert str(error)


def spoil(path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut % len(content)])


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("pristine") / "run", epochs=2)


@EASY
@given(which=st.integers(0, 1000), changes=CHANGES, cut=st.just(0) | st.integers(0, 5000))
def test_run_folders(pristine: Run, tmp_path: Path, which: int, changes: list[tuple[int, int]], cut: int) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    run = Run(Path(shutil.copytree(pristine.path, tmp_path / "run")))
    paths = sorted(path for path in run.path.rglob("*") if path.is_file() and path.stat().st_size)
    spoil(paths[which % len(paths)], changes, cut)
    tried(
        lambda: run.info,
        lambda: run.config,
        lambda: run.status,
        run.epochs,
        run.layers,
        run.prunings,
        run.probe,
        run.evaluation,
        run.checkpoint,
        lambda: [run.distances(epoch) for epoch in run.distance_epochs()],
        lambda: [run.prediction(epoch) for epoch in run.map_epochs()],
        lambda: [run.maps(e, layer).image(0) for e in run.map_epochs() for layer in run.map_layers(e)],
        lambda: [run.maps(e, layer).distances() for e in run.map_epochs() for layer in run.map_layers(e)],
        lambda: [run.maps(e, layer).filters for e in run.map_epochs() for layer in run.map_layers(e)],
        lambda: check(run),
        lambda: repair(run),
        lambda: check(run),
    )


@EASY
@given(section=st.sampled_from(["data", "network", "prune", "loss", "maps", "hardware", "augment"]), value=VALUES)
def test_configurations(section: str, value: Any) -> None:
    base = recipes.load("phantom2d")
    tried(lambda: parse({**base, section: value}), lambda: parse({section: value}), lambda: parse({**base, "x": value}))


@EASY
@given(data=st.data())
def test_values_of_keys(data: st.DataObject) -> None:
    base = parse(recipes.load("phantom2d")).model_dump(by_alias=True, mode="json")
    section = data.draw(st.sampled_from([key for key, value in base.items() if isinstance(value, dict)]))
    key, value = data.draw(st.sampled_from(sorted(base[section]))), data.draw(VALUES)
    tried(lambda: parse({**base, section: {**base[section], key: value}}))


@EASY
@given(text=st.text(max_size=60), assignment=st.text(max_size=30))
def test_yaml_and_assignments(text: str, assignment: str) -> None:
    tried(lambda: load_yaml(text, "a.yaml"), lambda: with_overrides({"data": {"patch": [1]}}, [assignment]))


def test_a_yaml_tag_makes_no_object() -> None:
    with pytest.raises(SauronError, match=r"a\.yaml is not valid YAML"):
        load_yaml("epochs: !!python/object/apply:os.system ['touch /tmp/was_here']", "a.yaml")


@EASY
@given(key=st.sampled_from(["channel_names", "labels", "file_ending", "name", "numTraining"]), value=VALUES)
def test_descriptions_of_data_sets(tmp_path: Path, key: str, value: Any) -> None:
    good = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({**good, key: value}))
    tried(lambda: read_dataset(tmp_path))


@EASY
@given(content=st.binary(max_size=80))
def test_descriptions_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    tried(lambda: read_dataset(tmp_path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = parse({"data": {"patch": [16, 16]}, "network": {"dim": 2, "levels": 2, "init_filters": 2}, "epochs": 1})
    spec = UNetSpec.unpruned(config.network, 1, 2)
    folder = tmp_path_factory.mktemp("weights")
    path = folder / files.checkpoint_file(1)
    save_checkpoint(path, UNet(spec), CheckpointInfo(1, spec, {}, {"background": 0, "a": 1}, {}))
    save_state(folder, 1, {"model": {}, "config": config.model_dump(by_alias=True, mode="json")})
    return folder


@EASY
@given(changes=CHANGES, early=st.booleans(), cut=st.just(0) | st.integers(0, 5000))
def test_checkpoints_and_states(
    weights: Path, tmp_path: Path, changes: list[tuple[int, int]], early: bool, cut: int
) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    folder = Path(shutil.copytree(weights, tmp_path / "run"))
    # The description stands in the first bytes, and is what is easily broken.
    places = [(place % 1500, value) for place, value in changes] if early else changes
    for name in (files.checkpoint_file(1), files.resume_file(1)):
        spoil(folder / name, places, cut)
    tried(lambda: load_model(folder / files.checkpoint_file(1)), lambda: load_state(folder, 1))

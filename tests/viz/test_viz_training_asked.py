"""What may be trained from a view, by which recipe, and what is said of a request that goes wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sample import Spec, write_run

from sauron_train import recipes
from sauron_train.config import parse
from sauron_train.errors import SauronError
from sauron_train.keys import with_overrides
from sauron_viz.apps import Dashboard
from sauron_viz.training.allowed import ENVIRONMENT, Allowed, permit
from sauron_viz.training.request import LINES, assignments, check, differences, doubt, explained, fit


def test_data_sets_and_recipes_are_found_in_the_folders_that_were_named(data: Path, tmp_path: Path) -> None:
    deep = data / "a" / "b"
    shutil.copytree(data / "phantom", deep / "c")
    shutil.copytree(data / "phantom", deep / "c2" / "d" / "e")
    (data / ".hidden").mkdir()
    shutil.copytree(data / "phantom", data / ".hidden" / "phantom")
    broken = data / "broken"
    broken.mkdir()
    (broken / "dataset.json").write_text("{")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(data / "phantom", elsewhere / "inner")
    (data / "link").symlink_to(elsewhere)
    (data / "linked").symlink_to(elsewhere / "inner")
    (data / "mine.yaml").write_text("epochs: 3\n")
    (tmp_path / "outside.yaml").write_text("epochs: 3\n")
    (data / "sneaky.yaml").symlink_to(tmp_path / "outside.yaml")
    allowed = Allowed.of([data])
    found = allowed.datasets()
    assert list(found) == ["a/b/c", "broken", "linked", "phantom"], "three deep; a link is looked at, not followed"
    assert found["phantom"].about == "8 cases; 1 channel: MRI; 2 structures: ventricle, lesion"
    assert found["phantom"].title == "Phantom2D (phantom)"
    assert "is not valid JSON" in found["broken"].problem
    assert allowed.recipes()["phantom2d"] == "phantom2d"
    assert allowed.recipes()["mine.yaml"] == str(data / "mine.yaml")
    assert "sneaky.yaml" not in allowed.recipes()
    one = Allowed.of([data / "phantom"]).datasets()
    assert [(key, found.path) for key, found in one.items()] == [("phantom", data / "phantom")]


def test_what_is_new_in_a_data_set_is_seen(data: Path) -> None:
    allowed = Allowed.of([data])
    assert allowed.dataset("phantom").dataset is not None
    label = next((data / "phantom" / "labelsTr").iterdir())
    label.unlink()
    case = label.name.removesuffix(".nii.gz")
    assert f"{label} is not there" in fit(allowed.dataset("phantom"), parse(recipes.load("phantom2d")))
    without = with_overrides(recipes.load("phantom2d"), [f"data.discard=[{case}]"])
    assert fit(allowed.dataset("phantom"), parse(without)) == ""


@pytest.mark.parametrize("key", ["", ".", "..", "../data/phantom", "/etc", "phantom/../phantom", "phantom/imagesTr"])
def test_nothing_else_may_be_trained_on(data: Path, key: str) -> None:
    with pytest.raises(SauronError, match="is no data set that may be trained on here"):
        Allowed.of([data]).dataset(key)


@pytest.mark.parametrize("key", ["", "phantom", "../mine.yaml", "/etc/passwd", "--help"])
def test_nothing_else_may_be_trained_by(data: Path, key: str) -> None:
    (data.parent / "mine.yaml").write_text("epochs: 3\n")
    with pytest.raises(SauronError, match="is no recipe that may be trained here"):
        Allowed.of([data]).recipe(key)


def test_a_served_view_trains_only_where_it_was_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "/etc")
    write_run(tmp_path / "runs" / "a", Spec(epochs=1))
    permit([], tmp_path / "runs")
    assert Allowed.from_environment() is None, "what a user happens to have set does not count"
    app = Dashboard(tmp_path / "runs")
    assert "training" not in app.kinds
    app.state.tab = "training"
    assert "training" not in app.panels
    with pytest.raises(SauronError, match="is not a folder"):
        permit([data, tmp_path / "no"], tmp_path / "runs")
    permit([data], tmp_path / "new" / "runs")
    assert (tmp_path / "new" / "runs").is_dir(), "the first run may be trained here"
    app = Dashboard(tmp_path / "new" / "runs")
    assert app.state.tab == "training"
    assert app.body.layout.display is None
    assert "training" not in Dashboard(tmp_path / "runs" / "a").kinds, "no run is trained inside another"


def test_mistakes_are_said_at_their_field() -> None:
    def wrong(lines: str = "", **fields: str) -> dict[str, str]:
        return dict(
            check("phantom2d", {key.replace("__", "."): value for key, value in fields.items()}, lines).problems
        )

    assert wrong() == {}
    assert wrong(epochs="x") == {"epochs": "epochs must be a whole number (it is 'x')"}
    assert wrong(epochs="3").keys() == {"epochs"}
    assert "prune.first_epoch is 4 but there are 3 epochs" in wrong(epochs="3")["epochs"]
    assert wrong("prune.first_epoch=2", epochs="3") == {}
    assert wrong(data__patch="30 30").keys() == {"data.patch"}
    assert wrong(data__patch="32", data__batch_size="2").keys() == {"data.patch"}
    assert wrong(loss__lambda="-1", seed="3").keys() == {"loss.lambda"}
    assert wrong(loss__normalization="<img>").keys() == {"loss.normalization"}
    assert wrong("prune.kapa=3", epochs="50") == {LINES: "unknown key 'prune.kapa'; did you mean 'prune.kappa'?"}
    assert wrong("wurst=3") == {LINES: "unknown key 'wurst'; the configuration beside this lists all keys"}
    assert wrong("what is this") == {LINES: "'what is this' must have the form section.key=value"}
    assert wrong("epochs=0").keys() == {LINES}
    assert wrong("x" * 5000).keys() == {LINES}
    assert wrong("data.patch.a=[1", seed="1").keys() == {LINES}
    assert check("phantom2", {}).problems == {"": "there is no recipe 'phantom2'; did you mean 'phantom2d'?"}


def test_fields_become_assignments() -> None:
    asked = assignments(
        {"data.patch": " [64 × 64] ", "prune.enabled": "false", "seed": " ", "loss.lambda": "0.2"},
        "\n# a remark\n  optimizer.lr=0.01 \n",
    )
    assert asked == [
        ("data.patch", "data.patch=[64, 64]"),
        ("loss.lambda", "loss.lambda=0.2"),
        ("prune.enabled", "prune.enabled=false"),
        (LINES, "optimizer.lr=0.01"),
    ]


def test_the_configuration_is_explained_and_what_differs_is_marked() -> None:
    checked = check("phantom2d", {"epochs": "50", "loss.normalization": "off"}, "optimizer.lr=0.01")
    assert checked.config is not None
    assert checked.recipe is not None
    lines = explained(checked.config, checked.recipe)
    changed = {line.text.strip(): line.was for line in lines if line.was is not None}
    assert changed == {"epochs: 50": "42", "normalization: 'off'": "maps", "lr: 0.01": "0.003"}
    assert differences(lines) == 3
    assert any("ω: side and stride" in line.comment for line in lines)
    assert differences(explained(checked.recipe, checked.recipe)) == 0


def test_a_data_set_that_does_not_fit_is_said(data: Path) -> None:
    found = Allowed.of([data]).dataset("phantom")
    config = check("phantom2d", {}).config
    assert config is not None
    assert fit(found, config) == ""
    two = check("phantom2d", {}, "data.channels=2").config
    assert two is not None
    assert "has 1 channels but the recipe is made for 2" in fit(found, two)
    grouped = check("phantom2d", {}, "data.group_by=^(none)$").config
    assert grouped is not None
    assert "does not match data.group_by" in fit(found, grouped)
    volumes = check("hippocampus3d", {}).config
    assert volumes is not None
    assert "far smaller than the patch" in doubt(found, volumes)
    assert "single slices" in doubt(replace(found, shape=(40, 40, 1)), volumes)
    assert doubt(found, config) == ""

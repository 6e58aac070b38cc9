"""Recipes and keys: whatever is wrong is said in one sentence that names the way out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from sauron_train import recipes
from sauron_train.config import SauronConfig, known_keys, parse
from sauron_train.errors import ConfigError
from sauron_train.keys import load_yaml, with_overrides
from sauron_train.presets import PRESETS

SMALL = {"epochs": 3, "data": {"patch": [16, 16]}, "network": {"dim": 2, "levels": 2}}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_valid_and_survives_yaml(name: str) -> None:
    config = parse(recipes.load(name))
    assert config.name == name
    assert config.description
    assert parse(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("loss.lamda=1", "unknown key 'loss.lamda'; did you mean 'loss.lambda'"),
        ("prune.treshold_max=1", "did you mean 'prune.threshold_max'"),
        ("lambda=1", "did you mean 'loss.lambda'"),
        ("zzz=1", "lists all keys"),
        ("epochs=0", "epochs must be at least 1"),
        ("epochs=many", "epochs must be a whole number"),
        ("data.patch=[16]", "data.patch has 1 numbers but network.dim is 2"),
        ("data.patch=[16, 15]", "must be divisible by 2"),
        ("network.dim=4", "network.dim must be 2 or 3"),
        ("prune.threshold_max=0.0", "threshold_max must not be below"),
        ("prune.first_epoch=4", "nothing would be pruned"),
        ("prune.last_epoch=0", "prune.last_epoch must be at least 1"),
        ("preprocess.shift_scale=[0, 0]", "must not be 0"),
        ("preprocess.clip=[1, -1]", "begin with the smaller"),
        ("preprocess.spacing=[0, 1, 1]", "preprocess.spacing.* greater than 0"),
        ("augment.scale=[0, 1]", "must be above 0"),
        ("augment.flip_axes=[2]", "flip_axes must lie between 0 and 1"),
        ("optimizer.lr=.nan", "optimizer.lr must be a finite number"),
        ("loss.lambda=a", "loss.lambda must be a number"),
        ("prune.enabled=maybe", "prune.enabled must be true or false"),
        ("network.levels=99", "network.levels must be at most 8"),
        ("network=3", "network must be a section with keys of its own"),
        ("epochs", "must have the form"),
        ("epochs.x=1", "which is a value and no section"),
        ("epochs=[", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_key(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        parse(with_overrides(SMALL, [change]))
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"lacks 'data\.patch'"):
        parse({**SMALL, "data": {}})


def test_overrides_are_yaml_and_leave_the_recipe_alone() -> None:
    values: dict[str, Any] = {**SMALL, "loss": {"window": 2}}
    changed = with_overrides(values, ["prune.enabled=false", "loss.lambda=0", "preprocess.clip=[-79, 304]"])
    config = parse(changed)
    assert not config.prune.enabled
    assert config.loss.lambda_ == 0
    assert config.preprocess.clip == (-79, 304)
    assert values["loss"] == {"window": 2}
    assert "loss.lambda" in known_keys()


def test_the_explained_configuration_is_a_recipe() -> None:
    config = parse(recipes.load("hippocampus3d"))
    text = config.explained()
    assert parse(load_yaml(text, "x")) == config
    assert "lambda: 0.5  # weight of δ_opt" in text
    assert set(known_keys()) <= {key for key in known_keys() if f"{key.rsplit('.', 1)[-1]}: " in text}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("prun.enabled=false", "unknown key 'prun'; did you mean 'prune'"),
        ("preprocess.spacing=[1, 1]", "preprocess.spacing has too few numbers"),
        ("data.patch=40", r"data.patch must be a list in brackets, as in \[64, 64\]"),
    ],
)
def test_mistakes_in_a_key_or_its_kind_are_said_plainly(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(with_overrides(recipes.load("hippocampus3d"), [change]))


def test_recipes_by_name_and_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert recipes.load(str(path)) == SMALL
    with pytest.raises(ConfigError, match="did you mean 'phantom2d'"):
        recipes.load("phantom2")
    with pytest.raises(ConfigError, match="is not there; `sauron-train recipes`"):
        recipes.load(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="table of keys"):
        load_yaml("- a\n- b", "x")
    for text in ("epochs: 2\nname: y\nepochs: 3", "arms:\n  a: {}\n  epochs: 1\n  epochs: 2"):
        with pytest.raises(ConfigError, match=r"^x: 'epochs' is given twice \(line [34]\); leave one out"):
            load_yaml(text, "x")
    for text in ("a: " + "[" * 5000, "a: &a {b: *a}"):
        with pytest.raises(ConfigError, match="nested too deeply, or refers to itself"):
            load_yaml(text, "x")
    bomb = "\n".join(["a0: &a0 [0]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11))])
    with pytest.raises(ConfigError, match="more than 100000 values"):
        load_yaml(bomb, "x")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml("seed: " + "9" * 6000, "x")
    laid = load_yaml("a: &a {b: 1, c: 2}\nd: {e: &e {<<: *a, b: 3}, f: {<<: *e, b: 4}}", "x")["d"]
    assert laid == {"e": {"b": 3, "c": 2}, "f": {"b": 4, "c": 2}}
    assert load_yaml("{1: a, '1': b}", "x") == {1: "a", "1": "b"}


def test_the_preset_paper_is_the_published_method_where_nothing_else_is_said() -> None:
    config = parse({**SMALL, "preset": "paper", "prune": {"kappa": 7}})
    assert (config.prune.compensate, config.prune.references, config.prune.batches) == ("none", "one", 1)
    assert (config.prune.kappa, config.prune.threshold_max, config.prune.patience) == (7, 0.3, 5)
    assert (config.optimizer.name, config.optimizer.lr, config.loss.lambda_) == ("adam", 1e-3, 0.5)
    assert parse(yaml.safe_load(config.to_yaml())) == config


def test_keys_set_over_a_preset_leave_the_preset_as_it_is() -> None:
    before = copy.deepcopy(PRESETS)
    for under in ({}, SMALL, {"loss": {"lambda": 1.0}}):
        values = with_overrides(under, ["preset=paper", "loss.lambda=0.0", "prune.exclude=[out]", "optimizer.lr=1.0"])
        assert (values["loss"]["lambda"], values["optimizer"]["lr"]) == (0.0, 1.0)
    assert before == PRESETS


def test_the_preset_paper_leaves_no_choice_of_the_method_to_our_defaults() -> None:
    config = parse(SMALL)
    for section in ("loss", "prune"):
        assert set(PRESETS["paper"][section]) == set(getattr(config, section).model_dump(by_alias=True))


def test_a_preset_works_around_any_network_too() -> None:
    config = SauronConfig.of({"preset": "paper", "loss": {"lambda": 0.3}})
    assert (config.loss.lambda_, config.prune.compensate, config.prune.references) == (0.3, "none", "one")
    whole = parse({**SMALL, "preset": "paper"})
    assert SauronConfig.of(whole).prune == whole.prune
    with pytest.raises(ConfigError, match=r"preset must be 'paper'"):
        SauronConfig.of({"preset": "papers"})


def test_the_preset_on_the_command_line_wins_over_the_recipe_and_later_keys_over_it() -> None:
    recipe = {**SMALL, "prune": {"kappa": 7, "threshold_max": 0.4}, "optimizer": {"lr": 0.01}}
    config = parse(with_overrides(recipe, ["preset=paper", "prune.patience=9"]))
    assert (config.prune.kappa, config.prune.threshold_max, config.prune.patience) == (15, 0.3, 9)
    assert (config.optimizer.lr, config.cuts) == (1e-3, "none, one")
    assert parse(recipe).prune.kappa == 7

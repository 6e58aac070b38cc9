"""The paper's recipes against its Tables 1 to 3 and Appendix C, cell by cell; recipes that extend others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sauron_train import recipes
from sauron_train.config import parse
from sauron_train.errors import ConfigError
from sauron_train.models.unet import UNetSpec

# Paper, Appendix C, Tables 1 to 3, with the misprint in ACDC's resolution corrected.
COLUMNS = ("rats", "acdc", "kits19")
CELLS: dict[str, tuple[Any, Any, Any]] = {
    "data.discard": ((), (), tuple(f"case_{n:05d}" for n in (15, 23, 37, 68, 125, 133))),
    "preprocess.spacing": (None, (1.25, 1.25, None), (1.62, 1.62, 3.22)),
    "preprocess.clip": (None, None, (-79, 304)),
    "preprocess.shift_scale": (None, None, (101, 76.9)),
    "data.patch": ((256, 256), (320, 320), (160, 160, 80)),
    "augment.scale": ((0.9, 1.1), (0.85, 1.25), (0.85, 1.25)),
    "augment.scale_p": (0.5, 0.2, 0.2),
    "augment.rotation": ((-10, 10), (-180, 180), (-180, 180)),
    "augment.rotation_p": (0.5, 0.2, 0.2),
    "augment.gamma": ((-0.3, 0.3), (-0.3, 0.5), (-0.3, 0.5)),
    "augment.gamma_p": (0.5, 0.3, 0.3),
    "augment.flip_axes": ((0, 1), (0, 1), (0, 1, 2)),
    "augment.flip_p": (0.5, 0.5, 0.5),
    "augment.elastic_p": (0.0, 0.3, 0.3),
    "augment.elastic_control_points": (7, 7, 7),
    "augment.z_normalise": (True, True, False),
    "network.levels": (5, 7, 5),
    "network.init_filters": (32, 48, 24),
    "network.max_filters": (480, 480, 480),
    "network.dim": (2, 2, 3),
    "network.norm": ("instance", "batch", "instance"),
    "epochs": (200, 500, 500),
    "data.batch_size": (4, 10, 2),
    "data.steps_per_epoch": (None, None, None),
    "data.patches_per_volume": (1, 1, 2),
    "data.foreground": (0.0, 0.0, 0.0),
    "optimizer.name": ("adam", "adam", "adam"),
    "optimizer.lr": (1e-3, 1e-3, 1e-3),
    "optimizer.weight_decay": (1e-5, 1e-5, 1e-5),
    "optimizer.power": (0.9, 0.9, 0.9),
    "loss.lambda_": (0.5, 0.5, 0.5),
    "loss.normalization": ("maps", "maps", "maps"),
    "prune.threshold_start": (0.001, 0.001, 0.001),
    "prune.threshold_max": (0.3, 0.3, 0.3),
    "prune.kappa": (15, 15, 15),
    "prune.patience": (5, 5, 5),
    "prune.mu": (0.02, 0.02, 0.02),
    "prune.compensate": ("none", "none", "none"),
    "prune.references": ("one", "one", "one"),
}
LAYERS = {"rats": (22, 3360), "acdc": (32, 9360), "kits19": (22, 2568)}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("recipe", COLUMNS)
def test_a_cell_of_the_tables(recipe: str, cell: str) -> None:
    value: Any = parse(recipes.load(recipe))
    for key in cell.split("."):
        value = getattr(value, key)
    assert value == CELLS[cell][COLUMNS.index(recipe)]


@pytest.mark.parametrize("recipe", COLUMNS)
def test_layers_and_filters_that_can_be_pruned(recipe: str) -> None:
    network = parse(recipes.load(recipe)).network
    filters = UNetSpec.unpruned(network, in_channels=1, classes=2).filters
    assert (len(filters), sum(filters.values())) == LAYERS[recipe]


def test_a_recipe_names_only_what_differs_from_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: rats\nname: mine\nepochs: 3\ndata: {batch_size: 2}\n")
    (tmp_path / "mine_3.yaml").write_text("extends: mine.yaml\nseed: 3\n")
    config = parse(recipes.load(str(tmp_path / "mine_3.yaml")))
    rats = parse(recipes.load("rats"))
    assert (config.name, config.epochs, config.seed, config.data.batch_size) == ("mine", 3, 3, 2)
    assert config.augment == rats.augment
    assert config.data.patch == rats.data.patch


def test_what_cannot_be_extended_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"extends itself, by way of .*a\.yaml and .*b\.yaml"):
        recipes.load(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("extends: rat\n")
    with pytest.raises(ConfigError, match="there is no recipe 'rat'; did you mean 'rats'"):
        recipes.load(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("extends: [rats]\n")
    with pytest.raises(ConfigError, match="extends must be the name of a recipe"):
        recipes.load(str(tmp_path / "a.yaml"))

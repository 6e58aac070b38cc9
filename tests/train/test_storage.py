"""What is stored, and that it stays within its budget."""

from __future__ import annotations

from typing import Any

import pytest

from sauron_train.config import Config, parse
from sauron_train.errors import ConfigError
from sauron_train.storage import plan_maps

SHAPES = {"enc_conv_1": (32, 256, 256), "enc_conv_2": (480, 16, 16), "dec_trans_1": (64, 128, 100)}


def config(**maps: Any) -> Config:
    return parse({"epochs": 12, "data": {"patch": [16, 16]}, "network": {"dim": 2, "levels": 2}, "maps": maps})


def test_size_is_that_of_maps_and_distances() -> None:
    plan = plan_maps(config(every=5), SHAPES, 4)
    assert plan.epochs == (1, 5, 10, 12)
    assert plan.max_side == 64
    voxels = 32 * 64 * 64 + 480 * 16 * 16 + 64 * 64 * 50
    pairs = (32 * 31 + 480 * 479 + 64 * 63) // 2
    assert plan.megabytes == pytest.approx(4 * 4 * (2 * voxels + 4 * pairs) / 1e6)
    assert "3 layers at 4 epochs" in str(plan)


def test_epochs_and_layers_of_ones_own() -> None:
    plan = plan_maps(config(every=100, epochs=[3, 7], layers=["enc_*"]), SHAPES, 4)
    assert plan.epochs == (1, 3, 7, 12)
    assert plan.layers == ("enc_conv_1", "enc_conv_2")


def test_by_default_maps_are_stored_about_twenty_times() -> None:
    long = parse({"epochs": 500, "data": {"patch": [16, 16]}, "network": {"dim": 2, "levels": 2}})
    assert long.maps_every == 25
    assert len(plan_maps(long, SHAPES, 4).epochs) == 21
    assert plan_maps(config(), SHAPES, 4).epochs == tuple(range(1, 13))


def test_weights_are_told_beside_the_maps() -> None:
    plan = plan_maps(config(every=6, checkpoints=4), SHAPES, 4, parameters=1_000_000)
    assert plan.weights_mb == 5 * 4, "of epochs 1, 4, 6, 8 and 12, four bytes a parameter"
    assert str(plan).endswith("and 20 MB of weights")


def test_the_largest_recipe_of_the_paper_fits() -> None:
    widths = (48, 96, 192, 384, 480, 480, 480)
    encoder = {f"enc_conv_{2 * i + b}": (w, 320 >> i, 320 >> i) for i, w in enumerate(widths) for b in (1, 2)}
    decoder = {f"dec_{b}_{i}": (w, 320 >> i, 320 >> i) for i, w in enumerate(widths[:-1]) for b in ("trans", "a", "b")}
    acdc = parse({"epochs": 500, "data": {"patch": [320, 320]}, "network": {"dim": 2, "levels": 7}})
    assert plan_maps(acdc, encoder | decoder, 4).max_side >= 16


def test_maps_are_pooled_until_they_fit() -> None:
    free = plan_maps(config(), SHAPES, 4)
    tight = plan_maps(config(budget_mb=int(free.megabytes / 2)), SHAPES, 4)
    assert 8 <= tight.max_side < 64
    assert tight.megabytes <= int(free.megabytes / 2)


def test_what_cannot_be_stored_is_said() -> None:
    with pytest.raises(
        ConfigError, match=r"even at 8 voxels a side, 23 MB of them for the distances .*maps.budget_mb is 1; raise it"
    ):
        plan_maps(config(budget_mb=1), SHAPES, 4)
    with pytest.raises(ConfigError, match=r"fits no layer; .* as in enc_conv_1"):
        plan_maps(config(layers=["conv_9"]), SHAPES, 4)

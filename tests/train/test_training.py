"""Short trainings, whole: on phantoms, and on the real data sets where they are at hand."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from sauron_train import recipes
from sauron_train.analysis.clusterability import clusterability
from sauron_train.analysis.tables import measures, table4
from sauron_train.checkpoint import load_model
from sauron_train.config import Config, parse
from sauron_train.data.phantom import make_phantom
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.pruning.distances import delta_opt
from sauron_train.runlog import Run
from sauron_train.trainer import Trainer, TrainingError

TINY = {
    2: ["data.patch=[32, 32]", "network.init_filters=4", "network.levels=3"],
    3: ["network.init_filters=4", "network.levels=3"],
}
QUICK = [
    "epochs=3",
    "data.steps_per_epoch=3",
    "data.batch_size=2",
    "data.workers=0",
    "prune.first_epoch=2",
    "prune.last_epoch=3",
    "prune.threshold_start=0.6",
    "prune.threshold_max=0.6",
    "probe.images=2",
    "hardware.accelerator=cpu",
]


def config(recipe: str, *changes: str) -> Config:
    values = recipes.load(recipe)
    dim = values["network"]["dim"]
    return parse(with_overrides(values, [*QUICK, *TINY[dim], *changes]))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("phantoms")
    return {dim: make_phantom(folder / f"p{dim}", dim=dim, cases=5, seed=1) for dim in (2, 3)}


def phantom_config(dim: int, *changes: str) -> Config:
    if dim == 2:
        return config("phantom2d", *changes)
    return config("hippocampus3d", "data.patch=[32, 32, 32]", *changes)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (["optimizer.name=adam", "optimizer.amsgrad=true"], "max_exp_avg_sq"),
        (["optimizer.name=sgd", "optimizer.lr=0.01"], "momentum_buffer"),
        (["optimizer.name=rmsprop"], "square_avg"),
        (["loss.reference=random", "loss.samples=1", "prune.references=all", "prune.exclude=[dec_trans_*]"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_optimizer_and_choice_of_references_runs(
    phantoms: dict[int, Path], tmp_path: Path, changes: list[str], kind: str
) -> None:
    settings = phantom_config(2, "epochs=2", *changes)
    trainer = Trainer(Experiment.prepare(settings, phantoms[2]), tmp_path / "run")
    trainer.run()
    run = Run(tmp_path / "run")
    assert run.config == settings
    assert run.epochs()["filters_removed"].sum() > 0
    excluded = run.layers().query("layer.str.startswith('dec_trans_')")["removed"].sum()
    assert not settings.prune.exclude or excluded == 0
    states = trainer._optimizer.state.values()
    assert all(state[kind].shape == p.shape for p, state in trainer._optimizer.state.items() if kind)
    assert len(states) == sum(1 for p in trainer.network.parameters() if p.requires_grad)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
def test_a_run_shrinks_and_its_checkpoint_is_what_was_scored(
    phantoms: dict[int, Path], tmp_path: Path, dim: int, norm: str
) -> None:
    experiment = Experiment.prepare(phantom_config(dim, f"network.norm={norm}"), phantoms[dim])
    trainer = Trainer(experiment, tmp_path / "run")
    trainer.run()
    run = Run(tmp_path / "run")
    last = run.epochs().iloc[-1]
    assert last["filters"] < sum(layer.filters for layer in run.info.layers)
    assert last["flops"] < run.info.flops
    model, info = load_model(run.checkpoints()[3])
    assert info.scores["val_dice"] == pytest.approx(last["val_dice"], abs=1e-7)
    trainer.network.load_state_dict(model.state_dict())
    again = trainer.validate()
    assert again.loss == pytest.approx(last["val_loss"], rel=1e-6)
    held = [p for group in trainer._optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in trainer.network.parameters()}
    assert len(held) == len(set(map(id, held)))


def test_the_same_seed_gives_the_same_run(phantoms: dict[int, Path], tmp_path: Path) -> None:
    tables = []
    for name, workers in (("a", 0), ("b", 1)):
        experiment = Experiment.prepare(phantom_config(2, f"data.workers={workers}"), phantoms[2])
        Trainer(experiment, tmp_path / name).run()
        run = Run(tmp_path / name)
        tables.append(run.epochs().drop(columns=["seconds", "seconds_training", "memory_mb"]))
        tables.append(run.layers())
    for first, second in zip(tables[:2], tables[2:], strict=True):
        np.testing.assert_array_equal(first.to_numpy(dtype=str), second.to_numpy(dtype=str))


@pytest.mark.parametrize(
    ("mode", "changes", "pruned"),
    [
        ("maps", [], True),
        ("none", ["loss.normalization=none"], True),
        ("distances", ["loss.normalization=distances"], True),
        ("off", ["loss.normalization=off"], True),
        ("λ=0", ["loss.lambda=0"], True),
        ("maps, not pruned", ["prune.enabled=false"], False),
        ("baseline", ["prune.enabled=false", "loss.lambda=0"], False),
        ("baseline", ["prune.enabled=false", "loss.normalization=off"], False),
    ],
)
def test_modes(phantoms: dict[int, Path], tmp_path: Path, mode: str, changes: list[str], pruned: bool) -> None:
    Trainer(Experiment.prepare(phantom_config(2, "epochs=2", *changes), phantoms[2]), tmp_path / "run").run()
    run = Run(tmp_path / "run")
    epochs, layers, loss = run.epochs(), run.layers(), run.config.loss
    assert run.info.mode == mode
    if loss.normalization == "off":
        assert epochs["train_delta_opt"].isna().all()
    else:
        assert (epochs["train_delta_opt"] > 0).all()
    assert bool(run.prunings()) == pruned
    assert layers["threshold"].notna().any() == pruned
    parts = epochs["train_segmentation_loss"] + loss.lambda_ * epochs["train_delta_opt"].fillna(0)
    np.testing.assert_allclose(epochs["train_loss"], parts, rtol=1e-5)
    assert layers["delta_opt"].notna().all(), "the probe is measured in every mode"


def test_delta_opt_leaves_the_loss_with_the_last_cut_where_that_is_asked_for(
    phantoms: dict[int, Path], tmp_path: Path
) -> None:
    config = phantom_config(2, "epochs=3", "prune.first_epoch=1", "prune.last_epoch=2", "loss.until_last_cut=true")
    Trainer(Experiment.prepare(config, phantoms[2]), tmp_path / "run").run()
    epochs = Run(tmp_path / "run").epochs()
    assert (epochs["train_delta_opt"] > 0).all(), "it is looked at to the end"
    weights = (epochs["train_loss"] - epochs["train_segmentation_loss"]) / epochs["train_delta_opt"]
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0], atol=1e-4)


def test_the_log_says_what_the_maps_say(phantoms: dict[int, Path], tmp_path: Path) -> None:
    Trainer(Experiment.prepare(phantom_config(2), phantoms[2]), tmp_path / "run").run()
    run = Run(tmp_path / "run")
    model, _ = load_model(run.checkpoints()[3])
    images = torch.from_numpy(run.probe().images)
    logged = run.layers().query("epoch == 3").set_index("layer")["delta_opt"]
    heard: dict[str, torch.Tensor] = {}
    for layer in run.info.layers:
        module: Any = model.get_submodule(layer.name)
        module.register_forward_hook(lambda _m, _i, output, name=layer.name: heard.update({name: output.detach()}))
    outputs = model(images)
    for name, maps in heard.items():
        if maps.shape[1] > 1:
            assert logged[name] == pytest.approx(delta_opt(maps).mean().item(), abs=2e-3)
            stored = run.maps(3, name)
            assert stored.distances()[0, 1:].mean() == pytest.approx(logged[name], abs=1e-3)
            np.testing.assert_allclose(stored.image(0), maps[0], atol=2e-2, rtol=2e-2)
    predicted = outputs[-1].argmax(dim=1).numpy()
    assert (predicted == run.prediction(3)).mean() > 0.99


def test_measures_of_every_epoch_are_those_of_the_stored_distances(phantoms: dict[int, Path], tmp_path: Path) -> None:
    changes = ["maps.every=2", "maps.layers=[enc_*, dec_conv_1]", "probe.radius=0.15"]
    Trainer(Experiment.prepare(phantom_config(2, *changes), phantoms[2]), tmp_path / "run").run()
    run = Run(tmp_path / "run")
    assert run.distance_epochs() == run.map_epochs() == [1, 2, 3], "the first, the last and every second"
    assert run.map_layers(2) == ["enc_conv_1", "enc_conv_2", "enc_conv_3", "enc_conv_4", "enc_conv_5", "enc_conv_6",
                                 "dec_conv_1"]  # fmt: skip
    logged, other = measures(run), measures(run, "reference", 0.3)
    assert len(logged) == len(other) == 3 * len(run.info.layers)
    for epoch in (1, 3):
        for layer in run.map_layers(epoch):
            stored = run.maps(epoch, layer)
            every = np.stack([stored.distances(image) for image in range(stored.shape[0])])
            found = clusterability(every, radius=0.15)
            row = logged.query("epoch == @epoch and layer == @layer").iloc[0]
            np.testing.assert_allclose(
                [row["dip"], row["neighbours"], row["delta_opt"]],
                [found.dip, found.neighbours, found.delta_opt],
                rtol=1e-5,
            )
            row = other.query("epoch == @epoch and layer == @layer").iloc[0]
            again = clusterability(every, "reference", 0.3)
            np.testing.assert_allclose([row["dip"], row["neighbours"]], [again.dip, again.neighbours], rtol=1e-5)
            lie = run.distances(epoch)[layer]
            np.testing.assert_array_equal(lie.filters, stored.filters)
            mean = every.mean(axis=0)
            np.testing.assert_allclose(lie.reference_distance, mean[0], atol=1e-6)
            np.fill_diagonal(mean, np.inf)
            if len(mean) > 1:
                np.testing.assert_array_equal(lie.nearest, stored.filters[mean.argmin(axis=0)])
    assert other["dip"].isna().sum() > logged["dip"].isna().sum(), "no other dip without all distances"
    assert table4(run)["layer"].tolist() == [layer.name for layer in run.info.layers]


def test_maps_are_kept_within_the_budget(phantoms: dict[int, Path], tmp_path: Path) -> None:
    experiment = Experiment.prepare(phantom_config(2, "maps.budget_mb=1", "epochs=3", "maps.every=1"), phantoms[2])
    trainer = Trainer(experiment, tmp_path / "run")
    trainer.run()
    folder = tmp_path / "run" / "maps"
    size = sum(file.stat().st_size for file in folder.glob("epoch_*/*_*.safetensors")) / 1e6
    headers = 1000 * len(list(folder.glob("epoch_*/*_*.safetensors"))) / 1e6
    assert size < trainer.maps_plan.megabytes + headers
    assert trainer.maps_plan.megabytes <= 1


class Spoiler(Trainer):
    """At some steps the loss of the network, or its gradient alone, is no number."""

    spoils: Collection[int] = ()
    only_gradient = False

    def backward(self, images: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[float, float, float]:
        self.steps = getattr(self, "steps", 0) + 1
        spoilt = self.steps in self.spoils
        own = super().backward(images * math.inf if spoilt and not self.only_gradient else images, labels, weight)
        if spoilt and self.only_gradient:
            gradient = self.network.get_parameter("head_1.bias").grad
            assert gradient is not None
            gradient[0] = math.inf
        return own


def spoiler(phantom: Path, out: Path, spoils: Collection[int], *changes: str, only_gradient: bool = False) -> Spoiler:
    trainer = Spoiler(Experiment.prepare(phantom_config(2, "epochs=2", *changes), phantom), out)
    trainer.spoils, trainer.only_gradient = spoils, only_gradient
    return trainer


@pytest.mark.parametrize(("only_gradient", "said"), [(False, "the loss is nan"), (True, "the gradient is inf")])
def test_a_number_that_is_none_stops_the_run_and_leaves_its_batch(
    phantoms: dict[int, Path], tmp_path: Path, only_gradient: bool, said: str
) -> None:
    trainer = spoiler(phantoms[2], tmp_path / "run", (2,), only_gradient=only_gradient)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(TrainingError, match=f"{said} in epoch 1 at the cases .*the batch is in bad_batches/"):
        trainer.run()
    run = Run(tmp_path / "run")
    assert (run.status, run.last_epoch) == ("failed", 0)
    assert said in run.info.message
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values()), "no step was taken"
    assert any(not torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())
    with safe_open(run.path / "bad_batches" / "epoch_0001_step_0002.safetensors", "pt") as file:
        cases = json.loads(file.metadata()["cases"])
        assert file.get_tensor("images").shape[0] == file.get_tensor("labels").shape[0] == len(cases)
    assert set(cases) <= set(run.info.train_cases)
    assert all(case in run.info.message for case in cases)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_some_steps_may_be_skipped(phantoms: dict[int, Path], tmp_path: Path, norm: str) -> None:
    remarks: list[str] = []
    trainer = spoiler(phantoms[2], tmp_path / "run", (1, 5), "optimizer.skip_steps=2", f"network.norm={norm}")
    trainer.observer.remark = remarks.append  # type: ignore[method-assign]
    trainer.run()
    assert Run(tmp_path / "run").status == "finished"
    assert [said.split("; ")[1].split(", the ")[1] for said in remarks] == ["1st of at most 2", "2nd of at most 2"]
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values())
    assert np.isfinite(Run(tmp_path / "run").epochs()["train_loss"]).all()


def test_not_more_than_so_many(phantoms: dict[int, Path], tmp_path: Path) -> None:
    trainer = spoiler(phantoms[2], tmp_path / "run", (1, 2, 3), "optimizer.skip_steps=2")
    with pytest.raises(TrainingError, match=r"\(2 steps were skipped before\)"):
        trainer.run()


def test_a_validation_loss_that_is_none_stops_the_run(phantoms: dict[int, Path], tmp_path: Path) -> None:
    trainer = spoiler(phantoms[2], tmp_path / "run", ())
    bad = replace(trainer.experiment.validation[0], images=trainer.experiment.validation[0].images * math.inf)
    trainer.experiment = replace(trainer.experiment, validation=(bad, *trainer.experiment.validation[1:]))
    with pytest.raises(TrainingError, match=f"the validation loss is nan at case {bad.name}; look at this image"):
        trainer.run()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("recipe", "data", "patch"),
    [
        ("hippocampus3d", "Dataset004_Hippocampus", "data.patch=[32, 32, 32]"),
        ("sunnybrook2d", "Dataset101_SunnybrookLV", "data.patch=[64, 64]"),
    ],
)
def test_real_data(real_data: Any, tmp_path: Path, recipe: str, data: str, patch: str) -> None:
    small = config(recipe, "epochs=2", "data.validation=0.05", patch)
    Trainer(Experiment.prepare(small, real_data(data)), tmp_path / "run").run()
    run = Run(tmp_path / "run")
    epochs = run.epochs()
    assert run.status == "finished"
    assert epochs["train_loss"].iloc[-1] < epochs["train_loss"].iloc[0]
    assert epochs["filters"].iloc[-1] < epochs["filters"].iloc[0]
    if recipe == "sunnybrook2d":
        patients = {name.rsplit("_", 1)[0] for name in run.info.validation_cases}
        assert patients.isdisjoint(name.rsplit("_", 1)[0] for name in run.info.train_cases)

"""Rivals: the filters that the literature's criteria name go, as many as the FLOPs ask for, and training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import EPOCHS, small
from torch import Tensor, nn

from sauron_train.analysis.cost import network_cost
from sauron_train.analysis.widths import next_width
from sauron_train.checkpoint import load_model
from sauron_train.config import NetworkConfig
from sauron_train.errors import ConfigError, PruningError, RunError
from sauron_train.experiment import Experiment
from sauron_train.progress import Observer
from sauron_train.pruning.channels import trace
from sauron_train.pruning.rivals import Method, filter_scores, one_shot, uniform_widths
from sauron_train.resume import resume
from sauron_train.rival import RivalQuestion, derived_name, final_flops, rival_run
from sauron_train.rival_config import rival_config
from sauron_train.runlog import EpochRow, Run, find_runs
from sauron_train.trainer import Trainer

METHODS: list[Method] = ["fpgm", "l1"]


def weights(filters: int, axis: int) -> Tensor:
    shape = (filters, 5, 3, 3) if axis == 0 else (5, filters, 3, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(filters))


@pytest.mark.parametrize("axis", [0, 1])
def test_scores_are_what_the_papers_define(axis: int) -> None:
    weight = weights(7, axis)
    filters = [weight.select(axis, i).double() for i in range(7)]
    norms = [float(f.abs().sum()) for f in filters]
    distances = [sum(float((f - g).pow(2).sum().sqrt()) for g in filters) for f in filters]
    assert filter_scores(weight, "l1", axis).tolist() == pytest.approx(norms)
    assert filter_scores(weight, "fpgm", axis).tolist() == pytest.approx(distances)


@pytest.mark.parametrize("axis", [0, 1])
def test_least_norm_and_most_replaceable_go_first(axis: int) -> None:
    weight = weights(6, axis)
    weight.select(axis, 4).zero_()
    assert int(filter_scores(weight, "l1", axis).argmin()) == 4
    # Filters at right angles and of equal length are equally far from each other; only a copy is nearer.
    apart = torch.eye(6).reshape(6, 6, 1, 1) if axis == 0 else torch.eye(6).reshape(6, 6, 1, 1).transpose(0, 1)
    apart = apart.clone()
    apart.select(axis, 5).copy_(apart.select(axis, 2))
    assert set(torch.argsort(filter_scores(apart, "fpgm", axis))[:2].tolist()) == {2, 5}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.floats(0.0, 1.2))
@settings(max_examples=60, deadline=None)
def test_widths_are_the_largest_that_fit_and_lose_equal_shares(counts: list[int], share: float) -> None:
    filters = {f"layer_{i}": count for i, count in enumerate(counts)}

    def flops(widths: Mapping[str, Any]) -> Any:
        kept = list(widths.values())
        return sum(a * b for a, b in zip([1, *kept], kept, strict=False))

    whole = flops(filters)
    target = share * whole
    if flops(dict.fromkeys(filters, 1)) > target:
        with pytest.raises(PruningError, match="more than the"):
            uniform_widths(filters, flops, target)
        return
    found = uniform_widths(filters, flops, target)
    assert flops(found) <= target
    assert all(1 <= found[name] <= count for name, count in filters.items())
    lost = {name: filters[name] - kept for name, kept in found.items()}
    pruned = {name for name, count in lost.items() if count}
    if not pruned:
        return
    # With the filter back that went last it would be too large: no other went after the largest share was lost.
    last = max(pruned, key=lambda name: (Fraction(lost[name], filters[name]), list(filters).index(name)))
    assert flops({**found, last: found[last] + 1}) > target
    share_lost = Fraction(lost[last], filters[last])
    for name, count in filters.items():
        assert lost[name] == count - 1 or Fraction(lost[name] + 1, count) >= share_lost


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0.1, 1.0), st.sampled_from([2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_widths_keep_to_a_multiple_where_there_is_one(counts: list[int], share: float, multiple: int) -> None:
    filters = {f"layer_{i}": count for i, count in enumerate(counts)}

    def flops(widths: Mapping[str, Any]) -> Any:
        return sum(widths.values())

    target = max(share * flops(filters), len(counts))
    found = uniform_widths(filters, flops, target, multiple=multiple)
    assert flops(found) <= target
    lost = [name for name, count in filters.items() if found[name] < count]
    assert all(next_width(found[name], multiple) == found[name] for name in lost)
    if lost:
        last = max(
            lost, key=lambda name: (Fraction(filters[name] - found[name], filters[name]), [*filters].index(name))
        )
        wider = min(filters[last], next_width(found[last] + 1, multiple))
        assert flops({**found, last: wider}) > target


def test_layers_that_are_left_out_stay_whole() -> None:
    found = uniform_widths({"a": 8, "b": 8}, lambda widths: widths["a"] + widths["b"], 10, whole=["a"])
    assert found == {"a": 8, "b": 2}


def test_filters_go_by_their_numbers_in_the_whole_network() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(4, 2, 1)
    )
    with torch.no_grad():
        net[0].weight[2].zero_()
        net[2].weight[:, 1].zero_()
    graph = trace(net, torch.zeros(1, 1, 8, 8))
    assert one_shot(net, graph, "l1", {"0": 3, "2": 3}) == {"0": [2], "2": [1]}
    assert one_shot(net, graph, "l1", {"0": 4, "2": 4}) == {}


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    out = tmp_path_factory.mktemp("runs")
    for name, changes in (("baseline", ["prune.enabled=false", "loss.lambda=0"]), ("sauron", [])):
        Trainer(Experiment.prepare(small(*changes), phantom), out / name).run()
    return lambda name: Run(out / name)


@pytest.mark.parametrize("method", METHODS)
def test_a_rival_is_a_whole_run(trained: Callable[[str], Run], tmp_path: Path, method: Method) -> None:
    base, left = trained("baseline"), final_flops(trained("sauron"))
    rows: list[EpochRow] = []

    class Heard(Observer):
        def epoch(self, row: EpochRow) -> None:
            rows.append(row)

    run = rival_run(base, RivalQuestion(method, left, 2), tmp_path / "rival", Heard())
    assert run.status == "finished"
    epochs, before = run.epochs(), base.epochs().iloc[-1]
    assert [row.epoch for row in rows] == epochs["epoch"].tolist() == [1, 2, 3]
    cut = epochs.iloc[0]
    assert np.isnan(cut["train_loss"])
    assert not epochs["train_loss"].iloc[1:].isna().any()
    assert cut["val_dice_before_cut"] == pytest.approx(before["val_dice"], abs=1e-6), "the trained network was cut"
    assert cut["filters_removed"] == sum(len(p.removed) for p in run.prunings()) > 0
    assert epochs["flops"].nunique() == 1
    assert cut["flops"] <= left * run.info.flops
    assert run.info.flops == base.info.flops
    origin = run.info.derived_from
    assert origin is not None
    assert (origin.epoch, origin.trained) == (EPOCHS, True)
    assert derived_name(base.path, run.path).endswith(origin.run)
    assert (run.config.mode, run.config.prune.compensate, run.config.loss.lambda_) == (method, "none", 0.0)
    assert run.config.optimizer == base.config.optimizer
    assert run.info.train_cases == base.info.train_cases
    assert run.map_epochs()[0] == 1
    assert run.map_epochs()[-1] == 3
    # One filter more, that which went last by equal shares, would be above the target.
    widths = {name: len(numbers) for name, numbers in load_model(run.checkpoint()[1])[1].filters.items()}
    whole = {layer.name: layer.filters for layer in run.info.layers}
    lost = {name: Fraction(whole[name] - kept, whole[name]) for name, kept in widths.items()}
    last = [name for name in widths if lost[name] == max(lost.values())][-1]
    more = network_cost(run.config.network, 1, 3, run.config.data.patch, {**widths, last: widths[last] + 1})
    assert int(more.flops) > left * run.info.flops


def test_fine_tuning_that_was_interrupted_goes_on(trained: Callable[[str], Run], tmp_path: Path) -> None:
    class Impatient(Observer):
        def epoch(self, row: EpochRow) -> None:
            if row.epoch == 2:
                raise KeyboardInterrupt

    question = RivalQuestion("l1", 0.5, 2)
    whole = rival_run(trained("baseline"), question, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        rival_run(trained("baseline"), question, tmp_path / "half", Impatient())
    half = Run(tmp_path / "half")
    assert half.last_epoch == 2
    resume(half)
    different = ["seconds", "seconds_training", "memory_mb"]
    assert half.epochs().drop(columns=different).equals(whole.epochs().drop(columns=different))
    assert half.info.derived_from == whole.info.derived_from


def test_what_cannot_be_a_rival_is_said_and_leaves_nothing(trained: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has lost filters already; a rival begins with a whole one"):
        rival_run(trained("sauron"), RivalQuestion("fpgm", 0.5, 1), tmp_path / "rival")
    with pytest.raises(PruningError, match="the smallest network that uniform pruning leaves"):
        rival_run(trained("baseline"), RivalQuestion("fpgm", 1e-4, 1), tmp_path / "rival")
    with pytest.raises(RunError, match="has lost no filter, so there are no FLOPs to match"):
        final_flops(trained("baseline"))
    with pytest.raises(ConfigError, match=r"--set network\.levels=2 is not possible for a rival"):
        rival_config(trained("baseline").config, "l1", 0.5, 3, ["network.levels=2"])
    assert find_runs(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_its_flops_count_as_those_of_the_run(trained: Callable[[str], Run]) -> None:
    info, config = trained("baseline").info, trained("baseline").config
    network = NetworkConfig.model_validate(config.network.model_dump())
    whole = {layer.name: layer.filters for layer in info.layers}
    assert int(network_cost(network, 1, len(info.labels), config.data.patch, whole).flops) == info.flops

"""The public class in somebody else's training loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from oracle import assert_equal_outputs, assert_optimizer_fits, masked
from torch import Tensor, nn
from torch.nn import functional as F

from sauron_train import History, Sauron
from sauron_train.errors import (
    ConfigError,
    EmptyLayerError,
    MismatchError,
    PruningError,
    SauronError,
    UnknownLayerError,
)
from sauron_train.pruning.distances import delta_opt

SETTLED = History((1.0,) * 7, (0.5,) * 7)
EAGER: dict[str, Any] = {"prune": {"threshold_start": 0.7, "threshold_max": 0.9}}


class Block(nn.Module):
    """A residual block whose end is written out in `forward`."""

    def __init__(self, inputs: int, outputs: int, norm: type[nn.Module] = nn.InstanceNorm2d) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)
        self.na, self.nb = norm(outputs), norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.na(self.a(x)), 0.1)
        return F.leaky_relu(self.nb(self.b(y)) + self.skip(x), 0.1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = Block(1, 8), Block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(F.max_pool2d(self.first(x), 2)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_penalty_is_delta_opt_of_what_leaves_each_block(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x, {"loss": {"lambda": 0.5}})
    net(x)
    penalty = sauron.penalty()
    inner = [F.leaky_relu(block.na(block.a(i)), 0.1) for block, i in ((net.first, x), (net.second, pooled(net, x)))]
    ends = [net.first(x), net.second(pooled(net, x))]
    layers = [inner[0], ends[0], ends[0], inner[1], ends[1], ends[1]]
    expected = 0.5 * torch.stack([delta_opt(maps).mean() for maps in layers]).mean()
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    assert net.first.skip.weight.grad.abs().sum() > 0
    assert net.head.weight.grad is None


def pooled(net: Net, x: Tensor) -> Tensor:
    return F.max_pool2d(net.first(x), 2)


def test_a_penalty_needs_a_pass_of_its_own(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x)
    with pytest.raises(PruningError, match="training mode before each penalty"):
        sauron.penalty()
    net(x)
    sauron.penalty()
    net.eval()(x)
    with pytest.raises(PruningError, match="training mode before each penalty"):
        sauron.penalty()


def test_a_copy_of_the_network_does_not_speak_for_it(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x)
    net(x)
    alone = sauron.delta_opt()
    net(x)
    copy.deepcopy(net)(torch.zeros_like(x))
    assert sauron.delta_opt() == alone


@pytest.mark.parametrize(("last", "enabled", "penalised"), [(2, True, False), (3, True, True), (2, False, True)])
def test_the_penalty_ends_with_the_cuts_where_that_is_asked_for(
    net: Net, x: Tensor, last: int, enabled: bool, penalised: bool
) -> None:
    sauron = Sauron(net, x, {"loss": {"until_last_cut": True}, "prune": {"last_epoch": last, "enabled": enabled}})
    for epoch in (3, 1, 3):
        sauron.begin(epoch)
        net(x)
        penalty = sauron.penalty()
        assert (penalty.item() > 0) == (penalised or epoch == 1)
        net(x)
        assert sauron.delta_opt().item() > 0, "it is looked at all the same"
    assert sauron.penalised == penalised


@pytest.mark.parametrize("loss", [{"lambda": 0.0}, {"normalization": "off"}])
def test_without_delta_opt_nothing_is_paid_and_pruning_goes_on(net: Net, x: Tensor, loss: dict[str, Any]) -> None:
    sauron = Sauron(net, x, {"loss": loss, **EAGER})
    net(x)
    assert sauron.penalty() == 0
    assert sauron.prune(None, [x], SETTLED).removed


def test_layers_of_a_sum_are_decided_as_one(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x, {"prune": {**EAGER["prune"], "references": "one", "compensate": "none"}})
    optimizer = torch.optim.Adam(net.parameters())
    assert ("first.skip", "first.b") in {tuple(sorted(g, reverse=True)) for g in sauron.graph.groups()}
    twin_graph, twin = sauron.graph, copy.deepcopy(net)
    record = sauron.prune(optimizer, [x], SETTLED)
    together = [record.layers[name] for name in ("first.b", "first.skip")]
    assert together[0].removed == together[1].removed
    assert together[0].delta_prune == together[1].delta_prune
    assert together[0].reference == together[1].reference
    assert record.removed["first.b"] == record.removed["first.skip"] != ()
    assert sauron.layers["first.b"] == sauron.layers["first.skip"] == 8 - len(record.removed["first.b"])
    assert_equal_outputs(net.double(), masked(twin, twin_graph, record.cut).double(), x.double())
    assert_optimizer_fits(net, optimizer)


def test_a_dead_layer_is_cut_to_its_minimum_and_the_rest_trains(x: Tensor) -> None:
    torch.manual_seed(0)
    dead = nn.Conv2d(8, 6, 3, padding=1)
    nn.init.zeros_(dead.weight)
    nn.init.constant_(dead.bias, -1.0)
    alive = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.LeakyReLU())
    net = nn.Sequential(alive, nn.Sequential(dead, nn.ReLU()), nn.Conv2d(6, 2, 1))
    sauron = Sauron(net, x, EAGER)
    loss = net(x).square().mean() + sauron.penalty()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    before = net(x)
    record = sauron.prune((), [x], SETTLED)
    assert sauron.layers["1.0"] == 1
    assert set(record.layers["1.0"].delta_prune) == {0.0}
    torch.testing.assert_close(net(x), before)


def test_excluded_layers_and_their_partners_stay(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x, {"prune": {**EAGER["prune"], "exclude": ["*.skip"]}})
    record = sauron.prune(None, [x], SETTLED)
    assert set(record.removed) == {"first.a", "second.a"}


def test_with_all_references_more_goes_and_each_has_a_survivor_near(net: Net, x: Tensor) -> None:
    counts = {}
    for references in ("one", "all"):
        model = copy.deepcopy(net)
        sauron = Sauron(model, x, {"prune": {**EAGER["prune"], "references": references}})
        record = sauron.prune(None, [x], SETTLED)
        counts[references] = sum(map(len, record.removed.values()))
        for layer, decided in record.layers.items():
            survivors = set(decided.filters) - set(decided.removed)
            assert set(decided.removed.values()) <= survivors, layer
    assert counts["all"] > counts["one"]


def test_a_random_reference_is_drawn_from_the_seed(net: Net, x: Tensor) -> None:
    values = []
    for seed in (0, 0, 1):
        sauron = Sauron(net, x, {"loss": {"reference": "random"}, "seed": seed})
        net(x)
        values.append(sauron.delta_opt().item())
        sauron.close()
    assert values[0] == values[1] != values[2]


def test_of_some_images_each_is_drawn_alike(net: Net, x: Tensor) -> None:
    batch = torch.cat([x, 2 * x.flip(0) + 1])
    whole = Sauron(net, x)
    net(batch)
    every = [whole.delta_opt().item()]
    singles = []
    for image in batch.split(1):
        net(image)
        singles.append(whole.delta_opt().item())
    assert sum(singles) / len(singles) == pytest.approx(every[0], rel=1e-5)
    sauron = Sauron(net, x, {"loss": {"samples": 1}})
    drawn = []
    for _ in range(60):
        net(batch)
        drawn.append(sauron.delta_opt().item())
    for value in drawn:
        assert min(abs(value - single) for single in singles) < 1e-6
    assert len({round(value, 6) for value in drawn}) == len({round(single, 6) for single in singles}) > 1


def test_what_a_user_cuts_takes_its_partners_along(net: Net, x: Tensor) -> None:
    sauron, widths = Sauron(net, x), (("first", 8), ("second", 6))
    assert sauron.layers == {f"{block}.{conv}": n for block, n in widths for conv in ("a", "b", "skip")}
    assert sauron.cut({"first.skip": [2, 5]}).removed == {"first.b": (2, 5), "first.skip": (2, 5)}
    assert sauron.cut({"first.b": [7]}).removed == {"first.b": (7,), "first.skip": (7,)}
    with pytest.raises(UnknownLayerError, match="head cannot be cut by itself: it makes an output"):
        sauron.cut({"head": [0]})
    assert sauron.report == {"head": "it makes an output of the network"}
    net(x)


def test_a_group_norm_loses_whole_groups(x: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 2, 1)).double()
    sauron = Sauron(model, x.double())
    twin_graph, twin = sauron.graph, copy.deepcopy(model)
    record = sauron.cut({"0": [3, 6]})
    assert record.removed == {"0": (2, 3, 6, 7)}
    assert (model[1].num_groups, model[1].num_channels) == (2, 4)
    assert_equal_outputs(model, masked(twin, twin_graph, record.cut), x.double())
    with pytest.raises(EmptyLayerError):
        sauron.cut({"0": [0, 4]})


def test_frozen_modules_stay_frozen(net: Net, x: Tensor) -> None:
    net.train()
    net.first.na.eval()
    sauron = Sauron(net, x, EAGER)
    sauron.prune(None, [x], SETTLED)
    assert not net.first.na.training
    assert net.second.na.training


def test_clear_words_for_what_cannot_be(net: Net, x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'loss\.lamda'"):
        Sauron(net, x, {"loss": {"lamda": 1}})
    with pytest.raises(PruningError, match=r"no convolution of this network can be cut \(0: it makes an output"):
        Sauron(nn.Sequential(nn.Conv2d(1, 2, 3)), x)
    with pytest.raises(PruningError, match="at least one batch"):
        Sauron(net, x).prune(None, [], SETTLED)


def test_its_words_name_what_can_go_what_is_tied_and_what_stays(net: Net, x: Tensor) -> None:
    lines = str(Sauron(net, x)).splitlines()
    assert lines[0] == "6 layers with 42 filters can be pruned."
    assert "  first.b + first.skip" in lines
    assert "  head: it makes an output of the network" in lines
    assert not any(line.startswith("Not understood") for line in lines)
    mixed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ChannelShuffle(2), nn.Conv2d(4, 2, 1))
    assert "  ChannelShuffle in 2" in str(Sauron(mixed, x)).splitlines()


def test_epochs_out_of_bounds_are_left_alone(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x, {"prune": {**EAGER["prune"], "first_epoch": 2, "last_epoch": 3}})
    gone = [bool(sauron.prune(None, [x], History((1.0,) * epoch, (1.0,) * epoch)).removed) for epoch in (1, 2, 3, 4)]
    assert gone == [False, True, gone[2], False]
    off = Sauron(net, x, {"prune": {**EAGER["prune"], "enabled": False}})
    assert not off.prune(None, [x], SETTLED).layers


def test_a_saved_state_of_another_network_is_refused_before_anything_changes(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x)
    state = sauron.state_dict()
    before = copy.deepcopy(net.state_dict())
    for change, sentence in (
        ({"nowhere": [0, 1]}, "only one of the two prunes nowhere"),
        ({"first.a": [0, 9]}, "has filter 9 of first.a, which is not there"),
        ({"first.b": [0, 1]}, "tied to others"),
    ):
        with pytest.raises(PruningError, match=sentence):
            sauron.load_state_dict({**state, "filters": {**state["filters"], **change}})
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert sauron.layers == {layer: len(kept) for layer, kept in state["filters"].items()}


def test_thresholds_of_another_schedule_are_refused(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x, {"prune": {"kappa": 3}})
    state = sauron.state_dict()
    leader = next(iter(state["states"]))
    for states in ({"nobody": {"step": 1}}, {leader: {"step": 9}}):
        with pytest.raises(PruningError, match="the saved thresholds are those of another network"):
            sauron.load_state_dict({**state, "states": states})
    with pytest.raises(PruningError, match=r"saved with prune.kappa 3, this Sauron has 15; give it the same config"):
        Sauron(net, x).load_state_dict(state)
    with pytest.raises(PruningError, match="this is no state of a Sauron"):
        sauron.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda s, x: s.prune(None, [(x, x)], SETTLED), "cannot be run on a batch .*images without labels"),
        (lambda s, x: s.prune(None, [[x]], SETTLED), r"Out of a loader take the images, as in \(b\['image'\]"),
        (lambda s, x: s.prune(None, x, SETTLED), "batches must be a list of batches"),
        (lambda s, x: s.prune(None, [x[:, [0, 0]]], SETTLED), "cannot be run on a batch .*channels"),
        (lambda s, x: s.prune(None, [x * torch.nan], SETTLED), "the maps of .* are no numbers on these batches"),
        (lambda s, x: s.prune(s.model, [x], SETTLED), "must be a torch optimizer, or several; this is a Net"),
        (lambda s, x: s.prune(None, [x], ([1.0], [1.0])), "must be a History"),
        (lambda s, x: s.prune(None, [x], History([], [])), "has 0 training and 0 validation losses"),
        (lambda s, x: s.prune(None, [x], History([1.0], [1.0, 1.0])), "has 1 training and 2 validation losses"),
        (lambda s, x: s.prune(None, [x], History([1.0], [float("nan")])), "a loss that is not a number"),
        (lambda s, x: s.cut({"first.aa": [0]}), "is no convolution of this network; did you mean 'first.a'"),
        (lambda s, x: s.cut({"first.a": 3}), "must be a list of numbers"),
        (lambda s, x: s.cut(["first.a"]), "give a table of layer name to filter numbers"),
        (lambda s, x: (s.close(), s.model(x), s.penalty()), "this Sauron was closed"),
        (lambda s, x: Sauron(x, s.model), "model must be a torch.nn.Module; this is a Tensor"),
        (lambda s, x: Sauron(s.model, x, "paper"), 'must be a table of keys, such as {"preset": "paper"}'),
        (
            lambda s, x: Sauron(s.model, x, {"network": {}}),
            "belongs to a recipe; here the keys are preset, loss, prune",
        ),
        (lambda s, x: Sauron(s.model, x, {"prune.kappa": 3}), "write tables inside tables"),
        (lambda s, x: Sauron(s.model, x, {"prune": {"exclude": ["first"]}}), r"did you mean 'first.\*'"),
        (lambda s, x: Sauron(s.model, x, {"prune": {"exclude": "first"}}), "prune.exclude must be a list in brackets"),
    ],
)
def test_a_mistake_is_one_sentence(net: Net, x: Tensor, mistake: Any, sentence: str) -> None:
    sauron = Sauron(net, x, EAGER)
    with pytest.raises(SauronError, match=sentence) as told:
        mistake(sauron, x)
    assert "\n" not in str(told.value)
    assert all(len(sauron.graph.filters(layer)) == width for layer, width in sauron.layers.items())


def test_a_forgotten_optimizer_is_noticed(net: Net, x: Tensor) -> None:
    sauron = Sauron(net, x)
    net(x).sum().backward()
    with pytest.raises(MismatchError, match=r"give its optimizer, whose state is cut with it, or \(\)"):
        sauron.cut({"first.a": [1]})
    assert sauron.cut({"first.a": torch.tensor([1])}, ()).removed == {"first.a": (1,)}


def test_a_new_one_silences_the_one_before(net: Net, x: Tensor) -> None:
    first, second = Sauron(net, x), Sauron(net, x)
    net.train()(x)
    assert second.penalty() > 0
    with pytest.raises(PruningError, match="another one was made for the model"):
        first.penalty()


def test_a_layer_that_is_passed_by_is_named(net: Net, x: Tensor) -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head, self.skips = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1), False

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            return self.head(y if self.skips else F.relu(self.b(y)))

    model = Skips()
    sauron = Sauron(model, x)
    model.skips = True
    model(x)
    with pytest.raises(PruningError, match="b was not called in this pass"):
        sauron.penalty()

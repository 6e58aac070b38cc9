"""What people write in `forward`: read rightly, or left whole with a reason, but never cut wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from oracle import assert_equal_outputs, masked, outputs, random_cut
from torch import Tensor, library, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sauron_train import History, Sauron
from sauron_train.errors import ConfigError, MismatchError, PruningError
from sauron_train.pruning import check
from sauron_train.pruning.surgery import cut_network

LOSSES = History((1.0,), (1.0,))
EAGER: dict[str, Any] = {"prune": {"threshold_start": 0.7, "threshold_max": 0.9}}


def conv(inputs: int, filters: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, 3, padding=1)


class Written(nn.Module):
    """Two convolutions read an image, somebody's lines join them, a third makes the output."""

    def __init__(self, lines: Callable[[Any, Tensor], Tensor], **more: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.head, self.lines = conv(1, 6), conv(1, 6), conv(6, 2), lines
        for name, module in more.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lines(self, x))


class FlipOf(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.flip(1)


class Aux(nn.Module):
    """A branch of two convolutions that only training takes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head, self.aux, self.aux_head = conv(1, 6), conv(6, 2), conv(6, 5), conv(5, 2)

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.a(x))
        return (self.head(y), self.aux_head(F.relu(self.aux(y)))) if self.training else self.head(y)


def remembers_its_width(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    if y.shape[1] != 6:
        raise ValueError("expected 6 channels")
    return y + m.b(x)


def shapes_decide(m: Any, x: Tensor) -> Tensor:
    u, v = m.a(x), m.narrow(x)
    return m.wide(v) + (u.mean() if u.shape[1] == v.shape[1] + 2 else 0)


LINES: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module]]] = {
    "clamp by maps": (lambda m, x: torch.clamp(m.a(x), max=m.b(x)), {}),
    "power of maps": (lambda m, x: torch.pow(m.a(x).abs() + 0.1, m.b(x)), {}),
    "positions": (lambda m, x: m.a(x) + m.b(x) * (torch.arange(16) * 0.1), {}),
    "a scalar of one axis": (lambda m, x: m.a(x) + torch.ones(1) * m.b(x), {}),
    "by way of NumPy": (lambda m, x: m.a(x) + torch.from_numpy(m.b(x).detach().numpy()), {}),
    "a part by way of NumPy": (lambda m, x: m.a(x) + torch.from_numpy(m.b(x).detach().numpy()[:, ::-1].copy()), {}),
    "another view by way of NumPy": (lambda m, x: m.a(x) + torch.from_numpy(m.b(x).detach().numpy()[:, [0]]), {}),
    "a subclass": (lambda m, x: m.a(x).as_subclass(MetaTensor) + m.b(x), {}),
    "a function of ones own": (lambda m, x: FlipOf.apply(m.a(x)) + m.b(x), {}),
    "an empty container": (lambda m, x: m.nothing(m.a(x)) + m.b(x), {"nothing": nn.Sequential()}),
    "chunks": (lambda m, x: torch.cat([*m.a(x).chunk(2, dim=1)][::-1], dim=1) + m.b(x), {}),
    "a shuffle": (lambda m, x: F.pixel_shuffle(m.wide(x), 2)[..., ::2, ::2] + m.b(x), {"wide": conv(1, 24)}),
    "an attention": (lambda m, x: m.a(x) * m.b(x).mean((2, 3), keepdim=True).sigmoid(), {}),
    "a norm of one group": (lambda m, x: m.norm(m.a(x)) + m.b(x), {"norm": nn.GroupNorm(1, 6)}),
    "a width that forward remembers": (remembers_its_width, {}),
    "a shape that decides": (shapes_decide, {"narrow": conv(1, 4), "wide": conv(4, 6)}),
}


@pytest.mark.parametrize("name", LINES)
def test_read_rightly_or_left_whole(name: str) -> None:
    torch.manual_seed(0)
    lines, more = LINES[name]
    model, x = Written(lines, **more).double().eval(), torch.randn(2, 1, 16, 16, dtype=torch.float64)
    try:
        sauron = Sauron(model, x, EAGER)
    except PruningError as error:
        assert "no convolution of this network can be cut" in str(error)
        return
    rng = __import__("numpy").random.default_rng(0)
    for _ in range(2):
        cut = random_cut(sauron.graph, rng, 0.4)
        twin = masked(model, sauron.graph, cut)
        sauron.graph = cut_network(model, sauron.graph, cut)
        assert_equal_outputs(model, twin, x)
    sauron.prune(None, [x], LOSSES)
    outputs(model, x)


@pytest.mark.parametrize("name", ["an empty container", "a subclass", "by way of NumPy", "positions"])
def test_what_is_harmless_does_not_keep_layers_from_being_cut(name: str) -> None:
    lines, more = LINES[name]
    assert set(Sauron(Written(lines, **more), torch.randn(1, 1, 16, 16)).layers) == {"a", "b"}


def test_what_a_trial_cut_shows_to_be_misunderstood_is_left_whole_and_named() -> None:
    model = nn.Sequential(conv(1, 4), Written(remembers_its_width))
    model[1].a, model[1].b = conv(4, 6), conv(4, 6)
    sauron = Sauron(model, torch.randn(1, 1, 16, 16))
    assert set(sauron.layers) == {"0"}
    assert "a trial cut of it changed more" in sauron.report["1.a"]


class Rounded(nn.Module):
    """As a GPU does it in TF32: what it rounds off depends on how many channels there are."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.dtype == torch.float64 else x * (1 + 0.01 * math.sin(x.shape[1]))


def test_rounding_on_a_gpu_is_not_taken_for_a_misunderstanding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(conv(1, 6), Rounded(), nn.ReLU(), conv(6, 6), Rounded(), nn.ReLU(), conv(6, 2))
    images = torch.randn(1, 1, 16, 16)
    with pytest.raises(PruningError, match="no convolution of this network can be cut"):
        Sauron(model, images)
    monkeypatch.setattr(check, "_ROUNDING", {"cpu"})
    assert set(Sauron(model, images).layers) == {"0", "3"}


@pytest.mark.parametrize("lines", [lambda m, x: m.a(x), remembers_its_width], ids=["right", "wrong"])
def test_what_cannot_be_computed_in_double_is_tried_as_it_is(
    monkeypatch: pytest.MonkeyPatch, lines: Callable[[Any, Tensor], Tensor]
) -> None:
    class NamesItsType(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.written = Written(lines)

        def forward(self, x: Tensor) -> Tensor:
            return self.written(x.float())

    found = []
    for devices in (set(), {"cpu"}):
        monkeypatch.setattr(check, "_ROUNDING", devices)
        try:
            found.append(set(Sauron(NamesItsType(), torch.randn(1, 1, 16, 16)).layers))
        except PruningError:
            found.append(set())
    assert found[0] == found[1] == (set() if lines is remembers_its_width else {"written.a"})


def test_images_of_monai() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 2))
    images = MetaTensor(torch.randn(2, 1, 16, 16))
    sauron = Sauron(model, images[:1], EAGER)
    assert sauron.prune(None, [images], LOSSES).removed
    assert model(images).shape == (2, 2, 16, 16)


def test_a_branch_that_only_training_takes_is_left_whole() -> None:
    torch.manual_seed(0)
    model, x = Aux(), torch.randn(2, 1, 16, 16)
    sauron = Sauron(model, x, {"prune": {"threshold_start": 0.9, "threshold_max": 0.9}})
    assert set(sauron.layers) == {"a"}
    assert sauron.report["aux"] == "it is called only while the network trains"
    assert sauron.prune(None, [x], LOSSES).removed
    assert [y.shape[1] for y in model.train()(x)] == [2, 2]


def test_a_foreign_hook_keeps_its_layer_whole() -> None:
    model, x = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 2)), torch.randn(2, 1, 16, 16)
    model[0].register_forward_hook(lambda _m, _i, output: output.flip(1))
    sauron = Sauron(model, x)
    assert set(sauron.layers) == {"2"}
    assert "with a foreign hook" in sauron.report["0"]


def test_an_operation_of_somebody_elses_with_a_known_name_is_not_taken_for_it() -> None:
    operations = library.Library("elsewhere", "DEF")
    operations.define("silu(Tensor x) -> Tensor")
    operations.impl("silu", lambda x: x.flip(1).clone(), "CompositeExplicitAutograd")
    model = Written(lambda m, x: torch.ops.elsewhere.silu(m.a(x)) + m.b(x))
    with pytest.raises(PruningError, match="no convolution of this network can be cut"):
        Sauron(model, torch.randn(1, 1, 16, 16))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(1, 6), conv(1, 6), conv(12, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.cat([F.relu(self.a(x)), F.relu(self.b(y))], dim=1))


def test_several_inputs() -> None:
    torch.manual_seed(0)
    model, pair = Two(), (torch.randn(3, 1, 16, 16), torch.randn(3, 1, 16, 16))
    sauron = Sauron(model, pair, EAGER)
    record = sauron.prune(None, [pair], LOSSES)
    assert record.removed
    assert model(*pair).shape == (3, 2, 16, 16)
    with pytest.raises(PruningError, match=r"each batch must be what the model is called with.*a list"):
        sauron.prune(None, [[*pair]], LOSSES)


def test_only_the_first_batches_are_looked_at() -> None:
    model, seen = nn.Sequential(conv(1, 8), conv(8, 2)), []

    def batches() -> Any:
        for number in range(9):
            seen.append(number)
            yield torch.randn(1, 1, 8, 8)

    Sauron(model, torch.randn(1, 1, 8, 8), {"prune": {"batches": 3}}).prune(None, batches(), LOSSES)
    assert seen == [0, 1, 2]


def test_a_reentrant_checkpoint_is_refused() -> None:
    def lines(reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
        return lambda m, x: F.relu(m.b(x)) + checkpoint(m.a, x, use_reentrant=reentrant)

    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    for reentrant in (False, True):
        model = Written(lines(reentrant))
        sauron = Sauron(model, x.detach())
        model.train()(x)
        if reentrant:
            with pytest.raises(PruningError, match="use_reentrant=False"):
                sauron.penalty()
        else:
            sauron.penalty().backward()
            assert model.a.weight.grad is not None


def test_optimizers_whose_state_cannot_be_cut() -> None:
    model, x = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 2)), torch.randn(2, 1, 16, 16)
    sauron = Sauron(model, x, EAGER)

    def closure() -> Tensor:
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for kind in (torch.optim.LBFGS, torch.optim.Adafactor):
        optimizer = kind(model.parameters())
        optimizer.step(closure)
        before, drawn = dict(sauron.states), sauron.generator.get_state()
        with pytest.raises(MismatchError, match="use an optimizer whose state has the shape of its parameter"):
            sauron.prune(optimizer, [x], LOSSES)
        assert sauron.states == before, "nothing has been changed"
        assert sauron.generator.get_state().equal(drawn)
    other = torch.optim.Adam(conv(1, 2).parameters())
    with pytest.raises(MismatchError, match="holds no parameter of the network"):
        sauron.prune(other, [x], LOSSES)


def test_several_optimizers() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 2)), torch.randn(2, 1, 16, 16)
    both = [torch.optim.Adam(model[0].parameters()), torch.optim.SGD(model[2].parameters(), lr=0.1, momentum=0.9)]
    sauron = Sauron(model, x, EAGER)
    for _ in range(2):
        model(x).square().mean().backward()
        for optimizer in both:
            optimizer.step()
        assert sauron.cut({"0": [sauron.graph.filters("0")[0]]}, both).removed
    for optimizer in both:
        for parameter, state in optimizer.state.items():
            assert all(v.shape == parameter.shape for v in state.values() if isinstance(v, Tensor) and v.ndim)


def test_settings_that_can_do_nothing_are_said() -> None:
    model, x = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 2)), torch.randn(2, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"'enc_\*', which fits no layer; did you mean '0'"):
        Sauron(model, x, {"prune": {"exclude": ["enc_*"]}})
    with pytest.raises(ConfigError, match="names every layer"):
        Sauron(model, x, {"prune": {"exclude": ["*"]}})
    with pytest.raises(ConfigError, match="there are no validation losses"):
        Sauron(model, x).prune(None, [x], History((1.0,), ()))
    assert not Sauron(model, x, {"prune": {"converge_on": "train"}}).prune(None, [x], History((1.0,), ())).removed


def test_thresholds_stay_with_their_layers_when_a_tie_is_gone() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm, self.head = conv(1, 6), conv(1, 8), nn.GroupNorm(4, 12), conv(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(torch.cat([self.a(x)[:, :5], self.b(x)[:, 1:8]], dim=1)))

    sauron = Sauron(nn.Sequential(conv(1, 4), nn.ReLU(), conv(4, 1), Tied()), torch.randn(1, 1, 16, 16))
    groups = sauron.graph.groups()
    for step, group in enumerate(groups, start=1):
        sauron.states[group[0]] = type(sauron.states[group[0]])(step=step)
    first = sauron.graph.filters(groups[0][0])[0]
    sauron.cut({groups[0][0]: [first]})
    assert set(sauron.states) == {group[0] for group in sauron.graph.groups()}
    assert sauron.states[groups[0][0]].step == 1


def test_a_network_that_cannot_be_copied_is_not_tried_but_pruned() -> None:
    model, x = nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 2)), torch.randn(2, 1, 16, 16)
    model[0].log = (line for line in ())  # as an open file would be
    assert set(Sauron(model, x).layers) == {"0"}

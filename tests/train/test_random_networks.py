"""Networks and cuts drawn at random: whatever is wired to whatever, a cut network is the masked one."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import (
    OPTIMIZERS,
    assert_equal_outputs,
    assert_optimizer_fits,
    assert_trains_alike,
    masked,
    outputs,
    random_cut,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F

from sauron_train.pruning.channels import trace
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.surgery import cut_network

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
NORM: dict[tuple[str, int], Any] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
KINDS = (
    "conv", "block", "residual", "concat", "twice", "down", "up", "slopes", "group norm", "depthwise", "gate", "crop",
    "conv", "block", "residual", "concat", "grouped", "softmax", "scale",
)  # fmt: skip


class Drawn(nn.Module):
    """A chain of drawn steps; each may look back at any earlier tensor of the same size."""

    def __init__(self, dim: int, norm: str, steps: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.dim, self.steps, width, self.parts = dim, steps, 4, nn.ModuleList()
        self.first = CONV[dim](1, width, 3, padding=1)
        widths = [width]
        for kind, size, back in steps:
            part, width = self._part(kind, norm, widths[-1], size, widths[back % len(widths)])
            self.parts.append(part)
            widths.append(width)
        self.head, self.side = CONV[dim](width, 2, 1), CONV[dim](width, 2, 1)

    def _part(self, kind: str, norm: str, width: int, size: int, before: int) -> tuple[nn.Module, int]:
        conv, dim = CONV[self.dim], self.dim
        normed, groups = NORM[norm, dim](size, affine=True), max(g for g in (1, 2, 4) if width % g == 0)
        parts: dict[str, tuple[Any, int]] = {
            "conv": (lambda: conv(width, size, 3, padding=1, bias=size % 2 == 0), size),
            "block": (lambda: nn.Sequential(conv(width, size, 3, padding=1), normed, nn.LeakyReLU(0.1, True)), size),
            "residual": (lambda: conv(width, before, 1), before),
            "concat": (nn.Identity, width + before),
            "twice": (lambda: conv(width, width, 3, padding=1), width),
            "down": (lambda: POOL[dim](2), width),
            "up": (lambda: UP[dim](width, size, 2, stride=2), size),
            "slopes": (lambda: nn.PReLU(width), width),
            "group norm": (lambda: nn.GroupNorm(groups, width), width),
            "depthwise": (lambda: conv(width, width, 3, padding=1, groups=width), width),
            "grouped": (lambda: conv(width, width, 1, groups=min(groups, 2)), width),
            "gate": (lambda: conv(width, 1, 1), width),
            "softmax": (lambda: nn.Softmax(dim=1), width),
            "scale": (lambda: _Scale(width, dim), width),
            "crop": (nn.Identity, width),
        }
        make_part, widened = parts[kind]
        return make_part(), widened

    def forward(self, x: Tensor) -> Any:
        seen = [self.first(x)]
        for (kind, _, back), part in zip(self.steps, self.parts, strict=True):
            seen.append(self._step(kind, part, seen[-1], seen[back % len(seen)]))
        if self.training:
            return self.head(seen[-1]), self.side(F.relu(seen[-1]))
        return self.head(seen[-1])

    def _step(self, kind: str, part: nn.Module, x: Tensor, other: Tensor) -> Tensor:
        ways = {
            "residual": lambda: self._residual(part(x), other),
            "concat": lambda: torch.cat([x, self._fit(other, x)], dim=1),
            "twice": lambda: x + torch.tanh(part(part(x))),
            "down": lambda: part(x) if min(x.shape[2:]) > 2 else x,
            "up": lambda: part(x)[(..., *(slice(side) for side in x.shape[2:]))],
            "gate": lambda: x * torch.sigmoid(part(x)),
            "crop": lambda: F.pad(x[..., 1:], (1, 0)),
        }
        return ways.get(kind, lambda: part(x))()

    def _residual(self, y: Tensor, other: Tensor) -> Tensor:
        y += self._fit(other, y)
        return F.leaky_relu(y, 0.1)

    @staticmethod
    def _fit(other: Tensor, x: Tensor) -> Tensor:
        return other if other.shape[2:] == x.shape[2:] else F.interpolate(other, size=x.shape[2:])


class _Scale(nn.Module):
    """A parameter that no module of torch owns."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, width, *(1,) * dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


step = st.tuples(st.sampled_from(KINDS), st.integers(2, 6), st.integers(0, 9))
cases = st.tuples(
    st.sampled_from([2, 3]), st.sampled_from(["instance", "batch"]), st.lists(step, min_size=3, max_size=8)
)


def make(case: tuple[int, str, list[tuple[str, int, int]]]) -> tuple[nn.Module, Tensor]:
    dim, norm, steps = case
    torch.manual_seed(0)
    return Drawn(dim, norm, steps).double(), torch.randn(2, 1, *(8,) * dim, dtype=torch.float64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases, st.sampled_from(sorted(OPTIMIZERS)), st.integers(0, 99))
def test_cut_equals_masked(case: Any, kind: str, seed: int) -> None:
    model, x = make(case)
    optimizer = OPTIMIZERS[kind](model.parameters())
    graph, rng = trace(model, x), np.random.default_rng(seed)
    for _ in range(2):
        train(model.train(), optimizer, x)
        cut = random_cut(graph, rng, 0.4)
        twin, before = masked(model, graph, cut), copy.deepcopy((model, optimizer))
        after = cut_network(model, graph, cut, optimizer)
        assert_equal_outputs(model, twin, x)
        assert_optimizer_fits(model, optimizer)
        assert_trains_alike(model, optimizer, before, graph, cut, x)
        graph = after


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases)
def test_tracing_leaves_no_trace(case: Any) -> None:
    model, x = make(case)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    graph = trace(model, x)
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(name in graph.reasons for name in ("head", "side"))


def wrong(graph: ChannelGraph, how: str) -> ChannelGraph:
    """A graph with one rule broken."""
    if how == "offsets":
        convs = {n: dataclasses.replace(c, inputs=np.roll(c.inputs, 1)) for n, c in graph.layers.items()}
        return dataclasses.replace(graph, layers=convs)
    return dataclasses.replace(graph, followers={})


def test_the_oracle_sees_a_broken_rule() -> None:
    for how in ("offsets", "norms"):
        model, x = make((2, "batch", [("block", 4, 0), ("concat", 2, 0), ("block", 5, 0)]))
        outputs(model.train(), x)
        graph = wrong(trace(model, x), how)
        cut = graph.resolve({name: [1] for name in graph.layers})
        twin = masked(model, trace(model, x), cut)
        try:
            cut_network(model, graph, cut)
            assert_equal_outputs(model, twin, x)
        except (AssertionError, RuntimeError):
            continue
        raise AssertionError(f"a graph with wrong {how} passed")

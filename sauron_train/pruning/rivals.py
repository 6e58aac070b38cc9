"""Filter pruning as others do it: in a trained network, all at once, by nothing but the weights.

Two criteria, both of a layer's own filters without their biases:

- `l1`: filters of least L1 norm go (Li et al., "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710);
- `fpgm`: filters nearest to the geometric median of their layer go (He et al., "Filter pruning via geometric median for
  deep convolutional neural networks acceleration", CVPR 2019, arXiv 1811.00250). As there, a filter's sum of Euclidean
  distances to all filters of its layer stands for that nearness.

Every layer loses the same share of its filters, as in the second paper, to within the widths that it may be cut to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sauron_train.analysis.widths import widths_below
from sauron_train.errors import PruningError
from sauron_train.pruning.graph import ChannelGraph

Method = Literal["fpgm", "l1"]
Array = npt.NDArray[Any]


def filter_scores(weight: Tensor, method: Method, axis: int = 0) -> Tensor:
    """How much each filter of a layer is worth; the least goes first.

    Args:
        weight: of a convolution, (filters, inputs, *kernel), or with `axis` 1 of a transposed one, (inputs, filters,
            *kernel).
        method: the criterion.
        axis: along which the filters lie.

    Returns:
        (filters,) float64.
    """
    filters = weight.detach().cpu().double().movedim(axis, 0).flatten(1)
    return filters.abs().sum(dim=1) if method == "l1" else torch.cdist(filters, filters, compute_mode=_EXACT).sum(dim=1)


# Through matrix products a filter would lie at a small distance from its own copy.
_EXACT = "donot_use_mm_for_euclid_dist"


def uniform_widths(
    filters: Mapping[str, int],
    flops: Callable[[Mapping[str, Array]], Array],
    target: float,
    whole: Collection[str] = (),
    multiple: int = 1,
) -> dict[str, int]:
    """The widths of the largest network that costs no more than a target, if every layer loses the same share.

    Filters go one at a time, or by as many as reach the next width of `analysis.widths`, always from the layer that has
    then lost the smallest share of its own, and each layer keeps one. So no share differs from another by more than one
    such step, and with one step less it were too large.

    Args:
        filters: layer name to its number of filters, in the order of the network, which decides between equals.
        flops: what networks cost, from layer name to (n,) widths to (n,) FLOPs.
        target: FLOPs that may be left.
        whole: layers that lose none.
        multiple: `prune.width_multiple`.

    Returns:
        Layer name to the number of filters that stay.

    Raises:
        PruningError: even with one filter in each layer it costs more.
    """
    names = [name for name in filters if name not in whole]
    steps = {name: widths_below(filters[name], multiple) for name in names}
    order = sorted(
        (Fraction(filters[name] - width, filters[name]), place)
        for place, name in enumerate(names)
        for width in steps[name]
    )
    turns = np.array([place for _, place in order], dtype=np.int64)
    widths = {name: np.full(len(turns) + 1, count) for name, count in filters.items()}
    for place, name in enumerate(names):
        done = np.cumsum(turns == place)
        widths[name][1:] = np.array([filters[name], *steps[name]])[done]
    fitting = np.flatnonzero(flops(widths) <= target)
    if not len(fitting):
        raise PruningError(
            f"the smallest network that uniform pruning leaves has {flops(widths)[-1]:,.0f} FLOPs, more than the "
            f"{target:,.0f} that may be left; ask for more"
        )
    return {name: int(of[fitting[0]]) for name, of in widths.items()}


def one_shot(model: nn.Module, graph: ChannelGraph, method: Method, widths: Mapping[str, int]) -> dict[str, list[int]]:
    """Which filters go: in each layer the worst ones by a criterion, of equals the first.

    Args:
        model: the trained network.
        graph: its channels.
        method: the criterion.
        widths: layer name to the number of filters that stay.

    Returns:
        Layer name to the original numbers of the filters that go; layers that lose none are left out.
    """
    gone: dict[str, list[int]] = {}
    for name, layer in graph.layers.items():
        weight: Any = model.get_submodule(layer.module).weight
        scores = filter_scores(weight, method, axis=1 if layer.kind == "trans" else 0)
        worst = torch.argsort(scores, stable=True)[: len(layer.outputs) - widths[name]]
        if len(worst):
            gone[name] = sorted(int(layer.numbers[place]) for place in worst)
    return gone

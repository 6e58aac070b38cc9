"""Distances to a reference map and their gradient on a CPU, by compiled kernels: a fraction of PyTorch's time."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from sauron_train.pruning.common import Chosen, among_images, inverse, of_images

if TYPE_CHECKING:
    from types import ModuleType

# Fewer voxels than this are not worth the time of handing them to another thread (design choice).
_VOXELS_PER_THREAD = 2**17


def fits(maps: Tensor) -> bool:
    """Whether there is a kernel for maps (B, C, *spatial): float32 on a CPU, row by row in memory, at most 3 axes."""
    plain = maps.device.type == "cpu" and maps.dtype == torch.float32 and maps.is_contiguous()
    return plain and 3 <= maps.ndim <= 5 and maps.numel() > 0 and _kernels() is not None


def compiled_distances(
    maps: Tensor, reference: int, window: int, scale: bool, bare: bool, images: Chosen = None, with_loss: bool = False
) -> Tensor:
    """As `distances_to_reference`, for maps that fit.

    Args:
        maps: (B, C, *spatial).
        reference: position of the reference map.
        window: ω, side of the pooling.
        scale: whether each map is first scaled to [0, 1].
        bare: whether nobody else keeps the maps for backward; then the pooled maps are kept.
        images: which of the batch are looked at.
        with_loss: as in `distances_to_reference`.

    Returns:
        (images, C).
    """
    distances: Tensor = _CompiledDistances.apply(  # type: ignore[no-untyped-call]
        maps, reference, window, scale, bare, images, with_loss
    )
    return distances


class _CompiledDistances(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        reference: int,
        window: int,
        scale: bool,
        bare: bool,
        images: Chosen,
        with_loss: bool,
    ) -> Tensor:
        seen = _with_three_axes(of_images(maps, images))
        how = _compiled().How.of(seen.shape, reference, window, scale)
        distances, ranges = maps.new_empty(seen.shape[:2]), maps.new_empty((*seen.shape[:2], 2))
        places = torch.zeros((*seen.shape[:2], 2), dtype=torch.int64)
        kept = maps.new_empty((*seen.shape[:2], how.size) if bare else (0, 0, 0))
        filled = [tensor.numpy() for tensor in (distances, ranges, places, kept)]

        def work(_: int, begin: int, stop: int) -> None:
            _compiled().forward(_array(seen), how, (begin, stop), *filled)

        _share(work, seen.shape)
        ctx.save_for_backward(kept if bare else maps, distances, ranges, places)
        ctx.how, ctx.bare, ctx.images, ctx.shape, ctx.sparse = how, bare, images, maps.shape, with_loss
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, distances, ranges, places = ctx.saved_tensors
        how, shape = ctx.how, torch.Size((len(distances), *ctx.shape[1:]))
        result = saved.new_empty(shape)
        given = _with_three_axes(result)
        maps = given[:0] if ctx.bare else _with_three_axes(of_images(saved, ctx.images))
        kept = saved if ctx.bare else saved.new_empty((0, 0, 0))
        # The derivative of the root is infinite at 0, where the loss drives to: there the gradient is set to zero.
        weights = (gradient * inverse(distances * how.size)).contiguous()
        pulls = saved.new_zeros((_parts(given.shape), shape[0], how.size))
        source, found, filled = (_array(maps), _array(kept)), (_array(ranges), _array(places)), _array(given)

        def work(part: int, begin: int, stop: int) -> None:
            own = _array(pulls[part])
            _compiled().backward(source, how, (begin, stop), _array(weights), found, own, filled)

        _share(work, given.shape)
        pull = pulls[0] if len(pulls) == 1 else pulls.sum(dim=0)
        _compiled().backward_of_references(source, how, found, _array(pull), filled)
        whole = _sparse(result, ctx.images, ctx.shape) if ctx.sparse else among_images(result, ctx.images, ctx.shape)
        return whole, None, None, None, None, None, None


def _sparse(result: Tensor, images: Chosen, shape: torch.Size) -> Tensor:
    """A gradient at some images as one at the whole batch, which autograd adds to those images alone."""
    if images is None:
        return result
    places = images if isinstance(images, Tensor) else torch.tensor(images)
    return torch.sparse_coo_tensor(places[None], result, shape, check_invariants=False)


def _share(work: Callable[[int, int, int], None], shape: torch.Size) -> None:
    """Do `work` (part, first map, the one after the last) for all maps, on as many threads as PyTorch uses."""
    parts, count = _parts(shape), shape[0] * shape[1]
    bounds = [count * part // parts for part in range(parts + 1)]
    others = []
    if parts > 1:
        threads = _threads(os.getpid(), parts - 1)
        others = [threads.submit(work, part, bounds[part], bounds[part + 1]) for part in range(1, parts)]
    try:
        work(0, bounds[0], bounds[1])
    finally:
        for other in others:
            other.result()


def _parts(shape: torch.Size) -> int:
    return max(1, min(torch.get_num_threads(), shape[0] * shape[1], shape.numel() // _VOXELS_PER_THREAD))


@functools.lru_cache(maxsize=4)
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="delta-opt")


def _with_three_axes(maps: Tensor) -> Tensor:
    return maps.view(*maps.shape[:2], *(1,) * (5 - maps.ndim), *maps.shape[2:])


def _array(tensor: Tensor) -> NDArray[Any]:
    """The same memory."""
    array: NDArray[Any] = tensor.detach().numpy()
    return array


def _compiled() -> ModuleType:
    kernels = _kernels()
    assert kernels is not None
    return kernels


@functools.cache
def _kernels() -> ModuleType | None:
    """The compiled kernels; None where Numba is not installed, or finds no folder to keep them in."""
    try:
        from sauron_train.pruning import kernels  # noqa: PLC0415
    except (ImportError, RuntimeError, OSError) as error:
        logging.getLogger(__name__).warning("δ_opt is computed by PyTorch, which takes longer: %s", error)
        return None
    return kernels

"""Distances to a reference map and their gradient on a CPU, by compiled kernels: a fraction of PyTorch's time."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
# Seconds after which somebody who waits wants to know what for.
_LATE = 3.0


def fits(maps: Tensor) -> bool:
    """Whether there is a kernel for maps (B, C, *spatial): float32 on a CPU, row by row in memory, at most 3 axes."""
    plain = maps.device.type == "cpu" and maps.dtype == torch.float32 and maps.is_contiguous()
    return plain and 3 <= maps.ndim <= 5 and maps.numel() > 0 and not _fake(maps) and _kernels() is not None


def compiled_distances(
    maps: Tensor, reference: int, window: int, scale: bool, bare: bool, images: Chosen = None, sparse: bool = False
) -> Tensor:
    """As `distances_to_reference`, for maps that fit.

    Args:
        maps: (B, C, *spatial).
        reference: position of the reference map.
        window: ω, side of the pooling.
        scale: whether each map is first scaled to [0, 1].
        bare: whether nobody else keeps the maps for backward; then the pooled maps are kept.
        images: which of the batch are looked at.
        sparse: whether the gradient at some images is a sparse one at the whole batch.

    Returns:
        (images, C).
    """
    distances: Tensor = _CompiledDistances.apply(  # type: ignore[no-untyped-call]
        maps, reference, window, scale, bare, images, sparse
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
        sparse: bool,
    ) -> Tensor:
        seen = _with_three_axes(of_images(maps, images))
        how = _compiled().How.of(seen.shape, reference, window, scale)
        distances, ranges = maps.new_empty(seen.shape[:2]), maps.new_empty((*seen.shape[:2], 2))
        places = torch.zeros((*seen.shape[:2], 2), dtype=torch.int64)
        kept = maps.new_empty((*seen.shape[:2], how.size) if bare else (0, 0, 0))
        filled = [_array(tensor) for tensor in (distances, ranges, places, kept)]
        parts = _parts(seen.shape)
        if parts > 1:
            with _threads(parts):
                _compiled().forward_on_threads(_array(seen), how, parts, *filled)
        else:
            _compiled().forward(_array(seen), how, (0, distances.numel()), *filled)
        ctx.save_for_backward(kept if bare else maps, distances, ranges, places)
        ctx.how, ctx.bare, ctx.images, ctx.shape, ctx.sparse = how, bare, images, maps.shape, sparse
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
        parts = _parts(given.shape)
        pulls = saved.new_zeros((parts, shape[0], how.size))
        source, found, filled = (_array(maps), _array(kept)), (_array(ranges), _array(places)), _array(given)
        if parts > 1:
            with _threads(parts):
                _compiled().backward_on_threads(source, how, parts, _array(weights), found, _array(pulls), filled)
        else:
            span = (0, distances.numel())
            _compiled().backward(source, how, span, _array(weights), found, _array(pulls[0]), filled)
        pull = pulls.sum(dim=0) if parts > 1 else pulls[0]
        _compiled().backward_of_references(source, how, found, _array(pull), filled)
        whole = _sparse(result, ctx.images, ctx.shape) if ctx.sparse else among_images(result, ctx.images, ctx.shape)
        return whole, None, None, None, None, None, None


def _sparse(result: Tensor, images: tuple[int, ...] | Tensor, shape: torch.Size) -> Tensor:
    """A gradient at some images as one at the whole batch, which autograd adds to those images alone."""
    places = images.long() if isinstance(images, Tensor) else torch.tensor(images)
    return torch.sparse_coo_tensor(places[None], result, shape, check_invariants=False)


def prepare(device: torch.device, told: Callable[[str], None], remark: Callable[[str], None]) -> None:
    """Load the kernels before the first step of a training, those for several threads, too, if PyTorch uses them.

    That takes a second, and half a minute where they are not compiled yet. Nothing happens where none are used.

    Args:
        device: on which the maps will lie.
        told: what is going on, in words.
        remark: given a sentence, by another thread, if they are not there after three seconds.
    """
    if device.type != "cpu":
        return
    told("loading δ_opt")
    late = threading.Timer(
        _LATE, remark, ["δ_opt is being compiled for this machine, which takes half a minute and is done once"]
    )
    late.daemon = True
    late.start()
    try:
        if _kernels() is not None and torch.get_num_threads() > 1:
            _most_threads()
    finally:
        late.cancel()


def _parts(shape: torch.Size) -> int:
    """On how many threads maps are worth being shared; 1 where Numba would bring threads of its own.

    PyTorch's threads wait for their next work by spinning, so that others find no core free.
    """
    wanted = min(torch.get_num_threads(), shape[0] * shape[1], shape.numel() // _VOXELS_PER_THREAD)
    return min(wanted, _most_threads()) if wanted > 1 else 1


@functools.cache
def _most_threads() -> int:
    """Numba's number of threads if they are PyTorch's, else 1; its choice of threads is left as it is."""
    if sys.platform != "linux":  # a second OpenMP beside PyTorch's ends the process on macOS
        return 1
    config: Any = importlib.import_module("numba").config
    before = config.THREADING_LAYER
    if before not in ("default", "omp"):
        return 1
    try:
        importlib.import_module("numba.np.ufunc.omppool")
        config.THREADING_LAYER = "omp"
        _try(_compiled(), parts=2)
        used = importlib.import_module("numba").threading_layer()
    except Exception as error:
        logging.getLogger(__name__).info("δ_opt is computed on one thread: %s", error)
        return 1
    finally:
        config.THREADING_LAYER = before
    # Whoever has started its threads before has chosen them, too.
    return int(config.NUMBA_NUM_THREADS) if used == "omp" else 1


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Numba's number of threads for a while. What it sets when it starts them would otherwise be PyTorch's, too."""
    from numba import get_num_threads, set_num_threads  # noqa: PLC0415

    torchs, numbas = torch.get_num_threads(), get_num_threads()
    set_num_threads(min(number, numbas))
    try:
        yield
    finally:
        set_num_threads(numbas)
        if torch.get_num_threads() != torchs:
            torch.set_num_threads(torchs)


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
    """The compiled kernels; None where Numba is not installed, is not to compile, or cannot."""
    try:
        from sauron_train.pruning import kernels  # noqa: PLC0415

        if importlib.import_module("numba").config.DISABLE_JIT:
            raise RuntimeError("NUMBA_DISABLE_JIT is set")
        _try(kernels, parts=1)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "no locator available" in reason:
            reason = "there is no folder to keep compiled kernels in; name one that can be written as NUMBA_CACHE_DIR"
        logging.getLogger(__name__).warning("δ_opt is computed by PyTorch, which takes longer: %s", reason)
        return None
    return kernels


def _try(kernels: ModuleType, parts: int) -> None:
    """Run all kernels once, which is when they are compiled or read, and when that fails."""
    maps = torch.zeros(2, 2, 1, 2, 2)
    how = kernels.How.of(maps.shape, 0, 2, True)
    distances, ranges, places = torch.zeros(2, 2), torch.zeros(2, 2, 2), torch.zeros(2, 2, 2, dtype=torch.int64)
    kept, pulls, result = torch.zeros(0, 0, 0), torch.zeros(parts, 2, 1), torch.zeros_like(maps)
    filled, source = [_array(t) for t in (distances, ranges, places, kept)], (_array(maps), _array(kept))
    found = _array(ranges), _array(places)
    if parts == 1:
        kernels.forward(_array(maps), how, (0, 4), *filled)
        kernels.backward(source, how, (0, 4), _array(distances), found, _array(pulls[0]), _array(result))
        kernels.backward_of_references(source, how, found, _array(pulls[0]), _array(result))
    else:
        with _threads(parts):
            kernels.forward_on_threads(_array(maps), how, parts, *filled)
            kernels.backward_on_threads(source, how, parts, _array(distances), found, _array(pulls), _array(result))


def _fake(maps: Tensor) -> bool:
    """Whether maps have a shape alone, as where somebody measures memory."""
    if type(maps) is Tensor:
        return False
    from torch._subclasses.fake_tensor import FakeTensor  # noqa: PLC0415

    return isinstance(maps, FakeTensor)

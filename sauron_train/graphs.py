"""Training steps replayed from a CUDA graph.

A step of a U-Net is a thousand kernels, and to launch them one by one takes longer than a GPU computes them: the more
so the smaller the network becomes (docs/performance.md). A graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sauron_train.config import Config

WARM_UP = 3
"""Steps of an epoch that are launched one by one, in which libraries choose their kernels and take their memory."""
WORTH_IT = 8
"""Steps that an epoch has at least where a graph is made."""

Compute = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Losses of images, labels and the positions of those that δ_opt is taken of; it leaves gradients in the parameters."""


def can_be_replayed(config: Config, device: torch.device, processes: int) -> bool:
    """Whether all steps of an epoch launch the same kernels on the same numbers, but for what a batch holds."""
    return (
        config.hardware.cuda_graph
        and device.type == "cuda"
        and processes == 1
        and config.hardware.precision != "16-mixed"  # by what its loss is scaled may change in every step
        and config.loss.reference != "random"
    )


class Replayed:
    """Computes losses and gradients of the steps of one epoch, in which the network keeps its shape and its mode.

    The first steps are computed one by one, the others by replaying what the next one launched. With a batch of another
    size, as the last of an epoch may be, that ends. A graph holds the memory of a step until then.

    Args:
        compute: what a step does but for the optimizer: it may not read a number from the GPU.
        network: whose gradients are left; they are the same tensors in every replayed step.
        steps: how many the epoch has.

    Attributes:
        failure: why there is no graph although there should be one; "" = nothing went wrong.
    """

    def __init__(self, compute: Compute, network: nn.Module, steps: int) -> None:
        self.failure = ""
        self._compute = compute
        self._parameters = list(network.parameters())
        self._wanted = steps >= WORTH_IT
        self._computed = 0
        self._stream = _stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Tensor] = []
        self._losses: Tensor | None = None
        self._gradients: list[Tensor | None] = []

    def close(self) -> None:
        """Let go of the memory of the graph and of the gradients."""
        self._graph, self._losses = None, None
        for tensors in (self._given, self._gradients):
            tensors.clear()
        for parameter in self._parameters:
            parameter.grad = None

    def __call__(self, images: Tensor, labels: Tensor, chosen: Sequence[int] | None) -> Tensor:
        """Losses of a step; they are overwritten by the next."""
        given = [images, labels]
        if chosen is not None:
            given.append(torch.tensor(chosen, device=images.device))
        if self._wanted and self._graph is None and self._computed == WARM_UP:
            self._capture(given)
        if self._graph is not None and [g.shape for g in given] != [g.shape for g in self._given]:
            # The last batch of an epoch: it gets the memory that the graph holds.
            self.close()
        if self._graph is None:
            self._computed += 1
            return self._beside(given)
        return self._replay(self._graph, given)

    def _beside(self, given: Sequence[Tensor]) -> Tensor:
        # On the stream that the graph will be made of, so that what libraries set up for a stream is there.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            losses = self._run(given)
        torch.cuda.current_stream().wait_stream(self._stream)
        return losses

    def _run(self, given: Sequence[Tensor]) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        images, labels, *chosen = given
        return self._compute(images, labels, chosen[0] if chosen else None)

    def _capture(self, given: Sequence[Tensor]) -> None:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        kept = [tensor.clone() for tensor in given]
        torch.cuda.synchronize()
        try:
            # Other threads, which move batches to the GPU meanwhile, are none of its business.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._losses = self._run(kept)
        except RuntimeError as error:
            # What went wrong first; that the recording could not be ended then is only told by way of it.
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            self._wanted = False
            self.failure = (str(first).splitlines() or [type(first).__name__])[0]
            return
        finally:
            torch.cuda.set_stream(current)
        self._graph, self._given = graph, kept
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _replay(self, graph: torch.cuda.CUDAGraph, given: Sequence[Tensor]) -> Tensor:
        for kept, new in zip(self._given, given, strict=True):
            kept.copy_(new)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        graph.replay()
        assert self._losses is not None
        return self._losses


@cache
def _stream() -> Any:
    # One for all epochs: libraries keep memory for every stream that they have seen.
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]

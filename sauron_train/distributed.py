"""Several processes that train one network: each computes on its part of every batch, and all decide the same.

One process per GPU, or per share of a CPU, is started by torchrun, on one machine or several. What is averaged over a
batch is averaged over all of it, whoever holds which part, so that the network that comes out is the one that a single
process would have trained, but for the order in which floating-point numbers are added up (design choice).
"""

from __future__ import annotations

import gc
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sauron_train import ranks
from sauron_train.config import Config, HardwareConfig
from sauron_train.data.loader import Share
from sauron_train.errors import ConfigError, TrainingError

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)

# While the first process measures and writes, the others wait; that they may do longer than torch's half an hour.
_PATIENCE = timedelta(hours=6)


class Processes:
    """All processes of a training, seen from one of them; by itself where torchrun started none.

    Args:
        config: the whole configuration.

    Raises:
        ConfigError: this machine does not have the hardware, or the configuration cannot be trained by so many.
    """

    def __init__(self, config: Config) -> None:
        _refuse(config, ranks.processes())
        self.fabric = make_fabric(config.hardware)
        self.count: int = self.fabric.world_size
        self.share = Share(self.fabric.global_rank, self.count)
        if self.count > 1:
            logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
            self.fabric.launch()
            _refuse_batch_norm(config, self.fabric.device)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.share.place == 0

    @property
    def total(self) -> Callable[[Tensor], Tensor] | None:
        """Sums a tensor over all processes, see `summed`; None where there is only one."""
        return self.summed if self.count > 1 else None

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape, in its own type and on its own device.

        They are added in the order of the processes, so that all get the same to the last bit and decide the same by
        it.
        """
        if self.count == 1:
            return tensor
        here = tensor.to(self.fabric.device).contiguous()
        parts = [torch.empty_like(here) for _ in range(self.count)]
        torch.distributed.all_gather(parts, here)
        result = parts[0].clone()
        for part in parts[1:]:
            result += part
        return result.to(tensor.device)

    def mean(self, values: Sequence[float], size: int) -> list[float]:
        """Of means over each process's part of a batch of `size`, those over the whole batch."""
        if self.count == 1:
            return list(values)
        weight = self.share.weight(size) / self.count
        return self.summed(torch.tensor(values, dtype=torch.float64) * weight).tolist()

    def gathered(self, value: T) -> list[T]:
        """What every process has, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def mine(self, values: Sequence[T]) -> Sequence[T]:
        """Every so many of what there is to do: the part of this process."""
        return values[self.share.place :: self.count]

    def together(self, done: Sequence[T]) -> list[T]:
        """What all processes made of their parts, in the order that the whole had before `mine`."""
        parts = self.gathered(done)
        return [parts[place % self.count][place // self.count] for place in range(sum(map(len, parts)))]

    def agree(self, decided: Any) -> None:
        """Make sure that all decided the same; they must not train different networks as one.

        Raises:
            TrainingError: they did not.
        """
        if any(other != decided for other in self.gathered(decided)):
            raise TrainingError(
                "the processes decided differently which filters go, so one of them computes wrongly; go on with "
                "sauron-train resume, on other hardware if it happens again"
            )

    def prepared(self, network: Network) -> Network:
        """The network for training by all: batch norm takes its means over the whole batch, as with one process."""
        if self.count > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return network

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network as it is trained: its gradients are averaged over the processes."""
        wrapped: nn.Module = self.fabric.setup_module(network)
        return wrapped

    @contextmanager
    def reshaping(self, holder: Any) -> Iterator[None]:
        """While parameters change their shape: what wraps the network in `holder.model` is taken off and made anew.

        The wrapper keeps a buffer for each gradient, and lets go of the parameters only when it is gone itself.
        """
        if self.count == 1:
            yield
            return
        holder.model = holder.network
        gc.collect()
        yield
        holder.model = self.wrapped(holder.network)


def make_fabric(config: HardwareConfig) -> Fabric:
    """Lightning Fabric on the hardware that a configuration names, one device for each process that torchrun started.

    Raises:
        ConfigError: this machine does not have it.
    """
    count, machines = ranks.processes(), ranks.machines()
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=count // machines,
            num_nodes=machines,
            strategy=_strategy() if count > 1 else "auto",
            precision=config.precision,
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"hardware.accelerator={config.accelerator} with hardware.precision={config.precision} cannot be used here "
            f"{f'by {count} processes ' if count > 1 else ''}({reason}); set them to auto and 32-true"
        ) from None


def _strategy() -> DDPStrategy:
    # Buffers are the same everywhere without being sent: validation, in which each has its own cases, must not wait.
    known = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sync: False}
    return DDPStrategy(timeout=_PATIENCE, **options)


def _refuse(config: Config, count: int) -> None:
    if config.data.batch_size < count:
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}, but {count} processes share each batch; raise it to "
            f"{count} or more, or start fewer processes"
        )


def _refuse_batch_norm(config: Config, device: torch.device) -> None:
    if config.network.norm == "batch" and device.type != "cuda":
        raise ConfigError(
            "network.norm=batch takes its means over the whole batch, which torch does for several processes on GPUs "
            "only; set network.norm to instance, or train with one process"
        )

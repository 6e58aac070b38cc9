"""Batches of training patches, the same ones whatever the number of workers."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sauron_train.config import Config
from sauron_train.data.patches import Item, TrainingPatches
from sauron_train.data.types import Batch, Patch


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes: `place` from 0, of `among`; alone, all of it.

    The parts of a batch are as even as can be. A batch that is smaller than `among`, as the last of an epoch may be, is
    not shared: every process takes the whole of it, so that none is without work and the mean of all is still its mean.
    """

    place: int = 0
    among: int = 1

    def own(self, size: int) -> slice:
        """Which of the patches of a batch are counted here, and nowhere else; none where there are not enough."""
        each, more = divmod(size, self.among)
        start = self.place * each + min(self.place, more)
        return slice(start, start + each + (self.place < more))

    def taken(self, size: int) -> slice:
        """Which of them are computed here."""
        return self.own(size) if size >= self.among else slice(0, size)

    def weight(self, size: int) -> float:
        """By what the mean over the part is taken times, so that the mean over the processes is that of the batch."""
        if size < self.among:
            return 1.0
        return len(range(size)[self.own(size)]) * self.among / size

    def counted(self, images: torch.Tensor, size: int) -> torch.Tensor:
        """Of the images that are computed here, of a batch of `size`, those that are counted here."""
        return images if size >= self.among else images[self.own(size)]


ALONE = Share()


def training_loader(patches: TrainingPatches, config: Config, epoch: int, share: Share = ALONE) -> DataLoader[Batch]:
    """The batches of one epoch, in a fixed order; of each the share that is asked for.

    The loader is made once per `patches` and given again for later epochs, so that its workers stay alive; iterate over
    it before asking for the next epoch. The last batch of an epoch may be smaller than the others; nothing is dropped.
    """
    patches.set_epoch(epoch)
    if patches.loader is None or patches.loader.batch_sampler.share != share:
        patches.loader = _new_loader(patches, config, share)
    loader: DataLoader[Batch] = patches.loader
    return loader


def collate(patches: Sequence[Patch]) -> Batch:
    """Stack patches into a batch."""
    return Batch(
        image=torch.stack([patch.image for patch in patches]),
        label=torch.stack([patch.label for patch in patches]),
        cases=tuple(patch.case for patch in patches),
    )


class EpochBatches(Sampler[list[Item]]):
    """The numbers of an epoch's patches in batches.

    Each number goes to the workers together with its epoch: they keep a copy of the patches from their start and would
    not notice a change of epoch.
    """

    def __init__(self, patches: TrainingPatches, batch_size: int, share: Share = ALONE) -> None:
        self.patches = patches
        self.batch_size = batch_size
        self.share = share

    def __len__(self) -> int:
        """Batches per epoch, the last smaller one included."""
        return math.ceil(len(self.patches) / self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        """Batches of the epoch that was set when the iteration began."""
        epoch, start = self.patches.epoch, 0
        for size in batch_sizes(self.patches, self.batch_size):
            yield [Item(epoch, number) for number in range(start, start + size)[self.share.taken(size)]]
            start += size


def batch_sizes(patches: TrainingPatches, batch_size: int) -> list[int]:
    """How many patches each batch of an epoch has, over all processes."""
    count = len(patches)
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


def _end_quietly(_worker: int) -> None:
    """Told to stop, as all of a job are at once, a worker ends well: PyTorch raises an error over any other end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def _new_loader(patches: TrainingPatches, config: Config, share: Share) -> DataLoader[Batch]:
    workers = config.data.workers
    return DataLoader(
        cast("Dataset[Batch]", patches),  # what it yields is a patch until `collate` has seen it
        batch_sampler=EpochBatches(patches, config.data.batch_size, share),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_end_quietly,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and config.hardware.accelerator != "cpu",
        # A generator of its own: starting an epoch must not draw from the one that training is seeded with.
        generator=torch.Generator().manual_seed(config.seed),
    )

"""Batches of training patches, the same ones whatever the number of workers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sauron_train.config import Config
from sauron_train.data.patches import Item, TrainingPatches
from sauron_train.data.types import Batch, Patch


def training_loader(patches: TrainingPatches, config: Config, epoch: int) -> DataLoader[Batch]:
    """The batches of one epoch, in a fixed order.

    The loader is made once per `patches` and given again for later epochs, so that its workers stay alive; iterate over
    it before asking for the next epoch. The last batch of an epoch may be smaller than the others; nothing is dropped.
    """
    patches.set_epoch(epoch)
    if patches.loader is None:
        patches.loader = _new_loader(patches, config)
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

    def __init__(self, patches: TrainingPatches, batch_size: int) -> None:
        self.patches = patches
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches per epoch, the last smaller one included."""
        return math.ceil(len(self.patches) / self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        """Batches of the epoch that was set when the iteration began."""
        epoch, count = self.patches.epoch, len(self.patches)
        for start in range(0, count, self.batch_size):
            yield [Item(epoch, number) for number in range(start, min(start + self.batch_size, count))]


def _new_loader(patches: TrainingPatches, config: Config) -> DataLoader[Batch]:
    workers = config.data.workers
    return DataLoader(
        cast("Dataset[Batch]", patches),  # what it yields is a patch until `collate` has seen it
        batch_sampler=EpochBatches(patches, config.data.batch_size),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and config.hardware.accelerator != "cpu",
        # A generator of its own: starting an epoch must not draw from the one that training is seeded with.
        generator=torch.Generator().manual_seed(config.seed),
    )

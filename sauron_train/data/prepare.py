"""Preprocessing as a step of its own: all cases of a data set into a cache, and again only those that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from sauron_train.config import Config
from sauron_train.data.datasets import check_channels, without
from sauron_train.data.load import load_case
from sauron_train.data.nifti import read_header
from sauron_train.data.prepared import Store, size
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import DataError
from sauron_train.progress import OnProgress


@dataclass(frozen=True)
class Prepared:
    """What came of it: how many cases were made and how many were there, and why others could not be made, by name."""

    folder: Path
    made: int
    there: int
    failed: Mapping[str, str]


def prepare(dataset: Dataset, config: Config, cache: Path, jobs: int, on_progress: OnProgress) -> Prepared:
    """Preprocess all cases of a data set that the recipe does not discard.

    A case that cannot be read is left out and told; a disk that is full ends it, with every case whole or not there.

    Args:
        dataset: the data set.
        config: its `preprocess` is done, its `data.discard` left out.
        cache: the folder; made if needed.
        jobs: processes that work at it.
        on_progress: told how many of how many are done, and which was the last.

    Raises:
        DataError: another number of channels than the recipe is made for, or no room on the disk.
    """
    check_channels(dataset, config)
    kept = without(dataset, config.data.discard)
    store = Store.of(cache, kept, config)
    missing = [case for case in kept.cases if store.get(case) is None]
    store.refuse_full(sum(_size(case, config) for case in missing))
    there = len(kept.cases) - len(missing)
    failed: dict[str, str] = {}
    on_progress(there, len(kept.cases), "")
    for done, (name, why) in enumerate(_results(missing, kept, config, store, jobs), start=there + 1):
        if why:
            failed[name] = why
        on_progress(done, len(kept.cases), name)
    return Prepared(store.folder, len(missing) - len(failed), there, failed)


def _results(
    cases: Sequence[Case], dataset: Dataset, config: Config, store: Store, jobs: int
) -> Iterator[tuple[str, str]]:
    if jobs == 1 or len(cases) < 2:
        for case in cases:
            yield _one(case, dataset.labels, config, store)
        return
    # A fork of a process that has used torch's threads may stand still for ever.
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting = [pool.submit(_one, case, dataset.labels, config, store) for case in cases]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise DataError(
                "a process that preprocessed ended without a word, as when memory runs short; what is done is kept, so "
                f"repeat the command with fewer --jobs than {jobs}"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _one(case: Case, labels: dict[str, int], config: Config, store: Store) -> tuple[str, str]:
    """The case's name, and why it cannot be read, if so."""
    key = store.key(case)
    try:
        volume = load_case(case, labels, config.preprocess)
    except DataError as error:
        return case.name, str(error)
    store.put(case, volume, key)
    return case.name, ""


def _size(case: Case, config: Config) -> int:
    header = read_header(case.images[0])
    return size(header.shape, header.spacing, len(case.images), config)

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
from sauron_train.data.readiness import obstacle
from sauron_train.data.types import Case, Dataset, Volume
from sauron_train.errors import DataError
from sauron_train.progress import OnProgress


@dataclass(frozen=True)
class Prepared:
    """What came of it.

    Attributes:
        folder: where they lie.
        made: how many cases were made.
        there: how many were there already.
        failed: why others could not be made, by name.
        remarks: sentences on what is odd about the data set.
        obstacle: why training would refuse what there is; "" where nothing speaks against it.
    """

    folder: Path
    made: int
    there: int
    failed: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    obstacle: str = ""


def prepare(dataset: Dataset, config: Config, cache: Path, jobs: int, on_progress: OnProgress) -> Prepared:
    """Preprocess all cases of a data set that the recipe does not discard.

    A case that cannot be read is left out and told; a disk that is full ends it, with every case whole or not there.

    Args:
        dataset: the data set, as `examine` read it.
        config: its `preprocess` is done, its `data.discard` left out.
        cache: the folder; made if needed.
        jobs: processes that work at it.
        on_progress: told how many of how many are done, and which was the last.

    Raises:
        DataError: another number of channels than the recipe is made for, a cache that cannot be written, or no room
            on the disk.
    """
    check_channels(dataset, config)
    kept = without(dataset, config.data.discard)
    store = Store.of(cache, kept, config)
    missing = [case for case in kept.cases if store.get(case) is None]
    if missing:
        store.refuse_unwritable()
        store.refuse_full(sum(_size(case, config) for case in missing))
    there = len(kept.cases) - len(missing)
    unread: dict[str, str] = {}
    on_progress(there, len(kept.cases), "")
    for done, (name, why) in enumerate(_results(missing, kept, config, store, jobs), start=there + 1):
        if why:
            unread[name] = why
        on_progress(done, len(kept.cases), name)
    return Prepared(
        folder=store.folder,
        made=len(missing) - len(unread),
        there=there,
        failed={**kept.broken, **unread},
        remarks=kept.remarks,
        obstacle=obstacle(kept, config, lambda case: _bare(store.get(case))),
    )


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
    try:
        key = store.key(case)
        volume = load_case(case, labels, config.preprocess)
    except DataError as error:
        return case.name, str(error)
    except OSError as error:
        return case.name, f"{error.filename} cannot be read: {error.strerror or error}; look whether it is still there"
    store.put(case, volume, key)
    return case.name, ""


def _bare(volume: Volume | None) -> bool:
    return volume is not None and volume.label is not None and not bool(volume.label.any())


def _size(case: Case, config: Config) -> int:
    header = read_header(case.images[0])
    return size(header.shape, header.spacing, len(case.images), config)

"""Segments examinations with the network of a run and writes label maps, many in a row.

One that cannot be used is told and left out; the others are segmented. Every file is whole or not there, so a batch
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sauron_train.data.grid import save_labels, save_probabilities
from sauron_train.data.inputs import images_in
from sauron_train.data.load import read_image
from sauron_train.data.types import Case, Volume
from sauron_train.errors import DataError
from sauron_train.evaluate import dataset_of, evaluate, validation_cases
from sauron_train.predictor import Inference, Predictor
from sauron_train.progress import OnProgress
from sauron_train.runlog import Run

__all__ = ["Output", "Predicted", "dataset_of", "evaluate", "predict", "validation_cases"]

Existing = Literal["refuse", "skip", "replace"]
Tell = Callable[[str, str], None]
"""Told the name of a case and a sentence about it."""

_Loaded = tuple[Volume, list[str]]


@dataclass(frozen=True)
class Output:
    """Where segmentations go.

    Attributes:
        folder: for CASE.nii.gz; made if needed.
        probabilities: whether CASE_probabilities.nii.gz is written, too.
        existing: what happens to cases whose files are there already: nothing is done at all, they are left as they
            are, or they are segmented again.
    """

    folder: Path
    probabilities: bool = False
    existing: Existing = "refuse"

    def labels(self, case: Case) -> Path:
        """The file of a case's label map."""
        return self.folder / f"{case.name}.nii.gz"

    def classes(self, case: Case) -> Path:
        """The file of a case's class probabilities."""
        return self.folder / f"{case.name}_probabilities.nii.gz"

    def files(self, case: Case) -> list[Path]:
        """All that is written for a case, the label map last: where it is, the case is done."""
        return [*([self.classes(case)] if self.probabilities else []), self.labels(case)]

    def to_do(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that are still to be segmented.

        Raises:
            DataError: the folder cannot be one, an image would be written over, or a file is there and `existing` is
                to refuse.
        """
        existing = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        if not existing.is_dir():
            raise DataError(f"{existing} is a file; name a folder for the label maps with --out")
        images = {image.resolve() for case in cases for image in case.images}
        every = [path for case in cases for path in self.files(case)]
        if twice := next((path for path in every if every.count(path) > 1), None):
            raise DataError(f"two of these cases would be written to {twice}; segment them into different folders")
        for case in cases:
            for path in self.files(case):
                if path.resolve() in images:
                    raise DataError(f"{path} is an image that is to be segmented; choose another --out")
                if path.exists() and self.existing == "refuse":
                    raise DataError(
                        f"{path} exists already; choose another --out, go on with the cases that are missing "
                        "(--skip-existing) or write over it (--overwrite)"
                    )
        if self.existing != "skip":
            return list(cases)
        return [case for case in cases if not all(path.exists() for path in self.files(case))]


@dataclass(frozen=True)
class Predicted:
    """What became of a batch: label maps `written`, cases `skipped` because they were done, and `left_out` with why."""

    written: tuple[Path, ...]
    skipped: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Listeners:
    """Who is told what is going on: how far it is, what is to be known about a case, and which are left out."""

    progress: OnProgress
    remark: Tell
    left_out: Tell
    choice: Callable[[str], None] = lambda _sentence: None
    """Told in a sentence what computes, and why."""


def predict(
    run: Run, inputs: Sequence[Path], output: Output, how: Inference, epoch: int | None, tell: Listeners
) -> Predicted:
    """Segment examinations and write one label map each, on the grid of the input.

    Args:
        run: where the network comes from.
        inputs: folders of CASE_0000.nii.gz files, folders of a data set, or such files.
        output: where the results go.
        how: how images are segmented.
        epoch: which checkpoint; None = the last.
        tell: told how many of how many steps are done, and sentences about cases.

    Raises:
        DataError, RunError: something is wrong with all cases or with what is asked for; nothing has been written then.
    """
    predictor = Predictor.from_run(run, epoch, how)
    found = images_in(inputs, predictor.channels)
    to_do = output.to_do(found.cases)
    batch = _Batch(predictor, output, tell, single=len(found.cases) + len(found.unusable) == 1)
    for name, why in found.unusable.items():
        batch.leave_out(name, why)
    written = batch.segment(batch.usable(to_do))
    pending = {case.name for case in to_do}
    skipped = tuple(case.name for case in found.cases if case.name not in pending)
    if not written and not skipped:
        first = next(iter(batch.left_out.values()))
        raise DataError(first if batch.single else f"none of the {len(batch.left_out)} cases can be used; {first}")
    return Predicted(tuple(written), skipped, batch.left_out)


class _Batch:
    """The cases of one call, and which of them were left out."""

    def __init__(self, predictor: Predictor, output: Output, tell: Listeners, single: bool) -> None:
        self.predictor, self.output, self.tell, self.single = predictor, output, tell, single
        self.left_out: dict[str, str] = {}

    def leave_out(self, name: str, why: str) -> None:
        """Go on without a case; a single one is left to the error that ends the call."""
        self.left_out[name] = why
        if not self.single:
            self.tell.left_out(name, why)

    def usable(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that can be read; a damaged file is told before an hour's work and not after."""
        good = []
        for done, case in enumerate(cases):
            self.tell.progress(done, 2 * len(cases), f"checking {case.name}")
            if self._read(case):
                good.append(case)
        return good

    def segment(self, cases: Sequence[Case]) -> Iterable[Path]:
        """Segment cases and write what was asked for; while one is computed, the next is read."""
        if not cases:
            return []
        self.predictor, choice = self.predictor.ready_for([case.images[0] for case in cases])
        self.tell.choice(choice.sentence())
        written = []
        for done, (case, loaded) in enumerate(self._ahead(cases), start=len(cases)):
            self.tell.progress(done, 2 * len(cases), case.name)
            path = self._segment(case, loaded)
            if path is not None:
                written.append(path)
        self.tell.progress(2 * len(cases), 2 * len(cases), "")
        return written

    def _ahead(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Future[_Loaded]]]:
        """Cases with what is read of them, in their order; one more is read by a thread, and no second one."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as reader:
            following = reader.submit(self._load, cases[0])
            for number, case in enumerate(cases):
                loaded = following
                wait([loaded])
                if number + 1 < len(cases):
                    following = reader.submit(self._load, cases[number + 1])
                yield case, loaded

    def _load(self, case: Case) -> _Loaded:
        remarks: list[str] = []
        return self.predictor.load(case.images, remarks.append), remarks

    def _read(self, case: Case) -> bool:
        try:
            read_image(case.images, self.predictor.channels)
        except DataError as error:
            self.leave_out(case.name, str(error))
            return False
        return True

    def _segment(self, case: Case, loaded: Future[_Loaded]) -> Path | None:
        try:
            volume, remarks = loaded.result()
        except DataError as error:  # it was well a while ago, when all were checked
            self.leave_out(case.name, str(error))
            return None
        for sentence in remarks:
            self.tell.remark(case.name, sentence)
        reference, output = case.images[0], self.output
        found = self.predictor.segment(volume, reference, output.probabilities)
        if found.probabilities is not None:
            save_probabilities(found.probabilities, reference, output.classes(case))
        save_labels(found.labels, reference, output.labels(case))
        return output.labels(case)

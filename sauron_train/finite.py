"""What happens where a loss or a gradient is no number: the step is not taken, and the run says at which cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sauron_train.config import Config
from sauron_train.data.types import Batch
from sauron_train.distributed import Processes
from sauron_train.errors import TrainingError
from sauron_train.runlog.files import write_tensors
from sauron_train.validation import CaseResult

FOLDER = "bad_batches"


@dataclass(frozen=True)
class Moment:
    """A step, and what this process had of its batch; `loss` is that of its part."""

    epoch: int
    step: int
    batch: Batch
    loss: float


class Guard:
    """Looks at every step before it is taken.

    A gradient that is NaN or infinite would ruin the weights at once, and the loss only a step later, at other cases.

    Attributes:
        skipped: steps of the run that were not taken so far.
    """

    def __init__(self, network: nn.Module, config: Config, processes: Processes) -> None:
        self._network = network
        self._most = config.optimizer.skip_steps
        # In half precision gradients are scaled, and that they do not fit at first is how the scale is found.
        self._looks_at_gradients = config.hardware.precision != "16-mixed"
        self._processes = processes
        self.skipped = 0

    def before(self) -> list[Tensor]:
        """Running statistics of norms as they are before a pass, where a step may be skipped; else nothing."""
        return [buffer.clone() for buffer in self._network.buffers()] if self._most else []

    def wrong(self, loss: float) -> str:
        """What is no number, "" if all is well; the same in all processes, which have one loss and one gradient."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not self._looks_at_gradients:
            return ""
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        return "" if math.isfinite(norm) else f"the gradient is {norm}"

    def skip(self, wrong: str, moment: Moment, kept: Sequence[Tensor], run: Path) -> str:
        """Leave a step out, as long as `optimizer.skip_steps` lets it.

        The batch is stored in the run folder, with its cases.

        Args:
            wrong: what is no number.
            moment: the step.
            kept: what `before` gave.
            run: the run folder.

        Returns:
            A sentence about it.

        Raises:
            TrainingError: no more may be left out.
        """
        self.skipped += 1
        guilty = self._processes.gathered(() if math.isfinite(moment.loss) else moment.batch.cases)
        every = self._processes.gathered(moment.batch.cases)
        names = dict.fromkeys(name for cases in (guilty if any(guilty) else every) for name in cases)
        said = f"{wrong} in epoch {moment.epoch} at the cases {', '.join(names)}"
        stored = self._store(wrong, moment, run)
        if self.skipped > self._most:
            before = f" ({self._most} steps were skipped before)" if self._most else ""
            raise TrainingError(
                f"{said}{before}; look at these images (the batch is in {stored}), lower optimizer.lr, or let "
                "optimizer.skip_steps leave out some steps"
            )
        with torch.no_grad():
            for buffer, value in zip(self._network.buffers(), kept, strict=True):
                buffer.copy_(value)
        return f"{said}; step {moment.step} was skipped, the {_ordinal(self.skipped)} of at most {self._most}"

    def _store(self, wrong: str, moment: Moment, run: Path) -> str:
        name = f"{FOLDER}/epoch_{moment.epoch:04d}_step_{moment.step:04d}.safetensors"
        if self._processes.leads:
            batch = moment.batch
            tensors = {"images": batch.image.float().cpu().numpy(), "labels": batch.label.cpu().numpy()}
            write_tensors(run / name, tensors, {"cases": batch.cases, "epoch": moment.epoch, "wrong": wrong})
        return name


def refuse_validation(results: Sequence[CaseResult]) -> Sequence[CaseResult]:
    """The results, if all their losses are numbers.

    Raises:
        TrainingError: one is not; its case is named.
    """
    for result in results:
        if not math.isfinite(result.loss):
            raise TrainingError(
                f"the validation loss is {result.loss} at case {result.scores.case}; look at this image, or lower "
                "optimizer.lr"
            )
    return results


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

"""What a person sees while a network trains: one line that moves, and one line an epoch that stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sauron_train.words import counted

if TYPE_CHECKING:
    # Run folders are read with pandas, and --help is to answer at once.
    from sauron_train.runlog import EpochRow, RunInfo

OnProgress = Callable[[int, int, str], None]
"""Told how many of how many steps are done, and which is next."""


class Observer:
    """Told what training is doing; this one keeps silent."""

    def loading(self, done: int, total: int) -> None:
        """A case has been read."""

    def started(self, info: RunInfo, how: str = "", done: int = 0) -> None:
        """Training is about to begin, or to go on after `done` epochs; `how` says how it trains and what it stores."""

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """A training step has been made."""

    def stage(self, epoch: int, what: str) -> None:
        """Something other than training steps is going on, such as validation."""

    def remark(self, sentence: str) -> None:
        """Something happened that one should know of."""

    def epoch(self, row: EpochRow) -> None:
        """An epoch has been committed."""


class Terminal(Observer):
    """Shows progress on a terminal; in a log file it writes one line per epoch."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._cases = self._progress.add_task("reading cases", total=None, visible=False, note="")
        self._epochs = self._progress.add_task("training", total=None, visible=False, note="")
        self._info: RunInfo | None = None
        self._steps_done = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()

    def loading(self, done: int, total: int) -> None:
        """Move the bar of the cases."""
        self._progress.update(self._cases, completed=done, total=total, visible=done < total)

    def started(self, info: RunInfo, how: str = "", done: int = 0) -> None:
        """Say what is trained on what, and how."""
        self._info = info
        self.console.print(
            f"[bold]{escape(info.dataset)}[/]: {counted(len(info.train_cases), 'case')} to train on, "
            f"{len(info.validation_cases)} to validate, on {escape(info.device)}\n"
            f"U-Net with {sum(layer.filters for layer in info.layers):,} filters in {len(info.layers)} layers, "
            f"{info.parameters:,} parameters, {info.flops / 1e9:.2f} GFLOPs per patch"
            + (f"\n{escape(how)}" if how else "")
            + (f"\n{done} of {info.epochs_planned} epochs are done; going on" if done else "")
        )
        for sentence in () if done else info.remarks:
            self.remark(sentence)
        self.console.print(f"[dim]{_HEADER}", highlight=False)
        self._progress.update(self._epochs, total=info.epochs_planned, completed=done, visible=True)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Move the bar by a step."""
        note = f"epoch {epoch}, step {done}/{total}, loss {loss:.3f}"
        self._progress.update(self._epochs, completed=epoch - 1 + done / total, note=note)

    def stage(self, epoch: int, what: str) -> None:
        """Show what is going on."""
        self._progress.update(self._epochs, note=f"epoch {epoch}, {what}")

    def remark(self, sentence: str) -> None:
        """Leave a line for it."""
        self.console.print(f"[yellow]note[/]  {escape(sentence)}", highlight=False)

    def epoch(self, row: EpochRow) -> None:
        """Leave a line for the epoch."""
        self.console.print(_line(row, self._info), highlight=False)
        self._progress.update(self._epochs, completed=row.epoch)


_HEADER = "epoch   loss   δ_opt  val loss   Dice  filters    FLOPs left  seconds"


def _line(row: EpochRow, info: RunInfo | None) -> str:
    filters = f"{row.filters:5d}" + (f" [red]-{row.filters_removed}[/]" if row.filters_removed else "")
    padding = " " * (12 - len(f"{row.filters:5d}") - (len(f" -{row.filters_removed}") if row.filters_removed else 0))
    left = f"{row.flops / info.flops:6.1%}" if info else ""
    # A cut that begins a run is an epoch without training.
    loss = "     –" if math.isnan(row.train_loss) else f"{row.train_loss:6.3f}"
    delta_opt = "     –" if math.isnan(row.train_delta_opt) else f"{row.train_delta_opt:6.3f}"
    return (
        f"{row.epoch:5d} {loss}  {delta_opt}    {row.val_loss:6.3f}  "
        f"[bold]{row.val_dice:5.3f}[/]  {filters}{padding} {left}  {row.seconds:7.1f}"
    )

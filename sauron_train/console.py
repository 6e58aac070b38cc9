"""What the commands print, and on what: a console that nobody need read, bars, and an answer to Ctrl-C."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from sauron_train.progress import OnProgress


class PatientConsole(Console):
    """Goes on in silence when nobody reads it any more, as after `| head`: training is not to end by that."""

    def on_broken_pipe(self) -> None:
        """Print no more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = PatientConsole()


@contextmanager
def stopped(sentence: str | Callable[[], str]) -> Iterator[None]:
    """Ctrl-C is answered in words, which may be found only then."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(escape(sentence if isinstance(sentence, str) else sentence()), highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None


def how_to_go_on(out: Path) -> str:
    """What there is of a training that was stopped, and how it goes on."""
    from sauron_train.runlog import Run  # noqa: PLC0415

    if not (out / "run.json").is_file():
        return "stopped; nothing was written"
    begun = Run(out).last_epoch
    kept = f"the epochs that were finished are whole in {out}" if begun else "no epoch was finished"
    return f"stopped; {kept}\n{'Go on' if begun else 'Start again'} with: sauron-train resume {quote(str(out))}"


def print_summary(out: Path) -> None:
    """What training has reached, and what to do next."""
    from sauron_train.describe import share  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    finished = Run(out)
    info, last = finished.info, finished.epochs().iloc[-1]
    filters = sum(layer.filters for layer in info.layers)
    console.print(
        f"\n[bold]{escape(finished.name)}[/]: validation Dice {last['val_dice']:.3f}, "
        f"{share(last['filters'], filters)} of the filters, {share(last['parameters'], info.parameters)} of the "
        f"parameters and {share(last['flops'], info.flops)} of the FLOPs are left\n"
        f"See it: [bold]sauron-viz serve {escape(str(out.parent))}[/]   "
        f"Score it: [bold]sauron-train evaluate {escape(str(out))}[/]",
        highlight=False,
        soft_wrap=True,
    )


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Scores per class of an evaluation."""
    table = Table(
        title=f"{len(result['cases'])} validation cases, epoch {result['epoch']}", box=None, title_justify="left"
    )
    for heading in ("class", "Dice", "HD95 (mm)", "missed", "absent"):
        table.add_column(heading, justify="left" if heading == "class" else "right", header_style="bold")
    for name, dice in result["dice"].items():
        missed, absent = result["missed"][name], result["not_scored"][name]
        table.add_row(escape(name), _number(dice, 3), _number(result["hd95_mm"][name], 2), str(missed), str(absent))
    table.add_row("mean", _number(result["mean_dice"], 3), _number(result["mean_hd95_mm"], 2), style="bold")
    console.print(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@contextmanager
def bar(what: str, machine: bool = False) -> Iterator[OnProgress]:
    """A bar for what is going on; `machine` writes lines of JSON instead: done, total, what is next."""
    if machine:
        yield lambda done, total, case: print(json.dumps([done, total, case]), flush=True)  # noqa: T201
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[case]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, case="")
        yield lambda done, total, case: progress.update(task, completed=done, total=total, case=case)

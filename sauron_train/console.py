"""What the commands print on: a console that nobody need read, bars, and an answer to Ctrl-C."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sauron_train.progress import OnProgress


class PatientConsole(Console):
    """Goes on in silence when nobody reads it any more, as after `| head`: training is not to end by that."""

    def on_broken_pipe(self) -> None:
        """Print no more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = PatientConsole()


@contextmanager
def stopped(sentence: str) -> Iterator[None]:
    """Ctrl-C is answered in words."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(sentence, soft_wrap=True)
        raise typer.Exit(130) from None


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

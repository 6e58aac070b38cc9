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
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from sauron_train.interruption import exit_code
from sauron_train.progress import OnProgress
from sauron_train.words import counted


class PatientConsole(Console):
    """Goes on in silence when nobody reads it any more, as after `| head`: training is not to end by that."""

    def on_broken_pipe(self) -> None:
        """Print no more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = PatientConsole()


@contextmanager
def stopped(sentence: str | Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are answered in words, which may be found only then."""
    try:
        yield
    except KeyboardInterrupt as error:
        console.print(escape(sentence if isinstance(sentence, str) else sentence()), highlight=False, soft_wrap=True)
        raise typer.Exit(exit_code(error)) from None


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
        f"See it: [bold]sauron-viz serve {escape(quote(str(out.parent)))}[/]   "
        f"Score it: [bold]sauron-train evaluate {escape(quote(str(out)))}[/]",
        highlight=False,
        soft_wrap=True,
    )


def print_scores(result: Mapping[str, Any], title: str) -> None:
    """Scores per class, as mean ± standard deviation over the cases that were scored, and what was not scored."""
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    surface = f"surface Dice ({result['tolerance_mm']:g} mm)"
    for heading in ("class", "Dice", "median", "HD95 (mm)", surface, "scored"):
        table.add_column(heading, justify="left" if heading == "class" else "right", header_style="bold")
    for name, of in result["statistics"].items():
        cells = _spread(of["dice"], 3), _number(of["dice"]["median"], 3), _spread(of["hd95_mm"], 2)
        table.add_row(escape(name), *cells, _spread(of["surface_dice"], 3), str(of["dice"]["cases"]))
    means = (_number(result[f"mean_{key}"], digits) for key, digits in (("hd95_mm", 2), ("surface_dice", 3)))
    table.add_row("mean", _number(result["mean_dice"], 3), "", *means, style="bold")
    console.print(table)
    for sentence in unscored(result):
        console.print(escape(sentence), highlight=False, soft_wrap=True)


def unscored(result: Mapping[str, Any]) -> list[str]:
    """Sentences about classes that were absent or missed."""
    told = []
    for name, missed in result["missed"].items():
        absent, alarms = result["not_scored"][name], result["false_alarms"][name]
        if missed:
            told.append(
                f"{name} was missed in {counted(missed, 'case')}: its Dice and surface Dice are 0 there, HD95 has no "
                "value"
            )
        if absent:
            predicted = f"; it was predicted in {alarms} of them (false alarms)" if alarms else ""
            told.append(
                f"{name} is absent from the reference of {counted(absent, 'case')}, which have no score for it"
                f"{predicted}"
            )
    return told


def _spread(of: Mapping[str, float | None], digits: int) -> str:
    return _number(of["mean"], digits) + ("" if of["sd"] is None else f" ± {_number(of['sd'], digits)}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@contextmanager
def bar(what: str, machine: bool = False, in_bytes: bool = False) -> Iterator[OnProgress]:
    """A bar for what is going on, counted in steps or `in_bytes`.

    `machine` writes lines of JSON instead: done, total, what is next.
    """
    if machine:
        yield lambda done, total, case: print(json.dumps([done, total, case]), flush=True)  # noqa: T201
        return
    if not console.is_terminal:
        yield lambda done, total, case: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TextColumn("{task.fields[case]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, case="")
        yield lambda done, total, case: progress.update(task, completed=done, total=total, case=case)

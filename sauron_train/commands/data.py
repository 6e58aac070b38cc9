"""Data sets: make one up, and preprocess one before it is trained on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.markup import escape

from sauron_train.commands.options import DataSetOption, RecipeOption, SetOption, config_of
from sauron_train.console import bar, console, stopped


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    dim: Annotated[int, typer.Option(min=2, max=3, help="2: stacks of slices; 3: volumes.")] = 2,
    cases: Annotated[int, typer.Option(min=2)] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a synthetic data set, MRI-like heads with two structures, in the nnU-Net raw layout."""
    from sauron_train.data.phantom import make_phantom  # noqa: PLC0415

    make_phantom(out, dim=dim, cases=cases, seed=seed)
    console.print(f"{cases} cases in {escape(str(out))}")


def preprocess(
    recipe: RecipeOption,
    data: DataSetOption,
    cache: Annotated[
        Path, typer.Option(envvar="SAURON_CACHE", help="Folder for the preprocessed cases; one for all data sets.")
    ],
    changes: SetOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that work at it.")] = max(1, (os.cpu_count() or 2) // 2),
) -> None:
    """Read, turn, resample, clip and scale all cases of a data set once, and keep them for every training.

    What is there already is not made again: repeat the command after an interruption. Training finds them with the same
    --cache (or $SAURON_CACHE), maps them into memory and begins at once; with another preprocessing they are made anew
    beside these. A case that cannot be read is told and left out.
    """
    from sauron_train.data.datasets import read_dataset  # noqa: PLC0415
    from sauron_train.data.prepare import prepare  # noqa: PLC0415

    config = config_of(recipe, changes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped("stopped; what is done is kept, repeat the command to go on"), bar("preprocessing") as advance:
        done = prepare(read_dataset(data), config, cache, jobs, advance)
    for name, why in done.failed.items():
        console.print(f"[bold red]left out:[/] {escape(name)}: {escape(why)}", highlight=False, soft_wrap=True)
    there = f", {done.there} were there already" if done.there else ""
    told = f"{done.made} cases preprocessed{there}" if done.made else f"all {done.there} cases are there already"
    console.print(f"{told}: {escape(str(done.folder))}", highlight=False, soft_wrap=True)
    if done.failed:
        raise typer.Exit(2)
    console.print(
        f"Train on them: [bold]sauron-train run --recipe {escape(quote(recipe))} --data {escape(quote(str(data)))} "
        f"--cache {escape(quote(str(cache)))} --out runs/NAME[/]",
        highlight=False,
        soft_wrap=True,
    )

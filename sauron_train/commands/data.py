"""Data sets: make one up, and preprocess one before it is trained on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.markup import escape

from sauron_train.commands.options import CacheOption, DataSetOption, RecipeOption, SetOption, config_of
from sauron_train.console import bar, console, stopped
from sauron_train.errors import DataError


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


def preview(
    recipe: RecipeOption,
    data: DataSetOption,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    changes: SetOption = None,
    cases: Annotated[int, typer.Option(min=1, max=40, help="Training cases to show, chosen by the seed.")] = 4,
    draws: Annotated[int, typer.Option(min=1, max=20, help="How often each is augmented.")] = 6,
    cache: CacheOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Show what a recipe's augmentation does to training images: as they are, and as the network gets to see them.

    Too much is as bad as too little: structures should stay what they are, outlines should lie on their edges, and
    nothing should leave the picture that matters. Another `--set seed=1` draws anew.
    """
    from sauron_train.data.samples import draw_samples  # noqa: PLC0415
    from sauron_train.sheet import write_sheet  # noqa: PLC0415

    config = config_of(recipe, changes)
    refuse_file(out, force)
    with stopped("stopped; nothing was written"), bar("augmenting") as advance:
        samples = draw_samples(config, data, cases, draws, cache, advance)
    try:
        write_sheet(samples, f"{recipe} on {data.resolve().name}", config.augment, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from None
    console.print(
        f"{len(samples.rows)} cases, {draws} times each: {escape(str(out))} "
        f"({1000 * samples.seconds:.1f} ms for one patch)",
        highlight=False,
        soft_wrap=True,
    )


def refuse_file(out: Path, force: bool) -> None:
    """Say before anything is done that a picture cannot be written, or would be written over another.

    Raises:
        DataError: not a .png, no such folder, or a file that is there already without `force`.
    """
    if out.suffix.lower() != ".png":
        raise DataError(f"{out} must end in .png")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a folder; make it first")
    if out.exists() and not force:
        raise DataError(f"{out} exists already; choose another --out, or write over it with --force")


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

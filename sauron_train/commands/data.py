"""Data sets: make one up, and preprocess one before it is trained on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sauron_train.commands.options import CacheOption, DataSetOption, MachineOption, RecipeOption, SetOption, config_of
from sauron_train.console import bar, console, stopped
from sauron_train.errors import DataError
from sauron_train.interruption import heed_sigterm
from sauron_train.words import counted, listed

if TYPE_CHECKING:
    # --help is to answer at once.
    from sauron_train.data.prepare import Prepared
    from sauron_train.data.survey import Survey
    from sauron_train.plan import Choice


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


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set, in a layout that `run` reads.")],
    out: Annotated[Path, typer.Option(help="Recipe to write, a YAML file.")],
    dim: Annotated[
        int | None,
        typer.Option(min=2, max=3, help="Slices or volumes. Default: as its voxels are.", show_default=False),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="GiB that a training step may take. Default: most of the GPU's, else a third of this machine's.",
            show_default=False,
        ),
    ] = None,
    look_at: Annotated[int, typer.Option(min=1, help="Cases that are read whole, chosen by the seed.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Look at a data set and write a recipe for it, with the reason of each choice beside it.

    A beginning that works, to be read and changed: what the network sees, how deep it is, how intensities are scaled,
    what is drawn at random, when filters go.
    """
    refuse_file(out, (".yaml", ".yml"))
    with stopped("stopped; nothing was written"):
        from sauron_train.data.datasets import read_dataset  # noqa: PLC0415
        from sauron_train.data.survey import survey  # noqa: PLC0415
        from sauron_train.memory import default_memory  # noqa: PLC0415
        from sauron_train.plan import as_recipe, plan  # noqa: PLC0415

        with bar("looking") as advance:
            seen = survey(read_dataset(data), look_at, seed, advance)
        choices = plan(seen, out.stem, default_memory() if memory is None else int(memory * 2**30), dim)
        recipe = as_recipe(choices)
    write_file(out, recipe)
    _print_choices(choices)
    _print_notes(seen.dataset.remarks)
    if seen.without:
        console.print(
            f"[bold]Nothing is labelled in {len(seen.without)} of {counted(seen.looked, 'case')}:[/] "
            f"{escape(listed(seen.without))}"
        )
    _print_after_init(seen, recipe, data, out)


def _print_choices(choices: Iterable[Choice]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for choice in choices:
        if choice.why:
            table.add_row(choice.key, escape(str(choice.value)), f"[dim]{escape(choice.why)}[/]")
    console.print(table)


def _print_after_init(seen: Survey, recipe: str, data: Path, out: Path) -> None:
    """What to do next, or why it would be refused."""
    import yaml  # noqa: PLC0415

    from sauron_train.config import parse  # noqa: PLC0415
    from sauron_train.data.readiness import obstacle  # noqa: PLC0415

    name, place = escape(quote(str(out))), escape(quote(str(data)))
    why = obstacle(seen.dataset, parse(yaml.safe_load(recipe)), lambda case: case.name in seen.without)
    if why:
        _print(f"\nIt is in {name}. `sauron-train run` will refuse to train on this data set: {escape(why)}")
        return
    _print(
        f"\nIt is in {name}. Look at what it does, and train:\n"
        f"  [bold]sauron-train preview --recipe {name} --data {place} --out augmented.png[/]\n"
        f"  [bold]sauron-train run --recipe {name} --data {place} --out runs/{escape(out.stem)}[/]"
    )


def _print_notes(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        _print(f"[yellow]note[/]  {escape(sentence)}")


def _print(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def preview(  # noqa: PLR0913, PLR0917 - an option each
    recipe: RecipeOption,
    data: DataSetOption,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    changes: SetOption = None,
    cases: Annotated[int, typer.Option(min=1, max=40, help="Training cases to show, chosen by the seed.")] = 4,
    draws: Annotated[int, typer.Option(min=1, max=20, help="How often each is augmented.")] = 6,
    cache: CacheOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    machine: MachineOption = False,
) -> None:
    """Show what a recipe's augmentation does to training images: as they are, and as the network gets to see them.

    Too much is as bad as too little: structures should stay what they are, outlines should lie on their edges, and
    nothing should leave the picture that matters. Another `--set seed=1` draws anew.
    """
    config = config_of(recipe, changes)
    refuse_file(out, (".png",), force)
    heed_sigterm()
    with stopped("stopped; nothing was written"):
        from sauron_train.data.samples import draw_samples  # noqa: PLC0415
        from sauron_train.sheet import sheet  # noqa: PLC0415

        with bar("augmenting", machine) as advance:
            samples = draw_samples(config, data, cases, draws, cache, advance)
        picture = sheet(samples, f"{recipe} on {data.resolve().name}", config.augment)
    write_file(out, picture)
    if machine:
        return
    _print(
        f"{counted(len(samples.rows), 'case')}, {counted(draws, 'time')} each: {escape(str(out))} "
        f"({1000 * samples.seconds:.1f} ms for one patch)"
    )


def write_file(out: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    from sauron_train.runlog.files import write_atomically  # noqa: PLC0415

    try:
        write_atomically(out, content)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from None


def refuse_file(out: Path, endings: tuple[str, ...], force: bool = False) -> None:
    """Say before anything is done that a file cannot be written, or would be written over another.

    Raises:
        DataError: another ending, no such folder, or a file that is there already without `force`.
    """
    if out.suffix.lower() not in endings:
        raise DataError(f"{out} must end in {endings[0]}")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a folder; make it first")
    if out.exists() and not force:
        raise DataError(f"{out} exists already; choose another --out")


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
    heed_sigterm()
    with stopped("stopped; what is done is kept, repeat the command to go on"):
        from sauron_train.data.datasets import examine  # noqa: PLC0415
        from sauron_train.data.prepare import prepare  # noqa: PLC0415

        config = config_of(recipe, changes)
        with bar("preprocessing") as advance:
            done = prepare(examine(data), config, cache, jobs, advance)
    for name, why in done.failed.items():
        _print(f"[bold red]left out:[/] {escape(name)}: {escape(why.removeprefix(f'case {name}: '))}")
    _print_notes(done.remarks)
    _print(_amount(done) + (f": {escape(str(done.folder))}" if done.made or done.there else ""))
    if done.failed:
        raise typer.Exit(2)
    if done.obstacle:
        _print(f"`sauron-train run` will refuse to train on this data set: {escape(done.obstacle)}")
        return
    _print(
        f"Train on them: [bold]sauron-train run --recipe {escape(quote(recipe))} --data {escape(quote(str(data)))} "
        f"--cache {escape(quote(str(cache)))} --out runs/NAME[/]"
    )


def _amount(done: Prepared) -> str:
    """How many cases there are now."""
    there = f"{done.there} {'was' if done.there == 1 else 'were'} there already"
    if done.made:
        return f"{counted(done.made, 'case')} preprocessed" + (f", {there}" if done.there else "")
    if done.failed:
        return f"no case was preprocessed, {there}" if done.there else "no case was preprocessed"
    return "the only case is there already" if done.there == 1 else f"all {done.there} cases are there already"

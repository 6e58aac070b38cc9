"""Train: begin a run, go on with one, and what there is to train."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sauron_train import ranks, recipes
from sauron_train.commands.options import (
    CacheOption,
    DataOption,
    DataSetOption,
    MachineOption,
    RecipeOption,
    RunArgument,
    SetOption,
    config_of,
)
from sauron_train.config import parse
from sauron_train.console import console, how_to_go_on, print_summary, stopped
from sauron_train.errors import ConfigError
from sauron_train.interruption import heed_sigterm
from sauron_train.launch import in_processes
from sauron_train.together import ended_together


def run(
    recipe: RecipeOption,
    data: DataSetOption,
    out: Annotated[Path, typer.Option(help="Run folder to make; it must not exist.")],
    changes: SetOption = None,
    cache: CacheOption = None,
    machine: MachineOption = False,
) -> None:
    """Train a network, pruning it on the way, into a new run folder.

    The unpruned baseline of the same recipe: `--set prune.enabled=false --set loss.lambda=0`.
    """
    from sauron_train.events import watched  # noqa: PLC0415
    from sauron_train.runlog.aside import refuse_existing  # noqa: PLC0415

    # A cluster ends a job with SIGTERM: the run then says so, and can go on as after Ctrl-C.
    heed_sigterm()
    in_processes(lambda: config_of(recipe, changes))
    with stopped(partial(how_to_go_on, out)), watched(machine) as observer, ended_together():
        if ranks.leads():
            refuse_existing(out)
        config = config_of(recipe, changes)
        if config.rival is not None:
            raise ConfigError(
                "the recipe has a section rival, which begins with a trained network: use `sauron-train rival`, or "
                "leave it out"
            )
        from sauron_train.experiment import Experiment  # noqa: PLC0415
        from sauron_train.trainer import Trainer  # noqa: PLC0415

        Trainer(Experiment.prepare(config, data, observer.loading, cache, observer.remark), out, observer).run()
    if ranks.leads():
        print_summary(out)


def resume(
    run_folder: RunArgument,
    data: DataOption = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Go on although the run says that it is training, where that can no longer be true, or although its "
            "tables are damaged.",
        ),
    ] = False,
    extend: Annotated[
        int | None,
        typer.Option(
            metavar="EPOCHS",
            min=1,
            help="Give a finished run so many epochs more. Its learning rate is then that of the schedule for all "
            "epochs together, so it rises where it goes on; it cuts on if prune.last_epoch lets it.",
        ),
    ] = None,
    cache: CacheOption = None,
    machine: MachineOption = False,
) -> None:
    """Go on with a run that was stopped, failed or lost its process, from its last finished epoch or its beginning.

    What comes out is what would have come out without the interruption: on a CPU to the last bit.
    """
    from sauron_train.events import watched  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    heed_sigterm()
    in_processes(lambda: Run(run_folder).config)
    with stopped(partial(how_to_go_on, run_folder)), watched(machine) as observer, ended_together():
        from sauron_train.resume import resume as go_on  # noqa: PLC0415

        go_on(Run(run_folder), data, observer, force, cache, extend)
    if ranks.leads():
        print_summary(run_folder)


def list_recipes() -> None:
    """List the recipes that come with Sauron."""
    table = Table("recipe", "network", "epochs", "what for", box=None, header_style="bold")
    for name in recipes.names():
        config = parse(recipes.load(name))
        network = f"{config.network.dim}D, {config.network.levels} levels, {config.network.init_filters} filters"
        table.add_row(name, network, str(config.epochs), config.description)
    console.print(table)


def describe(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a YAML file.")],
    changes: SetOption = None,
    config_only: Annotated[
        bool,
        typer.Option(
            "--config",
            help="Print the whole configuration as YAML, with what each key means: a recipe of your own to begin with.",
        ),
    ] = False,
) -> None:
    """Show what a recipe trains: its network layer by layer, what can be pruned, what it costs."""
    config = config_of(recipe, changes)
    if config_only:
        typer.echo(config.explained(), nl=False)
        return
    from sauron_train.describe import describe_network  # noqa: PLC0415

    console.print(describe_network(config))


def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, the baseline first.")],
) -> None:
    """Show how runs ended, side by side: validation Dice, and what is left of the network."""
    from sauron_train.describe import compare_runs  # noqa: PLC0415

    table, unread = compare_runs(run_folders)
    if table.row_count:
        console.print(table)
    for sentence in unread:
        console.print(f"[red]{escape(sentence)}[/]", highlight=False, soft_wrap=True)
    if unread:
        raise typer.Exit(1)

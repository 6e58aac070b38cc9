"""The command `sauron-train`. torch is imported by the commands that need it, so that --help answers at once."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sauron_train import __version__, recipes
from sauron_train.arguments import filter_table, named_epochs
from sauron_train.config import Config, parse
from sauron_train.console import bar, console, how_to_go_on, print_evaluation, print_summary, stopped
from sauron_train.errors import ConfigError, SauronError
from sauron_train.keys import with_overrides

app = typer.Typer(
    help="Train segmentation U-Nets that lose their redundant filters while they train.",
    epilog="A first run: `sauron-train phantom data/phantom`, then "
    "`sauron-train run --recipe phantom2d --data data/phantom --out runs/first`, then `sauron-viz serve runs`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class Compensate(StrEnum):
    """What becomes of what readers did with a filter that goes."""

    merge = "merge"
    none = "none"


class DipSample(StrEnum):
    """Of which values the dip is taken."""

    pairs = "pairs"
    reference = "reference"
    pca = "pca"


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. `prune.enabled=false`; repeat."),
]
EpochOption = Annotated[int | None, typer.Option(help="Epoch of the checkpoint; the last one if not given.")]
MachineOption = Annotated[bool, typer.Option("--json", help="Progress as lines of JSON, for programs.", hidden=True)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def main() -> None:
    """Entry point: what is the user's to mend is said in one sentence, with exit code 2."""
    try:
        app()
    except SauronError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        console.print(f"sauron-unet {__version__}", highlight=False)
        raise typer.Exit


@app.command()
def run(
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file. `recipes` lists them.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of the data set: nnU-Net raw layout (dataset.json), or ACDC, KiTS19, Rats as handed out."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to make; it must not exist.")],
    changes: SetOption = None,
    machine: MachineOption = False,
) -> None:
    """Train a network, pruning it on the way, into a new run folder.

    The unpruned baseline of the same recipe: `--set prune.enabled=false --set loss.lambda=0`.
    """
    from sauron_train.events import watched  # noqa: PLC0415
    from sauron_train.runlog.writer import refuse_existing  # noqa: PLC0415

    # A cluster ends a job with SIGTERM: the run then says that it was stopped, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped(partial(how_to_go_on, out)), watched(machine) as observer:
        refuse_existing(out)
        config = _config(recipe, changes)
        from sauron_train.experiment import Experiment  # noqa: PLC0415
        from sauron_train.trainer import Trainer  # noqa: PLC0415

        Trainer(Experiment.prepare(config, data, observer.loading), out, observer).run()
    print_summary(out)


@app.command()
def resume(
    run_folder: RunArgument,
    data: Annotated[
        Path | None, typer.Option(help="The data set, if it is no longer where the run was trained.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on although the run says that it is training, where that can no longer be true."
        ),
    ] = False,
    machine: MachineOption = False,
) -> None:
    """Go on with a run that was stopped, failed or lost its process, from its last finished epoch or its beginning.

    What comes out is what would have come out without the interruption: on a CPU to the last bit.
    """
    from sauron_train.events import watched  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped(partial(how_to_go_on, run_folder)), watched(machine) as observer:
        from sauron_train.resume import resume as go_on  # noqa: PLC0415
        from sauron_train.runlog import Run  # noqa: PLC0415

        go_on(Run(run_folder), data, observer, force)
    print_summary(run_folder)


@app.command("recipes")
def list_recipes() -> None:
    """List the recipes that come with Sauron."""
    table = Table("recipe", "network", "epochs", "what for", box=None, header_style="bold")
    for name in recipes.names():
        config = parse(recipes.load(name))
        network = f"{config.network.dim}D, {config.network.levels} levels, {config.network.init_filters} filters"
        table.add_row(name, network, str(config.epochs), config.description)
    console.print(table)


@app.command()
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
    config = _config(recipe, changes)
    if config_only:
        typer.echo(config.explained(), nl=False)
        return
    from sauron_train.describe import describe_network  # noqa: PLC0415

    console.print(describe_network(config))


@app.command()
def predict(
    run_folder: RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Folders with CASE_0000.nii.gz files, or such files.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the label maps, CASE.nii.gz each.")],
    epoch: EpochOption = None,
) -> None:
    """Segment images with a run's network; label maps lie on the grid of their image."""
    from sauron_train.predict import predict as segment_files  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    with bar("segmenting") as advance:
        written = segment_files(Run(run_folder), images, out, epoch, advance)
    console.print(f"{len(written)} label maps in {escape(str(out))}")


@app.command()
def evaluate(
    run_folder: RunArgument,
    data: Annotated[
        Path | None, typer.Option(help="The data set, if it is no longer where the run was trained.")
    ] = None,
    epoch: EpochOption = None,
) -> None:
    """Score a run on its validation cases, on each image's own grid; the result stays in the run folder."""
    from sauron_train.predict import evaluate as score  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415
    from sauron_train.runlog.writer import write_evaluation  # noqa: PLC0415

    run_read = Run(run_folder)
    with bar("evaluating") as advance:
        result = score(run_read, data, epoch, advance)
    write_evaluation(run_folder, result)
    print_evaluation(result)


@app.command()
def analyze(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    images: Annotated[int | None, typer.Option(min=1, help="Number of probe images; chosen anew.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed from which they are chosen.")] = None,
    dip: Annotated[
        DipSample | None, typer.Option(help="Of which values the dip is taken: all pairs, distances to channel 0, PCA.")
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Maps no farther apart than this are neighbours, in units of a map's range; known to 0.005.",
        ),
    ] = None,
    epochs: Annotated[
        str | None,
        typer.Option(
            metavar="1,5,10-20",
            help="Epochs to measure; of a range those with a checkpoint. Default: all that have one.",
            show_default=False,
        ),
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Store the maps of all these epochs, not only where they are stored already.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where measures of other epochs are lost by it.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="The data set, if it is no longer where the run was trained.")
    ] = None,
) -> None:
    """Measure a finished run's maps again from its checkpoints.

    Epochs that are not measured keep what still holds: neighbours within any radius are told from stored distances, a
    dip of other values where all distances are stored, and nothing with other probe images (--images, --seed). Where
    measures would be lost by that, it is refused without --force. Keep more checkpoints in a new run with
    `--set maps.checkpoints=1`.
    """
    from sauron_train.analyze import Questions  # noqa: PLC0415
    from sauron_train.analyze import analyze as measure  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    opened = Run(run_folder)
    wanted = None if epochs is None else named_epochs(epochs, opened.checkpoints())
    questions = Questions(images, seed, dip.value if dip else None, radius, wanted, data, maps, force)
    with stopped("stopped; the run is as it was"), bar("measuring") as advance:
        done = measure(opened, questions, advance)
    told = f"measured {len(done.epochs)} epochs; {done.plan}" if done.plan else "counted neighbours again at all epochs"
    console.print(
        f"{told}\nSee them: [bold]sauron-viz table4 {escape(str(run_folder))}[/]",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def cut(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    out: Annotated[Path, typer.Option(help="Run folder to make; it must not exist.")],
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="τ: what is nearer than this to a map that stays goes.", show_default=False
        ),
    ] = None,
    filters: Annotated[
        Path | None,
        typer.Option(help='JSON file of the filters that go instead: {"dec_conv_5": [0, 7]}.', show_default=False),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="Layer that --threshold holds for; repeat. Default: all.")
    ] = None,
    compensate: Annotated[
        Compensate | None, typer.Option(help="merge: survivors take over what goes. Default: as the run did.")
    ] = None,
    epoch: EpochOption = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set, if it is no longer where the run was trained.")
    ] = None,
    decided_at: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="τ that a view chose --filters by.", hidden=True)
    ] = None,
    machine: MachineOption = False,
) -> None:
    """Cut filters out of a run's network without training it on, and score it before and after.

    What it makes is a run folder with the cut network: look at it with `sauron-viz serve`, segment with `predict`.
    """
    from sauron_train.derive import CutQuestion, cut_run  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    if filters is not None and (threshold is not None or layers):
        raise ConfigError(
            "--filters names what goes, --threshold and --layer let distances decide; give one of the two"
        )
    chosen = None if filters is None else filter_table(filters)
    question = CutQuestion(
        epoch,
        chosen,
        decided_at if threshold is None else threshold,
        tuple(layers or ()),
        compensate.value if compensate else None,
        data,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped("stopped; nothing was written"), bar("cutting", machine) as advance:
        made = cut_run(Run(run_folder), question, out, advance)
    if machine:
        return
    last = made.epochs().iloc[-1]
    console.print(
        f"{made.info.derived_from.how if made.info.derived_from else ''}: validation Dice "
        f"{last['val_dice_before_cut']:.3f} before, {last['val_dice']:.3f} after\n"
        f"See it: [bold]sauron-viz serve {escape(str(out.parent))}[/]",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def maps(
    run_folder: RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="One NIfTI file per channel.")],
    out: Annotated[Path, typer.Option(help="Run folder to make; it must not exist.")],
    epoch: EpochOption = None,
    machine: MachineOption = False,
) -> None:
    """Show an image of your own to a run's network, and keep its feature maps as a run to explore.

    In 2D some slices of it, spread over the stack; in 3D its middle, as large as the patch.
    """
    from sauron_train.derive_maps import maps_run  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped("stopped; nothing was written"), bar("reading", machine) as advance:
        made = maps_run(Run(run_folder), images, epoch, out, advance)
    if not machine:
        console.print(
            f"maps of {', '.join(made.probe().names)}\nSee them: [bold]sauron-viz serve {escape(str(out.parent))}[/]",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, the baseline first.")],
) -> None:
    """Show how runs ended, side by side: validation Dice, and what is left of the network."""
    from sauron_train.describe import compare_runs  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    console.print(compare_runs([Run(folder) for folder in run_folders]))


@app.command()
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


def _config(recipe: str, changes: list[str] | None) -> Config:
    return parse(with_overrides(recipes.load(recipe), changes or []))

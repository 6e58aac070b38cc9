"""Look into a network that was trained: measure its maps, cut it, show it other images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sauron_train.arguments import filter_table, named_epochs
from sauron_train.commands.options import DataOption, EpochOption, MachineOption, RunArgument
from sauron_train.console import bar, console, stopped
from sauron_train.errors import ConfigError
from sauron_train.interruption import heed_sigterm


class Compensate(StrEnum):
    """What becomes of what readers did with a filter that goes."""

    merge = "merge"
    none = "none"


class DipSample(StrEnum):
    """Of which values the dip is taken."""

    pairs = "pairs"
    reference = "reference"
    pca = "pca"


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
    data: DataOption = None,
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
    width_multiple: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Cut layers to multiples of this only, as kernels work in blocks of channels; 1: to any width. "
            "Default: as the run did.",
            show_default=False,
        ),
    ] = None,
    compensate: Annotated[
        Compensate | None, typer.Option(help="merge: survivors take over what goes. Default: as the run did.")
    ] = None,
    epoch: EpochOption = None,
    data: DataOption = None,
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

    if filters is not None and (threshold is not None or layers or width_multiple is not None):
        raise ConfigError(
            "--filters names what goes; --threshold, --layer and --width-multiple let distances decide. "
            "Give one of the two"
        )
    chosen = None if filters is None else filter_table(filters)
    question = CutQuestion(
        epoch,
        chosen,
        decided_at if threshold is None else threshold,
        tuple(layers or ()),
        compensate.value if compensate else None,
        data,
        width_multiple,
    )
    heed_sigterm()
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

    heed_sigterm()
    with stopped("stopped; nothing was written"), bar("reading", machine) as advance:
        made = maps_run(Run(run_folder), images, epoch, out, advance)
    if not machine:
        console.print(
            f"maps of {', '.join(made.probe().names)}\nSee them: [bold]sauron-viz serve {escape(str(out.parent))}[/]",
            highlight=False,
            soft_wrap=True,
        )

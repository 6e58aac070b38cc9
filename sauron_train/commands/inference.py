"""Use a network that was trained: segment images with it, and score it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sauron_train.commands.options import DataOption, EpochOption, RunArgument
from sauron_train.console import bar, console, print_evaluation


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


def evaluate(
    run_folder: RunArgument,
    data: DataOption = None,
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

"""Use a network that was trained: segment images with it, and score it, or score any label maps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sauron_train.commands.options import DataOption, Device, DeviceOption, Engine, EpochOption, RunArgument
from sauron_train.console import bar, console, print_scores, stopped
from sauron_train.errors import ConfigError, DataError
from sauron_train.interruption import heed_sigterm
from sauron_train.words import counted

if TYPE_CHECKING:
    from sauron_train.predictor import Inference
    from sauron_train.runlog import Run


OverlapOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=0.9,
        help="Share of a patch by which neighbouring patches overlap; they are blended with Gaussian weights. More is "
        "smoother and slower.",
    ),
]
FlipsOption = Annotated[
    bool,
    typer.Option(
        "--flips",
        help="Average class probabilities over flips of the image: along both in-plane axes in 2D (4 times the work), "
        "all three in 3D (8 times). Of use where the network was trained on flipped images, too.",
    ),
]
LargestOption = Annotated[
    bool,
    typer.Option(
        "--largest-component",
        help="Of every class keep only the largest connected component (26 neighbours); what else there was of it "
        "becomes background.",
    ),
]
LargestOfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--largest-of",
        metavar="CLASS",
        help="The same for one class; repeat. For data in which some classes come in several pieces, as kidneys do.",
    ),
]
ToleranceOption = Annotated[
    float, typer.Option(min=0.0, help="Distance in mm up to which a surface counts as right in the surface Dice.")
]


def predict(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Folders with CASE_0000.nii.gz files (nnU-Net's imagesTs), such files themselves, or folders of ACDC, "
            "KiTS19 or Rats as handed out. A network of one channel also takes any single NIfTI file.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the label maps, CASE.nii.gz each; made if needed.")],
    overlap: OverlapOption = 0.5,
    flips: FlipsOption = False,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write CASE_probabilities beside it: 4D, float32, one volume per class in the order of the label "
            "values, background first.",
        ),
    ] = False,
    largest: LargestOption = False,
    largest_of: LargestOfOption = None,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Go on with a batch that was interrupted: leave alone what is there."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Segment again what is there, and replace it.")
    ] = False,
    device: DeviceOption = Device.auto,
    engine: Annotated[
        Engine,
        typer.Option(
            help="What computes the network. auto = on a GPU torch; on a CPU OpenVINO or else ONNX Runtime, if it is "
            "installed (`pip install 'sauron-unet[export]'`) and if there are patches enough for it to pay."
        ),
    ] = Engine.auto,
    epoch: EpochOption = None,
) -> None:
    """Segment images with a run's network; label maps lie on the grid of their image, under its header.

    Images may have any orientation and voxel size. They are preprocessed as the recipe says; where it leaves axes as
    they are on disk, an image is turned to lie as the training images did, and its label map back. You are told when
    that was done, and when voxels are of a size that the network has not seen.

    All images are read once before the first is segmented. Cases that cannot be used are named and left out, the others
    are segmented, and the command leaves with code 2. Files are whole or not there; nothing is written over unless
    --overwrite says so.
    """
    from sauron_train.predict import Listeners, Output  # noqa: PLC0415
    from sauron_train.predict import predict as segment_files  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    if skip_existing and overwrite:
        raise ConfigError("--skip-existing leaves alone what is there, --overwrite replaces it; give one of the two")
    heed_sigterm()
    run = Run(run_folder)
    how = _how(run, overlap, flips, largest, largest_of, device, engine)
    output = Output(out, probabilities, "skip" if skip_existing else "replace" if overwrite else "refuse")
    remarks = _Remarks()
    with stopped(lambda: _what_is_whole(out)), bar("segmenting") as advance:
        done = segment_files(run, images, output, how, epoch, Listeners(advance, remarks, _left_out, _say))
    remarks.close()
    skipped = f", {len(done.skipped)} there already" if done.skipped else ""
    written = counted(len(done.written), "label map")
    console.print(f"{written} in {escape(str(out))}{skipped}", highlight=False, soft_wrap=True)
    _refuse_left_out(list(done.left_out), len(done.written) + len(done.skipped) + len(done.left_out))


def _what_is_whole(out: Path) -> str:
    if not out.exists():
        return "stopped; nothing was written"
    return f"stopped; the label maps that are in {out} are whole, go on with --skip-existing"


def evaluate(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    data: DataOption = None,
    epoch: EpochOption = None,
    overlap: OverlapOption = 0.5,
    flips: FlipsOption = False,
    largest: LargestOption = False,
    largest_of: LargestOfOption = None,
    tolerance: ToleranceOption = 1.0,
    device: DeviceOption = Device.auto,
    engine: Annotated[Engine, typer.Option(help="What computes the network; see `predict`.")] = Engine.torch,
) -> None:
    """Score a run on its validation cases, on each image's own grid: Dice, HD95 and surface Dice per class and case.

    The result stays in the run folder: evaluation.json with everything, evaluation.csv with a row per case and class.
    A class that is absent from a case's reference has no score there; where it was predicted all the same, that is
    counted as a false alarm. A class that was missed has Dice 0 and no HD95.
    """
    from sauron_train.evaluate import evaluate as score_run  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415
    from sauron_train.runlog.writer import write_evaluation  # noqa: PLC0415

    run = Run(run_folder)
    how = _how(run, overlap, flips, largest, largest_of, device, engine)
    with stopped("stopped; nothing was written"), bar("evaluating") as advance:
        result = score_run(run, data, epoch, advance, how, tolerance)
    write_evaluation(run_folder, result)
    print_scores(result, f"{counted(len(result['cases']), 'validation case')}, epoch {result['epoch']}")
    console.print(f"each case and class: {escape(str(run_folder / 'evaluation.csv'))}", highlight=False, soft_wrap=True)


def score(
    predictions: Annotated[
        Path, typer.Argument(help="Folder of label maps, CASE.nii.gz each, from whatever made them.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="The reference: a data set with labels, or a folder of label maps (nnU-Net's labelsTs)."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to make, with a row per case and class; it must not exist.")
    ] = None,
    tolerance: ToleranceOption = 1.0,
) -> None:
    """Score label maps that are there already, from any tool, as `evaluate` does: Dice, HD95 and surface Dice.

    Cases are matched by name; what has no label map or no reference is not scored, and that is said.
    """
    from sauron_train.runlog.files import write_atomically  # noqa: PLC0415
    from sauron_train.runlog.scores import SCORE_COLUMNS, score_rows  # noqa: PLC0415
    from sauron_train.runlog.writer import csv_lines  # noqa: PLC0415
    from sauron_train.score import pairs_of  # noqa: PLC0415
    from sauron_train.score import score as score_files  # noqa: PLC0415

    if out is not None and out.exists():
        raise DataError(f"{out} exists already; choose another --out, scores are never written over")
    found = pairs_of(predictions, data)
    with stopped("stopped; nothing was written"), bar("scoring") as advance:
        result = score_files(found, tolerance, advance, _left_out)
    if out is not None:
        try:
            write_atomically(out, csv_lines(SCORE_COLUMNS, score_rows(result)))
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    print_scores(result, counted(len(result["cases"]), "case"))
    if found.not_predicted:
        some = ", ".join(found.not_predicted[:3]) + (", ..." if len(found.not_predicted) > 3 else "")
        console.print(
            f"not scored: {counted(len(found.not_predicted), 'case')} of {escape(str(data))} without a label map "
            f"({escape(some)})",
            highlight=False,
            soft_wrap=True,
        )
    _refuse_left_out(list(result["left_out"]), len(found.pairs) + len(found.broken))


def _how(
    run: Run, overlap: float, flips: bool, every: bool, named: list[str] | None, device: Device, engine: Engine
) -> Inference:
    from sauron_train.predictor import Inference, chosen_classes, untrained_flips  # noqa: PLC0415

    if flips and (axes := untrained_flips(run.config)):
        which = " and ".join(", ".join(map(str, axes)).rsplit(", ", 1))
        noun = "axis" if len(axes) == 1 else "axes"
        console.print(
            f"this run was not trained on images flipped along {noun} {which}, so --flips can make its results worse",
            highlight=False,
            soft_wrap=True,
        )
    by_itself = device is Device.auto and engine in (Engine.onnx, Engine.openvino)
    where = Device.cpu if by_itself else device  # they run nowhere else
    return Inference(overlap, flips, chosen_classes(run.info.labels, every, named or ()), where.value, engine.value)


class _Remarks:
    """Prints what is to be known about cases; what holds for many is said once, and in the end of how many more."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def __call__(self, case: str, sentence: str) -> None:
        self.told[sentence] += 1
        if self.told[sentence] == 1:
            console.print(f"[bold]{escape(case)}[/]: {escape(sentence)}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Say of how many more cases each sentence holds."""
        for sentence, times in self.told.items():
            if times > 1:
                more = counted(times - 1, "other case")
                console.print(f"{more}, too: {escape(sentence)}", highlight=False, soft_wrap=True)


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)


def _left_out(case: str, sentence: str) -> None:
    Console(stderr=True).print(
        f"[bold red]left out[/] {escape(case)}: {escape(sentence)}", highlight=False, soft_wrap=True
    )


def _refuse_left_out(names: list[str], total: int) -> None:
    if names:
        some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(f"{len(names)} of {total} cases could not be used and were left out: {some}")

"""Many trainings for one question: a study, and the rivals that Sauron is measured against in it."""

from __future__ import annotations

import signal
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sauron_train.commands.options import DataOption, EpochOption, MachineOption, RunArgument
from sauron_train.console import how_to_go_on, print_summary, stopped
from sauron_train.errors import ConfigError


class Method(StrEnum):
    """By what the filters are chosen."""

    fpgm = "fpgm"
    l1 = "l1"


def rival(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    method: Annotated[
        Method,
        typer.Option(
            help="fpgm: filters nearest to the geometric median of their layer go; l1: those of least L1 norm."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to make; it must not exist.")],
    fine_tune: Annotated[int, typer.Option(min=1, metavar="EPOCHS", help="Epochs of training after the cut.")],
    flops: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of the unpruned network's FLOPs that may be left."),
    ] = None,
    match: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Instead: a finished run, whose final FLOPs may be left.")
    ] = None,
    epoch: EpochOption = None,
    data: DataOption = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How it is trained on, e.g. `optimizer.lr=0.001`; repeat."),
    ] = None,
    machine: MachineOption = False,
) -> None:
    """Prune a run's trained network as others do, at once and by its weights alone, and fine-tune it.

    RUN is a run whose network is whole, such as the unpruned baseline. Every layer loses the same share of its filters:
    the smallest share that leaves no more than the FLOPs. Fine-tuning is training by the run's own recipe, from a tenth
    of its learning rate down to 0. For example, against a run of Sauron's on the same data:

    `sauron-train rival runs/baseline --method fpgm --match runs/sauron --fine-tune 50 --out runs/fpgm`
    """
    from sauron_train.events import watched  # noqa: PLC0415

    if (flops is None) == (match is None):
        raise ConfigError("say what may be left: a share of the FLOPs with --flops, or a run that has them with --match")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stopped(partial(how_to_go_on, out)), watched(machine) as observer:
        from sauron_train.rival import RivalQuestion, final_flops, rival_run  # noqa: PLC0415
        from sauron_train.runlog import Run  # noqa: PLC0415

        left = final_flops(Run(match)) if match is not None else flops or 0.0
        question = RivalQuestion(method.value, left, fine_tune, tuple(changes or ()), epoch, data)
        rival_run(Run(run_folder), question, out, observer)
    print_summary(out)

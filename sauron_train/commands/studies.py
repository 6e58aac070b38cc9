"""Many trainings for one question: a study, and the rivals that Sauron is measured against in it."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sauron_train.commands.options import DataOption, EpochOption, MachineOption, RunArgument
from sauron_train.console import how_to_go_on, print_summary, stopped
from sauron_train.errors import ConfigError
from sauron_train.interruption import heed_sigterm


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
    the smallest share that leaves no more than the FLOPs. Fine-tuning is training by the run's own recipe, its
    schedule of the learning rate begun anew. For example, against a run of Sauron's on the same data:

    `sauron-train rival runs/baseline --method fpgm --match runs/sauron --fine-tune 50 --out runs/fpgm`
    """
    from sauron_train.events import watched  # noqa: PLC0415

    if (flops is None) == (match is None):
        raise ConfigError(
            "say what may be left: a share of the FLOPs with --flops, or a run that has them with --match"
        )
    heed_sigterm()
    with stopped(partial(how_to_go_on, out)), watched(machine) as observer:
        from sauron_train.rival import RivalQuestion, final_flops, rival_run  # noqa: PLC0415
        from sauron_train.runlog import Run  # noqa: PLC0415

        left = final_flops(Run(match)) if match is not None else flops or 0.0
        question = RivalQuestion(method.value, left, fine_tune, tuple(changes or ()), epoch, data)
        rival_run(Run(run_folder), question, out, observer)
    print_summary(out)


class Executor(StrEnum):
    """Where the runs of a study are trained."""

    processes = "processes"
    slurm = "slurm"
    local = "local"


def study(  # noqa: PLR0913, PLR0917 - an option each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Study file, such as studies/normalization.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder for its runs and tables; the same one to go on with it.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Folder of the data set; ARM=DATA for one arm, repeat.", show_default=False),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPE", help="Another recipe than the file's; ARM=RECIPE for one arm, repeat."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key in all arms, e.g. `epochs=20`; repeat."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ARM", help="Train this arm, and what a rival needs; repeat.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", metavar="SEED", help="Train only this one of its seeds; repeat.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, which share the cores. Default: 1; of a cluster all.")
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Submit each run as a job to Slurm that asks for this, e.g. `timeout_min=1440`, `gpus_per_node=1`, "
            "`cpus_per_task=8`, `mem_gb=32`, `slurm_partition=gpu`; repeat.",
        ),
    ] = None,
    executor: Annotated[
        Executor | None,
        typer.Option(
            help="Where: processes of this machine; slurm, as --slurm implies; local, to try jobs without a cluster.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[bool, typer.Option("--table", help="Train nothing; make the tables of what is finished.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the runs, how they stand and what is next.")
    ] = False,
) -> None:
    """Train all settings and seeds of a study, and bring them together in one table.

    Each run is a process of its own and a run folder in --out. The same command again goes on with a study that was
    stopped: finished runs are kept, others resumed; arms and seeds may have been added to the file. At the end the
    folder holds results.csv (a row per run), table.csv, .md and .tex (a row per arm), and can be shown as it is by
    `sauron-viz serve` and `report`. For example, a small one on two cores, and one on a cluster:

    `sauron-train study studies/normalization.yaml --recipe phantom2d --data data/phantom --out runs/s1 --jobs 2`

    `sauron-train study studies/benchmark.yaml --data Rats --out runs/b --slurm timeout_min=900 --slurm gpus_per_node=1`
    """
    from sauron_train.study.main import Order, carry_on  # noqa: PLC0415

    order = Order(
        file=file,
        out=out,
        data=tuple(data or ()),
        recipe=tuple(recipe or ()),
        changes=tuple(changes or ()),
        only=tuple(only or ()),
        seeds=tuple(seeds or ()),
        jobs=jobs,
        slurm=tuple(slurm or ()),
        executor=executor.value if executor else "slurm" if slurm else "processes",
        table_only=table,
        dry_run=dry_run,
    )
    heed_sigterm()
    raise typer.Exit(carry_on(order))

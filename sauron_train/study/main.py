"""The command `sauron-train study`, from the file to the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Literal

from rich.markup import escape
from rich.table import Table

from sauron_train.console import console
from sauron_train.errors import ConfigError
from sauron_train.study.cluster import job_parameters
from sauron_train.study.endings import how_to_look, write_tables
from sauron_train.study.file import Study, load
from sauron_train.study.folder import check_folder, keep_copy, working_in
from sauron_train.study.plan import Asked, Planned, by_arm, plan
from sauron_train.study.processes import Processes
from sauron_train.study.progress import Told
from sauron_train.study.schedule import InterruptedStudyError, Runner, carry_out
from sauron_train.study.work import Work, state
from sauron_train.words import counted

STOPPED = 130


@dataclass(frozen=True)
class Order:
    """What the command line asks for; see its options."""

    file: Path
    out: Path
    data: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    jobs: int | None = None
    slurm: tuple[str, ...] = ()
    executor: Literal["processes", "slurm", "local"] = "processes"
    table_only: bool = False
    dry_run: bool = False


def carry_on(order: Order) -> int:
    """Begin a study, go on with it, or only make its tables.

    Returns:
        Exit code: 0 where all is done, 1 where runs are missing, 130 after Ctrl-C.

    Raises:
        SauronError: before anything is trained, with what is wrong.
    """
    study = load(order.file)
    # From any folder the same study, also for jobs that start elsewhere.
    out = order.out.expanduser().absolute()
    asked = Asked(
        out,
        by_arm(order.recipe, study, "--recipe"),
        {arm: str(Path(data).expanduser().absolute()) for arm, data in by_arm(order.data, study, "--data").items()},
        order.changes,
        order.only,
        order.seeds,
        training=not order.table_only,
    )
    planned = plan(study, asked)
    check_folder(out, planned)
    wanted = [run for run in planned if run.wanted]
    works = {run.name: Work.of(run, study.evaluate) for run in wanted}
    console.print(_summary(study, wanted, works), highlight=False, soft_wrap=True)
    if not order.table_only:
        _check_data(wanted, works)
    if order.dry_run:
        job_parameters(order.slurm)
        console.print(_listing(wanted, works))
        commands = [join(["sauron-train", *words]) for run in wanted if (words := works[run.name].next_words())]
        # Not in the table, whose cells wrap: they are there to be copied.
        console.print(*map(escape, commands), sep="\n", highlight=False, soft_wrap=True)
        return 0
    if order.table_only:
        return _end(study, planned, out, {})
    runner = _runner(order, out)
    with working_in(out):
        # Again, because another study may have been begun there since; and no copy of ours for one that is at work.
        check_folder(out, planned)
        keep_copy(out, study, asked)
        problems = _train(wanted, works, runner)
    return STOPPED if problems is None else _end(study, planned, out, problems)


def _check_data(wanted: Sequence[Planned], works: Mapping[str, Work]) -> None:
    """Once for all runs, and before anything is made."""
    for run in wanted:
        if works[run.name].next_words() and not Path(run.data).is_dir():
            raise ConfigError(
                f"there is no folder {run.data}, which arm {run.arm} is to be trained on; name the data set's with "
                "--data"
            )


def _train(wanted: Sequence[Planned], works: Mapping[str, Work], runner: Runner) -> dict[str, str] | None:
    done = sum(work.next_words() is None for work in works.values())
    try:
        with Told(console, len(wanted), done, runner.jobs or len(wanted)) as told:
            return carry_out(wanted, works, runner, told)
    except InterruptedStudyError as sentence:
        console.print(f"{escape(str(sentence))}\nGo on with the same command.", highlight=False, soft_wrap=True)
        return None


def _runner(order: Order, out: Path) -> Runner:
    if order.executor == "processes":
        if order.slurm:
            raise ConfigError("--slurm says what jobs ask for, but --executor processes submits none; leave one out")
        return Processes(order.jobs or 1)
    from sauron_train.study.cluster import Cluster  # noqa: PLC0415

    # Jobs of this machine share it; those of a cluster wait in its queue.
    at_once = order.jobs or (1 if order.executor == "local" else None)
    return Cluster(out, order.executor, job_parameters(order.slurm), at_once)


def _end(study: Study, planned: Sequence[Planned], out: Path, problems: Mapping[str, str]) -> int:
    if problems:
        console.print(f"\n[bold red]{len(problems)} of the runs are not finished:[/]", highlight=False)
        for name, problem in problems.items():
            console.print(f"  {escape(name)}: {escape(problem)}", highlight=False, soft_wrap=True)
        console.print("Their logs are in " + escape(str(out / "logs")), highlight=False, soft_wrap=True)
        if not any(state(run.folder) == "finished" for run in planned):
            return 1
    headings, rows = write_tables(study, planned, out)
    title = f"{escape(study.name)}, mean ± standard deviation over runs"
    shown = Table(box=None, header_style="bold", title=title, title_justify="left")
    for place, heading in enumerate(headings):
        shown.add_column(escape(heading), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    console.print("", shown)
    for what, command in (("Tables", str(out)), *how_to_look(study, planned, out)):
        console.print(f"{escape(what)}: [bold]{escape(command)}[/]", highlight=False, soft_wrap=True)
    return 1 if problems else 0


def _summary(study: Study, wanted: Sequence[Planned], works: Mapping[str, Work]) -> str:
    counts = Counter(_standing(works[run.name]) for run in wanted)
    arms, seeds = len({run.arm for run in wanted}), len({run.seed for run in wanted})
    folds = f" x {study.folds} folds" if study.folds else ""
    standing = ", ".join(f"{count} {what}" for what, count in counts.items())
    text = f"[bold]{escape(study.name)}[/]: {escape(study.description)}\n" if study.description else ""
    name = "" if study.description else f"[bold]{escape(study.name)}[/]: "
    grid = f"{counted(arms, 'arm')} x {counted(seeds, 'seed')}{folds}"
    return f"{text}{name}{grid} = {counted(len(wanted), 'run')}: {standing}"


def _standing(work: Work) -> str:
    found = state(work.folder)
    if found == "finished":
        return "finished" if work.next_words() is None else "to be scored"
    return {
        "absent": "to begin",
        "broken off": "to go on with",
        "running": "running",
        "elsewhere": "running elsewhere",
        "damaged": "damaged",
    }[found]


def _listing(wanted: Sequence[Planned], works: Mapping[str, Work]) -> Table:
    table = Table("run", "stands", box=None, header_style="bold")
    for run in wanted:
        table.add_row(escape(run.name), _standing(works[run.name]))
    return table

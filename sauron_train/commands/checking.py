"""Check: whether run folders are whole, and mending them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from sauron_train.console import bar, console
from sauron_train.errors import RunError
from sauron_train.words import counted

if TYPE_CHECKING:
    from sauron_train.runlog import Run
    from sauron_train.runlog.check import Checked

_SHOWN = 20
_PLAIN: Mapping[str, Any] = {"highlight": False, "soft_wrap": True}


def check(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders that hold runs.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Mend what can be mended: take away what cut-off writes left, drop a torn last epoch, move damaged "
            "arrays to the folder damaged of the run, and list checksums that are missing.",
        ),
    ] = False,
) -> None:
    """Verify run folders: checksums, tables row by row, shapes and order; say what is damaged and what can be mended.

    Everything is read once. Exit code 1 if something is lost, or was before it was mended.
    """
    from sauron_train.runlog.check import check as look  # noqa: PLC0415
    from sauron_train.runlog.reader import find_runs  # noqa: PLC0415
    from sauron_train.runlog.repair import repair as mend  # noqa: PLC0415

    runs = [run for folder in folders for run in find_runs(folder)]
    if not runs:
        raise RunError(f"no run lies in {' or '.join(map(str, folders))}")
    lost = False
    for run in runs:
        try:
            with bar("reading", in_bytes=True) as on_progress:
                found = mend(run, on_progress) if repair else look(run, on_progress)
        except RunError as error:
            console.print(f"[bold]{escape(run.name)}[/]: [bold red]{escape(str(error))}[/]", **_PLAIN)
            lost = True
            continue
        _tell(run, found, repair)
        lost |= bool(found.lost)
    raise typer.Exit(1 if lost else 0)


def _tell(run: Run, found: Checked, mended: bool) -> None:
    read = f"{counted(found.files, 'file')}, {found.bytes / 1e6:.0f} MB, {found.listed} of them with a checksum"
    lost = len({finding.file for finding in found.lost})
    verdict = f"[bold red]{lost} {'file is' if lost == 1 else 'files are'} not whole[/]" if lost else "[green]whole[/]"
    console.print(f"[bold]{escape(run.name)}[/]: {verdict}, {_progress(run, found)} ({read})", **_PLAIN)
    if not found.findings:
        return
    if console.is_terminal:
        console.print(_table(found, mended))
    else:
        # Whoever reads this by a program wants each finding in one line.
        for finding in found.findings:
            remedy = f" ({escape(finding.repair)})" if finding.repair else ""
            console.print(f"  {finding.kind}: {escape(finding.file)}: {escape(finding.what)}{remedy}", **_PLAIN)
    if console.is_terminal and len(found.findings) > _SHOWN:
        console.print(f"… and {len(found.findings) - _SHOWN} more", highlight=False)
    from sauron_train.runlog.files import DAMAGED  # noqa: PLC0415

    if mended and (run.path / DAMAGED).is_dir():
        console.print(f"what is damaged lies in {escape(str(run.path / DAMAGED))}", **_PLAIN)


def _progress(run: Run, found: Checked) -> str:
    planned = run.info.epochs_planned
    epochs = f"{found.epochs} of {planned} epochs" if found.epochs != planned else counted(planned, "epoch")
    states = {"running": "training now", "lost": "lost (its process is gone)"}
    return f"{states.get(run.status, run.status)}, {epochs}"


def _table(found: Checked, mended: bool) -> Table:
    table = Table("", box=None, header_style="bold", pad_edge=False)
    table.add_column("file", overflow="fold")  # what is cut off here is what tells files apart
    for heading in ("what", "mended" if mended else "--repair"):
        table.add_column(heading)
    for finding in found.findings[:_SHOWN]:
        colour = "yellow" if finding.harmless else "red"
        what = escape(finding.what)
        table.add_row(f"[{colour}]{finding.kind}[/]", escape(finding.file), what, finding.repair or "–")
    return table

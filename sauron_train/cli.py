"""The command `sauron-train`. torch is imported by the commands that need it, so that --help answers at once."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from sauron_train import __version__, ranks
from sauron_train.commands import checking, data, deployment, inference, redundancy, studies, training
from sauron_train.console import console
from sauron_train.errors import SauronError

# What may come of any write, so it is said here.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)

app = typer.Typer(
    help="Train segmentation U-Nets that lose their redundant filters while they train.",
    epilog="A first run: `sauron-train phantom data/phantom`, then "
    "`sauron-train run --recipe phantom2d --data data/phantom --out runs/first`, then `sauron-viz serve runs`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Entry point: what is the user's to mend is said in one sentence, with exit code 2."""
    console.quiet = not ranks.leads()  # of processes that train together one speaks for all
    try:
        app()
    except SauronError as error:
        _leave(str(error))
    except OSError as error:
        if error.errno not in _DISK:
            raise
        _leave(f"{error.filename or 'a file'} cannot be read or written: {error.strerror}")


def _leave(sentence: str) -> NoReturn:
    Console(stderr=True, quiet=console.quiet).print(
        f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True
    )
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        console.print(f"sauron-unet {__version__}", highlight=False)
        raise typer.Exit


# In the order in which one needs them.
COMMANDS: dict[str, Callable[..., None]] = {
    "run": training.run,
    "resume": training.resume,
    "recipes": training.list_recipes,
    "describe": training.describe,
    "predict": inference.predict,
    "evaluate": inference.evaluate,
    "score": inference.score,
    "export": deployment.export,
    "benchmark": deployment.benchmark,
    "analyze": redundancy.analyze,
    "cut": redundancy.cut,
    "maps": redundancy.maps,
    "compare": training.compare,
    "check": checking.check,
    "rival": studies.rival,
    "study": studies.study,
    "init": data.init,
    "preprocess": data.preprocess,
    "preview": data.preview,
    "phantom": data.phantom,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)

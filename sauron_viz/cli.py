"""The command `sauron-viz`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_atomically
from sauron_viz.access import HOST, SHORTEST_TOKEN, TOKEN, access
from sauron_viz.limits import default_gb, default_pages, step_back
from sauron_viz.runs import default_root
from sauron_viz.serve import PORT, check, serve, views
from sauron_viz.tables import FORMATS, TableError, changes_table, print_table
from sauron_viz.training.allowed import permit

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback would show the token.
    pretty_exceptions_show_locals=False,
)


@app.callback()
def _sauron_viz() -> None:
    """Look at Sauron's runs in the browser: feature maps, trends of every layer, what was cut and what it cost.

    Start with **sauron-viz serve RUNS**, where RUNS is the folder that `sauron-train run --out` wrote into. A run
    that is still training is followed live.
    """


@app.command("serve")
def serve_command(  # noqa: PLR0913, PLR0917 - an option each
    runs: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that holds runs, or one run. Default: $SAURON_RUNS, else runs or demo/runs, here or one up.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Name or address to listen on; 0.0.0.0 for all that this machine has. Needs a token.")
    ] = HOST,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=TOKEN,
            help=f"Asked of every visitor, {SHORTEST_TOKEN} characters or more. Set the variable rather than the "
            "option, which everybody on this machine can read.",
            show_default=False,
        ),
    ] = None,
    base_url: Annotated[
        str, typer.Option(metavar="PATH", help="Path below which a reverse proxy shows the page, such as /sauron/.")
    ] = "/",
    view: Annotated[
        str, typer.Option(help="What to show: dashboard, feature_maps, layer_trends, pruning, compare or quickstart.")
    ] = "dashboard",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser, where nobody else can.")] = True,
    preload: Annotated[
        bool, typer.Option(help="Keep a page ready for the next visitor: it opens sooner, for 100 MB of memory.")
    ] = True,
    page_memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0,
            help="Memory that one open page may take; what needs more is refused there in a sentence. 0 = no limit. "
            "Default: half of this machine's. Linux only.",
            show_default=False,
        ),
    ] = None,
    most_pages: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=0,
            help="Pages that may be open at a time; who comes then is told to come later. 0 = no limit. "
            "Default: one for each 150 MB of this machine's memory.",
            show_default=False,
        ),
    ] = None,
    allow_training: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="Show a tab that trains on data sets in this folder, by Sauron's recipes or YAML files in it; repeat.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the dashboard of a folder of runs until Ctrl+C: to this machine, or to everybody who has a token.

    For example:

    * sauron-viz serve runs

    * sauron-viz serve runs/rats --view pruning --port 9000 --no-browser

    * SAURON_TOKEN=... sauron-viz serve runs --host 0.0.0.0

    * SAURON_TOKEN=... sauron-viz serve runs --base-url /sauron/

    Runs on another machine: forward the port with *ssh -L 8866:localhost:8866 HOST*, then open the address here.
    Without a token nobody but users of the serving machine can reach the page. The last example is for a department's
    server, behind nginx and https: docs/serving.md has the recipe, also for systemd and containers, and says what a
    visitor can see and do. Nothing but the page is served: no files of the runs, no code.
    """
    folder = runs or default_root()
    permit(allow_training or [], folder)
    pages = default_pages() if most_pages is None else most_pages
    door = replace(access(host, base_url, _given_token(token)), most_pages=pages)
    check(folder, view, port, door.host)
    typer.echo(f"Runs in {folder.resolve()}")
    typer.echo(f"Open    {door.shown(port)}")
    if door.token:
        typer.echo("It asks for the token. Without https, anybody on the way can read it: see docs/serving.md.")
    typer.echo("Stop with Ctrl+C.")
    gigabytes = default_gb() if page_memory is None else page_memory
    if not allow_training:
        step_back()
    serve(folder, view, port, browser and not door.token, preload, door, int(gigabytes * 1e9))


def _given_token(token: str | None) -> str | None:
    """The token of the option or the variable; typer takes a variable that is set but empty for none."""
    return os.environ.get(TOKEN) if token is None else token


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    csv = "csv"
    latex = "latex"
    html = "html"


class Sample(StrEnum):
    """Of which values the dip is taken."""

    pairs = "pairs"
    reference = "reference"
    pca = "pca"


_SUFFIXES = {".csv": "csv", ".tex": "latex", ".html": "html", ".htm": "html"}


@app.command("table4")
def table4_command(
    run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    layout: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How it is written. Default: as the name of --out says, else text.", show_default=False
        ),
    ] = None,
    dip: Annotated[
        Sample | None,
        typer.Option(
            help="Of which values the dip is taken: all pairs of maps, distances to channel 0, or scores on the first "
            "principal component. Default: as the run logged it.",
            show_default=False,
        ),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Maps no farther apart than this, in units of their range, are neighbours; known to 0.005. Default: "
            "as the run logged it.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Neighbours as a share of the layer's other maps, for runs with cuts.")
    ] = False,
    paper: Annotated[
        bool, typer.Option(help="Show the paper's own values beside it (layers of the same name).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.", show_default=False)] = None,
) -> None:
    """Whether the maps of each layer became more clusterable: the paper's Table 4, of a run of yours.

    Changes of the mean between the first and the last third of the epochs. More clusterable is a higher dip, a lower
    δ_opt, more neighbours. Layers with 256 filters or more are shaded: in the paper it is those that cluster.

    For example:

    * sauron-viz table4 runs/rats --paper

    * sauron-viz table4 runs/rats --dip reference --radius 0.2 --format latex --out table4.tex

    A dip of other values than the logged ones needs all distances, which are stored at some epochs only.
    """
    form = layout.value if layout else _SUFFIXES.get(out.suffix.lower(), "text") if out else "text"
    if out is not None:
        _check_target(out)
    shown = changes_table(Run(run), dip.value if dip else None, radius, paper, share)
    if out is not None:
        _write(out, FORMATS[form](shown))
        typer.echo(f"wrote {out}")
    elif form == "text":
        print_table(shown)
    else:
        typer.echo(FORMATS[form](shown), nl=False)


def _check_target(out: Path) -> None:
    if out.exists():
        raise TableError(f"{out} exists already; choose another --out, a file is never written over")
    if not out.absolute().parent.is_dir():
        raise TableError(f"{out.absolute().parent} is not a folder; make it first, or choose another --out")


def _write(out: Path, content: str) -> None:
    try:
        write_atomically(out, content)
    except OSError as error:
        raise TableError(f"{out} cannot be written: {error.strerror}; choose another --out") from None


class Picture(StrEnum):
    """What a figure is written as."""

    svg = "svg"
    html = "html"


@app.command("figures")
def figures_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, to stand side by side.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; it must not exist. Default: RUN-LAYER.svg here.", show_default=False),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Default: the second-to-last convolution, as in the paper.", show_default=False)
    ] = None,
    epoch: Annotated[int | None, typer.Option(help="Default: the last with maps.", show_default=False)] = None,
    image: Annotated[int, typer.Option(min=0, help="Which probe image, from 0.")] = 0,
    picture: Annotated[
        Picture | None,
        typer.Option("--format", help="Default: as the name of --out says, else svg.", show_default=False),
    ] = None,
) -> None:
    """All maps of a layer as a figure for an article, unpruned beside pruned: the paper's Figs. S3 to S5, of your runs.

    For example:

    * sauron-viz figures runs/baseline runs/hippo --out maps.svg
    """
    from sauron_viz.figures.gallery import as_figure, as_svg, gallery  # noqa: PLC0415

    galleries = [gallery(run, layer, epoch, image) for run in runs]
    name = galleries[0].title.split(",")[0].replace(": ", "-")
    if out is not None and picture is None and out.suffix.lower() not in ("", ".svg", ".html", ".htm"):
        raise SauronError(f"{out.name} is neither .svg nor .html; name it so, or say which with --format")
    page = out is not None and _SUFFIXES.get(out.suffix.lower()) == "html"
    form = picture.value if picture else "html" if page else "svg"
    target = out or Path(f"{name}.{form}")
    _check_target(target)
    content = as_svg(galleries) if form == "svg" else as_figure(galleries).to_html(include_plotlyjs=True)
    _write(target, content)
    typer.echo(f"wrote {target}")


class Page(StrEnum):
    """What a report is written as."""

    html = "html"
    pdf = "pdf"


@app.command("report")
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders that hold runs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist.", show_default=False)],
    form: Annotated[
        Page | None, typer.Option("--format", help="Default: as the name of --out says, else html.", show_default=False)
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer whose maps are shown; repeat. Default: the second-to-last convolution, as in the paper, and "
            "the layer whose maps are most alike.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[int, typer.Option(min=0, help="Which probe image they are of, from 0.")] = 0,
) -> None:
    """Write all there is to see of some runs into one file, which opens from disk and loads nothing.

    The network before and after, epoch by epoch; cost and quality; trends and the paper's Table 4; maps; every cut. Of
    several runs also their comparison. A PDF is printed by Chromium or Chrome, where there is one.

    For example:

    * sauron-viz report runs/rats --out rats.html

    * sauron-viz report runs/baseline-* runs/sauron-* --out study.pdf
    """
    from sauron_viz.report import build_report, print_pdf  # noqa: PLC0415
    from sauron_viz.report.pdf import find_chromium  # noqa: PLC0415

    suffix = out.suffix.lower()
    if form is None and suffix not in ("", ".html", ".htm", ".pdf"):
        raise SauronError(f"{out.name} is neither .html nor .pdf; name it so, or say which with --format")
    printed = form is Page.pdf or (form is None and suffix == ".pdf")
    _check_target(out)
    if printed:
        find_chromium()
    page = build_report(runs, layer or (), image)
    if printed:
        print_pdf(page, out)
    else:
        _write(out, page)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


@app.command("views")
def views_command() -> None:
    """List the notebooks that come with Sauron; copy one to make a view of your own."""
    for name, path in views().items():
        typer.echo(f"{name:14} {path.resolve()}")


def main() -> None:
    """Run the command; a mistake of the user's becomes one sentence and exit code 2."""
    try:
        app()
    except SauronError as error:
        typer.echo(f"sauron-viz: {error}", err=True)
        sys.exit(2)

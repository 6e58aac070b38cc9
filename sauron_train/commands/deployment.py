"""Take a network that was trained elsewhere: write it as a file for other programs, and time it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sauron_train.commands.options import DataOption, Device, DeviceOption, EpochOption, RunArgument
from sauron_train.console import bar, console, stopped
from sauron_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sauron_train.deploy.benchmark import Benchmark
    from sauron_train.deploy.engines import EngineName


class Form(StrEnum):
    """Kinds of files."""

    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"
    torch = "torch"


class Engine(StrEnum):
    """What computes a network."""

    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


def export(
    run_folder: RunArgument,
    out: Annotated[
        Path,
        typer.Option(help="File to make: .onnx, .xml (a .bin goes beside it), .pt or .pt2; it must not exist."),
    ],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="onnx: for ONNX Runtime and most others; openvino: for Intel's OpenVINO; torchscript: for LibTorch "
            "programs; torch: a program of `torch.export`. The first two need `pip install 'sauron-unet[export]'`.",
        ),
    ] = Form.onnx,
    epoch: EpochOption = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Weights and maps in eight bits, for --format openvino: ranges are found on training patches, and the "
            "Dice that it costs is measured on the validation cases. Needs `pip install 'sauron-unet[export,int8]'`.",
        ),
    ] = False,
    data: DataOption = None,
) -> None:
    """Write a run's network as a file that other programs can run without Sauron.

    Input are images of any number and size whose sides are multiples of 2 ** (levels - 1) voxels, output the logits of
    full resolution; heads of deep supervision are left out. How images are to be prepared and what the classes are
    called lies in the file as JSON (docs/export.md has a script that uses it). Before anything is written, the file is
    run on random input of two sizes, and must give what PyTorch gives.
    """
    from sauron_train.deploy.export import export_run  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    if int8:
        _export_int8(run_folder, out, form, epoch, data)
        return
    if data is not None:
        raise ConfigError("--data is only read for --int8; leave it out")
    with stopped("stopped; nothing was written"):
        made = export_run(Run(run_folder), form.value, out, epoch)
    shapes = " and ".join("x".join(map(str, shape)) for shape in made.checked)
    files = " and ".join(escape(str(path)) for path in made.files)
    console.print(
        f"{files}: {made.size / 2**20:.2f} MiB, sides of an image must be multiples of {made.multiple}\n"
        f"largest difference to PyTorch {made.difference:.1e} on random input of {shapes}",
        highlight=False,
        soft_wrap=True,
    )


def _export_int8(run_folder: Path, out: Path, form: Form, epoch: int | None, data: Path | None) -> None:
    from sauron_train.deploy.int8 import export_int8  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    if form is not Form.openvino:
        raise ConfigError("--int8 is for OpenVINO; add --format openvino")
    with stopped("stopped; nothing was written"), bar("quantizing") as on_progress:
        made = export_int8(Run(run_folder), out, data, epoch, on_progress)
    table = Table("class", "Dice, float32", "Dice, int8", "change", box=None, header_style="bold")
    for name, dice in made.dice.items():
        small = made.dice_int8[name]
        table.add_row(escape(name), f"{dice:.3f}", f"{small:.3f}", f"{small - dice:+.3f}")
    files = " and ".join(escape(str(path)) for path in made.files)
    sizes = f"{made.size / 2**20:.2f} MiB (in 32 bits {made.size_float32 / 2**20:.2f})"
    console.print(f"{files}: {sizes}, ranges of {made.patches} training patches", highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"mean Dice of the validation cases {made.cost:+.4f}", highlight=False)
    times = f"{1000 * made.seconds_float32:.1f} ms in 32 bits, {1000 * made.seconds:.1f} ms in 8"
    console.print(f"a patch takes {times} on this machine ({made.seconds / made.seconds_float32:.2f})", highlight=False)


def benchmark(  # noqa: PLR0913, PLR0917 - an option each
    run_folder: RunArgument,
    engines: Annotated[
        list[Engine] | None,
        typer.Option("--engine", help="What computes; repeat. Default: all that are installed.", show_default=False),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option("--threads", min=1, help="Threads of the engine; repeat. Default: as many as torch would take."),
    ] = None,
    device: DeviceOption = Device.auto,
    size: Annotated[
        str | None, typer.Option(metavar="160x160", help="Size of the images. Default: the patch of the recipe.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one forward pass.")] = 1,
    rounds: Annotated[int, typer.Option(min=3, help="How often each network is measured.")] = 15,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure memory, too.")] = True,
    epoch: EpochOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to make, .json or .csv, with all numbers; it must not exist.")
    ] = None,
) -> None:
    """Time a run's network against the one it was before anything was cut, on this machine.

    Both are measured in turn, in PyTorch and in whatever else is installed: ONNX Runtime, OpenVINO. Times are medians,
    with quartiles. The gap is by how much less was won in time than in FLOPs: 1 = as much. Where others use the machine
    at the same time, compare ratios only.
    """
    import torch  # noqa: PLC0415

    from sauron_train.arguments import image_size  # noqa: PLC0415
    from sauron_train.deploy.benchmark import Question, write  # noqa: PLC0415
    from sauron_train.deploy.benchmark import benchmark as measure  # noqa: PLC0415
    from sauron_train.deploy.engines import available  # noqa: PLC0415
    from sauron_train.predictor import chosen_device  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

    if out is not None and out.suffix not in (".json", ".csv"):
        raise ConfigError(f"--out {out} must end in .json or .csv")
    if out is not None and out.exists():
        raise DataError(f"{out} exists already; choose another --out, measurements are never written over")
    run = Run(run_folder)
    where = chosen_device(device.value, run.config.hardware.accelerator)
    chosen: list[EngineName] = [engine.value for engine in engines or ()]
    if not chosen:
        chosen = available() if where.type == "cpu" else ["torch"]
    if where.type == "cuda" and chosen != ["torch"]:
        raise ConfigError("on a GPU only torch is timed; leave --engine out, or choose --device cpu")
    network = run.config.network
    sides = image_size(size, network.dim, 2 ** (network.levels - 1)) if size else ()
    counts = tuple(dict.fromkeys(threads or [torch.get_num_threads()]))
    question = Question(tuple(dict.fromkeys(chosen)), counts, where, sides, batch, rounds, memory, epoch)
    with stopped("stopped; nothing was written"), bar("timing") as advance:
        found = measure(run, question, advance)
    if out is not None:
        write(found, out)
    _print(found)


def _print(found: Benchmark) -> None:
    size = " x ".join(map(str, found.size))
    title = f"{found.run}, epoch {found.epoch}: {found.batch} x {size} on {found.device}, {found.rounds} rounds in turn"
    table = Table(title=escape(title), box=None, title_justify="left", pad_edge=False, header_style="bold")
    headings = ("engine", "threads", "unpruned (ms)", "cut (ms)", "time", "FLOPs", "gap", "peak memory (MiB)")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for row in found.rows:
        whole = _milliseconds(row.seconds_unpruned, row.seconds_unpruned_q25, row.seconds_unpruned_q75)
        left = _milliseconds(row.seconds_cut, row.seconds_cut_q25, row.seconds_cut_q75)
        memory = (row.memory_mb_unpruned, row.memory_mb_cut)
        peaks = " → ".join("-" if value is None else f"{value:.0f}" for value in memory)
        ratios = f"{row.time_ratio:.3f}", f"{row.flops_ratio:.3f}", f"{row.gap:.2f}"
        table.add_row(row.engine, str(row.threads), whole, left, *ratios, peaks)
    console.print(table)
    first = found.rows[0]
    console.print(
        f"parameters {first.parameters_unpruned:,} → {first.parameters_cut:,}; FLOPs of an image "
        f"{found.flops_unpruned / 1e9:.3g} → {found.flops_cut / 1e9:.3g} G; time and FLOPs are cut / unpruned, gap is "
        "time / FLOPs, times are medians (quartiles)",
        highlight=False,
    )


def _milliseconds(median: float, q25: float, q75: float) -> str:
    return f"{1e3 * median:.3g} ({1e3 * q25:.3g}-{1e3 * q75:.3g})"

"""Take a network that was trained elsewhere: write it as a file for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sauron_train.commands.options import EpochOption, RunArgument
from sauron_train.console import console, stopped


class Form(StrEnum):
    """Kinds of files."""

    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"
    torch = "torch"


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
) -> None:
    """Write a run's network as a file that other programs can run without Sauron.

    Input are images of any number and size whose sides are multiples of 2 ** (levels - 1) voxels, output the logits of
    full resolution; heads of deep supervision are left out. How images are to be prepared and what the classes are
    called lies in the file as JSON (docs/export.md has a script that uses it). Before anything is written, the file is
    run on random input of two sizes, and must give what PyTorch gives.
    """
    from sauron_train.deploy.export import export_run  # noqa: PLC0415
    from sauron_train.runlog import Run  # noqa: PLC0415

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

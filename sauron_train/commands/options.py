"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.keys import with_overrides


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(StrEnum):
    """What computes a network; auto = the fastest at hand where that pays."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. `prune.enabled=false`; repeat."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data set, if it is no longer where the run was trained.")
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="Name of a recipe, or path of a YAML file. `recipes` lists them.")
]
DataSetOption = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Folder of the data set: nnU-Net raw layout (dataset.json), or ACDC, KiTS19, Rats as handed out.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="SAURON_CACHE",
        help="Folder of preprocessed cases: what is there is not read and resampled again, what is not is put there.",
    ),
]
EpochOption = Annotated[int | None, typer.Option(help="Epoch of the checkpoint; the last one if not given.")]
DeviceOption = Annotated[
    Device, typer.Option(help="Where the network runs; auto = on a GPU if there is one and the run allows it.")
]
MachineOption = Annotated[bool, typer.Option("--json", help="Progress as lines of JSON, for programs.", hidden=True)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def config_of(recipe: str, changes: list[str] | None) -> Config:
    """A recipe with the changes of `--set`.

    Raises:
        ConfigError: no such recipe, or a key or value that is not known.
    """
    return parse(with_overrides(recipes.load(recipe), changes or []))

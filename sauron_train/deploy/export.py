"""Writes the network of a run as a file for other programs, after it has shown that it computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sauron_train.checkpoint import load_model
from sauron_train.deploy.description import Described
from sauron_train.deploy.engines import Network
from sauron_train.deploy.formats import FORMATS, FormatName
from sauron_train.deploy.libraries import library
from sauron_train.deploy.portable import Portable, portable
from sauron_train.errors import ConfigError, DataError, RunError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_atomically

TOLERANCE = 1e-4
"""By how much a logit may differ from PyTorch's; where some exceed 2, 5e-5 of the largest (design choice).

Programs that add in another order differ by a few 1e-5 of the largest; weights in half precision by far more.
"""
_CHECKED = ((1, (2, 3, 4)), (3, (3, 2, 2)))


@dataclass(frozen=True)
class Exported:
    """What was written: `files`, in bytes `size`, for input of any size that is a `multiple` on every side.

    `difference` is the largest one to what PyTorch computes, on random input of the shapes in `checked`.
    """

    files: tuple[Path, ...]
    size: int
    difference: float
    checked: tuple[tuple[int, ...], ...]
    multiple: int


def export_run(run: Run, form: FormatName, out: Path, epoch: int | None = None) -> Exported:
    """Write the network of a run as a file.

    Args:
        run: where the network comes from.
        form: kind of file.
        out: the file; it must not exist.
        epoch: which checkpoint; None = the last.

    Raises:
        ConfigError, DataError: a library is missing, or `out` cannot be written, is there already or ends otherwise.
        RunError: no checkpoint, or the file computes something else than the network; nothing is written then.
    """
    paths = free_paths(form, out)
    for name in FORMATS[form].needs:
        library(name)
    model, checkpoint = load_model(run.checkpoint(epoch)[1])
    network = portable(model, Described(run, model, checkpoint).to_json())
    content = FORMATS[form].write(network)
    difference, shapes = _check(network, FORMATS[form].read(content))
    write_all({paths[ending]: data for ending, data in content.items()})
    size = sum(map(len, content.values()))
    return Exported(tuple(reversed([paths[e] for e in content])), size, difference, shapes, network.multiple)


def free_paths(form: FormatName, out: Path) -> dict[str, Path]:
    """The files that will be written, by their endings.

    Raises:
        ConfigError, DataError: `out` ends otherwise, or a file is there already.
    """
    wanted, *others = FORMATS[form].endings
    if out.suffix != wanted:
        raise ConfigError(f"a file of format {form} must end in {wanted}, but --out is {out}")
    paths = {ending: out.with_suffix(ending) for ending in (wanted, *others)}
    for path in paths.values():
        if path.exists():
            raise DataError(f"{path} exists already; choose another --out, networks are never written over")
    return paths


@torch.no_grad()
def _check(network: Portable, read: Network) -> tuple[float, tuple[tuple[int, ...], ...]]:
    """Compare what was written with the network itself, in PyTorch, on random input of two sizes, half of it empty."""
    generator = torch.Generator().manual_seed(0)
    worst, shapes = 0.0, []
    for batch, times in _CHECKED:
        images = network.example(batch, times, generator)
        images[..., images.shape[-1] // 2 :] = 0  # empty as padding is: sums of equal numbers drift most
        expected: Tensor = network.head(images)
        found = read(images)[-1]
        difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
        allowed = TOLERANCE * max(1.0, float(expected.abs().max()) / 2)
        if not difference <= allowed:  # NaN is no match either
            raise RunError(
                f"the file would not compute what the network does: logits differ by {difference:.2g} on random input "
                f"of {' x '.join(map(str, images.shape))}, and {allowed:.2g} is allowed; nothing was written, try "
                "another format"
            )
        worst = max(worst, difference)
        shapes.append(tuple(images.shape))
    return worst, tuple(shapes)


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write all files or none.

    Raises:
        DataError: one cannot be written.
    """
    written: list[Path] = []
    try:
        for path, content in files.items():
            write_atomically(path, content)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}; choose another --out") from None

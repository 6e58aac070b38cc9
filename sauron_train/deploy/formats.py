"""Files of a network for other programs: written into memory, and read back as whoever gets them would read them."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sauron_train.deploy.engines import Network, onnx_network, openvino_network
from sauron_train.deploy.libraries import library
from sauron_train.deploy.portable import KEY, Portable

FormatName = Literal["onnx", "openvino", "torchscript", "torch"]
Files = Mapping[str, bytes]
"""Ending of a file to its content; the file that names the others comes last."""

JSON_FILE = f"{KEY}.json"


@dataclass(frozen=True)
class Format:
    """How files of one kind are written and read; the first of `endings` is the file that is asked for."""

    endings: tuple[str, ...]
    write: Callable[[Portable], Files]
    read: Callable[[Files], Network]
    needs: tuple[str, ...] = ()


def _write_onnx(network: Portable) -> Files:
    return {".onnx": network.onnx()}


def _read_onnx(content: Files) -> Network:
    return onnx_network(content[".onnx"], torch.get_num_threads())


def _write_openvino(network: Portable) -> Files:
    openvino = library("openvino")
    return openvino_files(openvino.Core().read_model(network.onnx()), network.description)


def openvino_files(model: Any, description: str) -> Files:
    """The two files of an `openvino.Model`, with the JSON text that goes with it."""
    openvino = library("openvino")
    model.set_rt_info(description, KEY)
    with tempfile.TemporaryDirectory() as folder:
        # Half precision, the default, would change what comes out.
        openvino.save_model(model, Path(folder) / "network.xml", compress_to_fp16=False)
        return {ending: (Path(folder) / f"network{ending}").read_bytes() for ending in (".bin", ".xml")}


def _read_openvino(content: Files) -> Network:
    openvino = library("openvino")
    with tempfile.TemporaryDirectory() as folder:
        for ending, data in content.items():
            (Path(folder) / f"network{ending}").write_bytes(data)
        model = openvino.Core().read_model(Path(folder) / "network.xml")
        return openvino_network(model, torch.get_num_threads())


def _write_torchscript(network: Portable) -> Files:
    buffer, script = io.BytesIO(), torch.jit
    with torch.no_grad(), _deprecated():
        traced = script.trace(network.head, network.example(1, (2, 2, 2)))  # type: ignore[no-untyped-call]
        script.save(traced, buffer, _extra_files={JSON_FILE: network.description})
    return {".pt": buffer.getvalue()}


def _read_torchscript(content: Files) -> Network:
    with _deprecated():
        loaded = torch.jit.load(io.BytesIO(content[".pt"]))  # type: ignore[no-untyped-call]
    return lambda images: (loaded(images),)


def _write_torch(network: Portable) -> Files:
    from torch.export import Dim, export, save  # noqa: PLC0415 - takes a second, and no other format needs it

    sides = {axis: network.multiple * Dim(name) for axis, name in enumerate("xyz"[: network.dim], start=2)}
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = export(network.head, (network.example(2, (2, 3, 4)),), dynamic_shapes=({0: Dim("batch"), **sides},))
        save(program, buffer, extra_files={JSON_FILE: network.description})
    return {".pt2": buffer.getvalue()}


def _read_torch(content: Files) -> Network:
    from torch.export import load  # noqa: PLC0415

    loaded = load(io.BytesIO(content[".pt2"])).module()
    return lambda images: (loaded(images),)


@contextmanager
def _deprecated() -> Iterator[None]:
    """PyTorch has declared TorchScript old; programs in C++ still read it, so it is written without a word of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # Shapes that norms look at to refuse them; none of them leads to other computations.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        yield


FORMATS: Mapping[FormatName, Format] = {
    "onnx": Format((".onnx",), _write_onnx, _read_onnx, ("onnx", "onnxruntime")),
    "openvino": Format((".xml", ".bin"), _write_openvino, _read_openvino, ("onnx", "openvino")),
    "torchscript": Format((".pt",), _write_torchscript, _read_torchscript),
    "torch": Format((".pt2",), _write_torch, _read_torch),
}

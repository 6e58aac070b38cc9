"""Programs that compute a network: torch itself, ONNX Runtime, OpenVINO. Each is told how many threads it may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sauron_train.deploy.head import main_head
from sauron_train.deploy.libraries import installed, library
from sauron_train.deploy.onnx_graph import INPUT
from sauron_train.deploy.portable import portable
from sauron_train.errors import RunError, SauronError
from sauron_train.models.unet import UNet

EngineName = Literal["torch", "onnx", "openvino"]
Network = Callable[[Tensor], Sequence[Tensor]]
"""Images (B, channels, *spatial) to outputs, of which the last are the logits of full resolution."""

TITLES: dict[EngineName, str] = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
NEEDS: dict[EngineName, tuple[str, ...]] = {
    "openvino": ("onnx", "openvino"),
    "onnx": ("onnx", "onnxruntime"),
    "torch": (),
}
"""Libraries of each."""


def available() -> list[EngineName]:
    """Engines whose libraries are installed, torch last."""
    return [name for name, needs in NEEDS.items() if installed(*needs)]


def onnx_network(content: bytes, threads: int) -> Network:
    """A network in ONNX Runtime on the CPU.

    Args:
        content: of an ONNX file whose input is called `image`.
        threads: how many it computes with; it heeds none of the variables that torch does.

    Raises:
        ConfigError: the library is missing.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: (torch.from_numpy(session.run(None, {INPUT: images.contiguous().numpy()})[0]),)


def openvino_network(model: Any, threads: int) -> Network:
    """A network in OpenVINO on the CPU.

    Args:
        model: an `openvino.Model`, or the content of an ONNX file.
        threads: how many it computes with.

    Raises:
        ConfigError: the library is missing.
    """
    openvino = library("openvino")
    core = openvino.Core()
    read = core.read_model(model) if isinstance(model, bytes) else model
    # Newer processors would compute in bfloat16 otherwise, to two digits.
    how = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    compiled = core.compile_model(read, "CPU", {**how, "INFERENCE_NUM_THREADS": str(threads)})
    request = compiled.create_infer_request()
    # A copy, because the engine writes its next result to the same place.
    return lambda images: (torch.from_numpy(request.infer([images.contiguous().numpy()])[0].copy()),)


def network_on(engine: EngineName, model: UNet, threads: int) -> Network:
    """A network in an engine.

    Args:
        engine: which.
        model: the network, in eval mode; where it lies on a GPU the engine must be torch.
        threads: how many the engine computes with; torch's are those of the process.

    Raises:
        ConfigError: a library is missing.
        RunError: the engine cannot make the network its own.
    """
    if engine == "torch":
        head = main_head(model)
        return lambda images: (head(images),)
    try:
        content = portable(model).onnx()
        return onnx_network(content, threads) if engine == "onnx" else openvino_network(content, threads)
    except SauronError:
        raise
    except Exception as error:  # each engine raises kinds of its own; all mean the same to the user
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(f"{TITLES[engine]} cannot run this network ({first}); choose --engine torch") from None

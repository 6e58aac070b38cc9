"""A network as an ONNX graph, one node for each of its modules.

PyTorch's own way is not used: its exporter of 2025 and later takes a minute and more for the smallest of our networks
once sizes are to stay open (torch 2.13), and the one before it is deprecated. A U-Net needs five operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from sauron_train.deploy.libraries import library
from sauron_train.errors import ConfigError

INPUT, OUTPUT = "image", "logits"
# The oldest that ONNX Runtime 1.12 and OpenVINO 2022 know, too: a file should outlive the programs that read it.
_OPSET, _IR_VERSION = 17, 8

_AXES = ("x", "y", "z")


def onnx_model(model: fx.GraphModule, channels: int, dim: int, multiple: int, metadata: Mapping[str, str]) -> Any:
    """An `onnx.ModelProto` of a traced network, with the sizes of batch and image left open.

    Args:
        model: one input, one output; see `main_head`.
        channels: of the image.
        dim: number of axes of the image.
        multiple: of which its sides must be a multiple; said in the names of the axes.
        metadata: kept under its keys in the file.

    Raises:
        ConfigError: the library is missing, or the network has a part that is not known here.
    """
    onnx = library("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    classes = _Writer(helper)
    result = classes.write(model)
    axes = [f"{multiple}*{axis}" if multiple > 1 else axis for axis in _AXES[:dim]]
    graph = helper.make_graph(
        [*classes.nodes, helper.make_node("Identity", [result], [OUTPUT], name=OUTPUT)],
        "sauron",
        [helper.make_tensor_value_info(INPUT, number, ["batch", channels, *axes])],
        [helper.make_tensor_value_info(OUTPUT, number, ["batch", None, *axes])],
        initializer=classes.weights,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="sauron-unet")
    helper.set_model_props(made, dict(metadata))
    return made


class _Writer:
    """Nodes and weights, in the order in which the network computes."""

    def __init__(self, helper: Any) -> None:
        self.helper = helper
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def write(self, model: fx.GraphModule) -> str:
        """Write all of a network; the name of its output."""
        names: dict[fx.Node, str] = {}
        modules = dict(model.named_modules())
        for node in model.graph.nodes:
            if node.op == "placeholder":
                names[node] = INPUT
            elif node.op == "call_module":
                names[node] = self._module(modules[node.target], str(node.target), names[node.args[0]])
            elif node.op == "call_function" and node.target is torch.cat:
                inputs = [names[part] for part in node.args[0]]
                names[node] = self._add("Concat", node.name, inputs, axis=1)
            elif node.op == "output":
                return names[node.args[0]]
            else:
                raise _unknown(str(node.target))
        raise _unknown("no output")

    def _module(self, module: nn.Module, name: str, source: str) -> str:
        for kinds, write in _KINDS.items():
            if isinstance(module, kinds):
                return write(self, module, name, source)
        raise _unknown(type(module).__name__)

    def _add(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(self.helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def _weight(self, name: str, value: Tensor | None, otherwise: Tensor | None = None) -> list[str]:
        """Keep a tensor, or another in the place of one that a module does without; the name, or nothing."""
        kept = otherwise if value is None else value
        if kept is None:
            return []
        array = np.ascontiguousarray(kept.detach().cpu().numpy())
        self.weights.append(
            self.helper.make_tensor(
                name, self.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.tobytes(), raw=True
            )
        )
        return [name]

    def _convolution(self, module: Any, name: str, source: str) -> str:
        kind = "ConvTranspose" if module.transposed else "Conv"
        inputs = [source, *self._weight(f"{name}.weight", module.weight), *self._weight(f"{name}.bias", module.bias)]
        sizes = {"kernel_shape": module.kernel_size, "strides": module.stride, "dilations": module.dilation}
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise _unknown(f"padding of {name}")
        if module.transposed:
            sizes["output_padding"] = module.output_padding
        return self._add(kind, name, inputs, **sizes, pads=[*module.padding, *module.padding], group=module.groups)

    def _instance_norm(self, module: Any, name: str, source: str) -> str:
        """The norm in single steps: ONNX's own is computed by OpenVINO to three digits where an image is half empty."""
        if module.track_running_stats:
            raise _unknown(f"running statistics of {name}")
        dim = 3 if isinstance(module, nn.InstanceNorm3d) else 2
        centred = self._add("Sub", f"{name}.centred", [source, self._mean(f"{name}.mean", source, dim)])
        squared = self._add("Mul", f"{name}.squared", [centred, centred])
        variance = [self._mean(f"{name}.var", squared, dim), *self._weight(f"{name}.eps", torch.tensor(module.eps))]
        deviation = self._add("Sqrt", f"{name}.std", [self._add("Add", f"{name}.var_eps", variance)])
        if module.weight is None:
            return self._add("Div", name, [centred, deviation])
        shape = (-1, *[1] * dim)
        scaled = self._add("Div", f"{name}.scaled", [centred, deviation])
        weight, bias = (
            self._weight(f"{name}.{key}", getattr(module, key).reshape(shape)) for key in ("weight", "bias")
        )
        return self._add("Add", name, [self._add("Mul", f"{name}.weighted", [scaled, *weight]), *bias])

    def _mean(self, name: str, source: str, dim: int) -> str:
        """Mean over all voxels, axis by axis, because long sums of 32-bit numbers drift.

        Every other axis is dropped: programs join steps that are alike to one long sum.
        """
        for axis in range(dim + 1, 1, -1):
            keep = (dim + 1 - axis) % 2 == 0
            source = self._add("ReduceMean", f"{name}_{_AXES[axis - 2]}", [source], axes=[axis], keepdims=int(keep))
        # In 2D and in 3D one axis was dropped.
        return self._add("Unsqueeze", name, [source, *self._weight(f"{name}_axes", torch.tensor([dim + 1]))])

    def _batch_norm(self, module: Any, name: str, source: str) -> str:
        ones, zeros = torch.ones(module.num_features), torch.zeros(module.num_features)
        inputs = [
            source,
            *self._weight(f"{name}.weight", module.weight, ones),
            *self._weight(f"{name}.bias", module.bias, zeros),
            *self._weight(f"{name}.running_mean", module.running_mean),
            *self._weight(f"{name}.running_var", module.running_var),
        ]
        return self._add("BatchNormalization", name, inputs, epsilon=module.eps)

    def _leaky_relu(self, module: Any, name: str, source: str) -> str:
        return self._add("LeakyRelu", name, [source], alpha=module.negative_slope)


_Write = Callable[[_Writer, nn.Module, str, str], str]
_KINDS: Mapping[tuple[type[nn.Module], ...], _Write] = {
    (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d): _Writer._convolution,
    (nn.InstanceNorm2d, nn.InstanceNorm3d): _Writer._instance_norm,
    (nn.BatchNorm2d, nn.BatchNorm3d): _Writer._batch_norm,
    (nn.LeakyReLU,): _Writer._leaky_relu,
}


def _unknown(what: str) -> ConfigError:
    return ConfigError(f"the network has a part that cannot be written as ONNX yet ({what}); export it as torch")

"""What single operations and torch's own modules do to channels: pass them on, join them, line them up, or mix them.

Everything is about the second axis of a tensor (B, C, *spatial). What is in none of these tables is not understood, and
the channels that reach it are left alone.
"""

from __future__ import annotations

from torch import nn

from sauron_train.pruning.recording import Recording, Step, Value

CONVS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
    nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid,
)  # fmt: skip
SILENT: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Sequential,  # one that holds nothing
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
SPATIAL: tuple[type[nn.Module], ...] = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d,
    nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
)  # fmt: skip

_ACTIVATION_CALLS = frozenset(
    [
        "relu", "leaky_relu", "elu", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus", "hardtanh",
        "hardswish", "hardsigmoid", "celu", "selu", "log_sigmoid_forward", "clamp", "clamp_min", "neg", "abs",
        "exp", "sqrt", "rsqrt", "square", "reciprocal", "pow",
    ]
)  # fmt: skip
_SILENT_CALLS = frozenset(["clone", "alias", "detach", "_to_copy", "native_dropout", "lift_fresh"])
_SPATIAL_CALLS = frozenset(
    [
        "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "adaptive_max_pool2d", "adaptive_max_pool3d", "upsample_nearest1d", "upsample_nearest2d",
        "upsample_nearest3d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d",
        "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "reflection_pad1d",
        "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d",
    ]
)  # fmt: skip
_JOINS = frozenset(["add", "sub", "rsub", "mul", "div", "maximum", "minimum"])
_SUMS = frozenset(["add", "sub"])


def joins(step: Step) -> bool:
    """Whether the operation works channel by channel on several tensors."""
    # A bound or an exponent may be a tensor too: clamp(maps, max=other maps).
    return _bare(step) in _JOINS or (activates(step) and len(step.inputs) > 1)


def sums(step: Step) -> bool:
    """Whether the operation adds tensors, as the end of a residual block does."""
    return _bare(step) in _SUMS


def silent(step: Step) -> bool:
    """Whether the operation changes no number in evaluation."""
    return _bare(step) in _SILENT_CALLS


def activates(step: Step) -> bool:
    """Whether the operation is an activation, or any function of each number alone."""
    return _bare(step) in _ACTIVATION_CALLS


def passes(step: Step, recording: Recording) -> bool:
    """Whether the operation makes channel c of its result from channel c of its first argument alone."""
    return silent(step) or activates(step) or _bare(step) in _SPATIAL_CALLS or _is_spatial(step, recording)


def concatenated(step: Step, recording: Recording) -> tuple[list[int], bool] | None:
    """The values that a concatenation lines up, and whether it does so along the channels."""
    if _bare(step) != "cat":
        return None
    parts = [part.number for part in step.arguments[0] if isinstance(part, Value)]
    rank = len(recording.shapes[step.outputs[0]])
    return parts, (_axis(step, 1, 0) % rank) == 1


def _is_spatial(step: Step, recording: Recording) -> bool:
    """Operations that do so for some arguments only."""
    before, after = (recording.shapes[v] for v in (step.inputs[0], step.outputs[0])) if step.inputs else ((), ())
    rank = len(before)
    if rank < 3 or len(step.inputs) != 1:
        return False
    match _bare(step):
        case "slice":
            return _axis(step, 1, 0) % rank >= 2
        case "expand":
            return len(after) == rank and before[1] == after[1]
        case "mean" | "sum" | "amax" | "amin":
            axes = (step.arguments[1] if len(step.arguments) > 1 else None) or ()
            return len(axes) > 0 and len(after) == rank and all(a % rank >= 2 for a in axes)
        case "constant_pad_nd":
            return len(step.arguments[1]) <= 2 * (rank - 2)
        case _:
            return False


def _bare(step: Step) -> str:
    name = step.name
    return name[:-1] if step.in_place and not name.endswith("__") else name


def _axis(step: Step, position: int, default: int) -> int:
    return int(step.arguments[position] if len(step.arguments) > position else step.keywords.get("dim", default))

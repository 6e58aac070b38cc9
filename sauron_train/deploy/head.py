"""The part of a network that is used once it is trained: from the image to the logits of full resolution."""

from __future__ import annotations

from torch import fx, nn

from sauron_train.models.unet import UNet


def main_head(model: nn.Module) -> fx.GraphModule:
    """The same network with its last output alone, and without the heads of deep supervision that are then idle.

    Args:
        model: a network whose output is a tuple of logits, the last at full resolution. Weights are shared with it.

    Returns:
        A module in eval mode, (B, channels, *spatial) -> (B, classes, *spatial).
    """
    traced = fx.symbolic_trace(model)
    result = next(node for node in traced.graph.nodes if node.op == "output")
    result.args = (result.args[0][-1],)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def multiple_of(model: UNet) -> int:
    """What every side of an image must be a multiple of, in voxels: each level below the first halves it."""
    return int(2 ** (model.spec.levels - 1))

"""The optimizers that a configuration can name."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from sauron_train.config import OptimizerConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimizer that a configuration names; in its fused form, several times faster, where PyTorch has one."""
    parameters = model.parameters()
    decay, momentum = config.weight_decay, config.momentum
    if config.name == "rmsprop":
        return RMSprop(parameters, config.lr, momentum=momentum, weight_decay=decay)
    if config.name == "sgd":
        return SGD(parameters, config.lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay, fused=True)
    kind = Adam if config.name == "adam" else AdamW
    return kind(parameters, config.lr, weight_decay=decay, amsgrad=config.amsgrad, fused=True)

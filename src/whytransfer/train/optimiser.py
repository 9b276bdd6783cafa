"""SGD over a model's trainable parameters, normalisation layers with their own weight decay."""

import torch
from torch import nn

from whytransfer.train.config import Sgd

_NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip


def sgd(model: nn.Module, config: Sgd) -> torch.optim.SGD:
    """Returns the optimiser; a parameter that needs no gradient is left out.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    norm_decay = config.norm_weight_decay
    if norm_decay is None:
        norm_decay = config.weight_decay
    in_norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    others = [parameter for parameter in trainable if id(parameter) not in in_norms]
    norms = [parameter for parameter in trainable if id(parameter) in in_norms]
    groups = [(others, config.weight_decay), (norms, norm_decay)]
    # Fused: every parameter is read once and written once, in one call; a CPU and a GPU both have
    # such a kernel. It needs a gradient to lie in memory as its parameter, which autograd sees to.
    return torch.optim.SGD(
        [{"params": params, "weight_decay": decay} for params, decay in groups if params],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=True,
    )


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr

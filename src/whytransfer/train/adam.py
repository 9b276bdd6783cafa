"""Adam over a model's trainable parameters, in the groups that SGD has them in."""

import torch
from torch import nn

from whytransfer.train.config import Adam, Sgd
from whytransfer.train.optimiser import sgd


def adam(model: nn.Module, config: Adam) -> torch.optim.Adam:
    """Returns the optimiser; a parameter that needs no gradient is left out.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    decay, norm_decay = config.weight_decay, config.norm_weight_decay
    like = sgd(model, Sgd(lr=config.lr, weight_decay=decay, norm_weight_decay=norm_decay))
    # Which parameters belong together, and what sets a group apart, is said once, there.
    kept = {"params", "weight_decay"}
    groups = [
        {key: value for key, value in group.items() if key in kept or key not in like.defaults}
        for group in like.param_groups
    ]
    return torch.optim.Adam(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        amsgrad=config.amsgrad,
        fused=True,  # as there
    )

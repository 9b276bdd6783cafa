"""Finer maps from the same weights: the last stages step by one pixel and reach as far as before.

A stage that halved the map no longer does; its 3×3 kernels, and those of every stage behind it, are
spread by the factor that the map was spared. No weight changes, so any backbone can be dilated, and
what was trained so is saved under the same names and shapes.
"""

from dataclasses import replace

from torch import nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.errors import InputError
from whytransfer.transfer.parts.stages import DILATED, require_levels

_STEM = (7, 7)


def require_stages(backbone: Backbone, output_stride: int) -> None:
    """Checks that a backbone is a ResNet with a plain stem that can be dilated to a stride.

    Raises:
        InputError: It has no stages, a stem other than one 7×7 convolution, or no such stride.
    """
    require_levels(backbone, DILATED, "a segmenter")
    stem = getattr(backbone.net, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size != _STEM:
        kernel = "×".join(map(str, getattr(stem, "kernel_size", ()))) or "several convolutions"
        raise InputError(
            "backbone", f"has a stem of {kernel}, as ResNets for small images or deep stems have",
            "one 7×7 convolution of stride 2", "give another backbone",
        )  # fmt: skip
    strides = [level.stride for level in backbone.levels if level.name != "stem"]
    if output_stride not in strides:
        raise InputError(
            "segmenter.output_stride", f"is {output_stride}; the backbone's stages have {strides}",
            "the stride of one of its stages", "set it to one of them",
        )  # fmt: skip


def dilate(backbone: Backbone, output_stride: int) -> None:
    """Makes the last level's stride ``output_stride``, in place.

    The first 3×3 kernel of a stage that would have halved the map still has the spread of the
    stage before it.

    Raises:
        ValueError: No stage ends at that stride.

    Source: Chen et al. 2017, section 3.1; torchvision models/resnet.py
        (``replace_stride_with_dilation``), which is also mmsegmentation's ``contract_dilation``.
    """
    strides = [level.stride for level in backbone.levels if level.name != "stem"]
    if output_stride not in strides:
        raise ValueError(f"no level has stride {output_stride}: there are {strides}")
    levels, before = [], 1
    for level in backbone.levels:
        spread = max(1, level.stride // output_stride)
        if spread > 1 and level.name in DILATED:
            _spread(backbone.net.get_submodule(level.name), before, spread)
            before = spread
        levels.append(replace(level, stride=min(level.stride, output_stride)))
    backbone.levels = tuple(levels)


def _spread(stage: nn.Module, first: int, rest: int) -> None:
    """Takes the stride out of a stage and spreads its kernels, the very first one less."""
    spread = first
    for block in stage.children():
        for conv in (module for module in block.modules() if isinstance(module, nn.Conv2d)):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (spread, spread)
                spread = rest

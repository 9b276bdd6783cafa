"""Builds a backbone from its architecture: timm's ResNet, initialised as torchvision's is."""

from typing import Any, cast

from torch import nn

from whytransfer.backbone.architecture import DEPTHS
from whytransfer.backbone.architecture import Architecture as Architecture
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.streams import Stream, seeded_torch

_TIMM_STEM_WIDTH = 64


def build(
    architecture: Architecture, stream: Stream, preprocessing: Preprocessing | None = None
) -> Backbone:
    """Returns a backbone with random weights that are a function of the stream alone.

    Convolutions are normal with variance 2 / fan-out (He et al. 2015), BatchNorm starts at scale 1
    and shift 0, in the last one of a block too.

    Source: torchvision, models/resnet.py (``ResNet.__init__``, ``zero_init_residual=False``).
    """
    with seeded_torch(stream):
        net = _resnet(architecture)
    return Backbone(net, architecture, preprocessing or Preprocessing())


def _resnet(architecture: Architecture) -> nn.Module:
    # Importing timm takes seconds; a study that only plans should not wait for it. Its annotations
    # name instances where it wants classes, hence the Any.
    from timm.models import resnet

    width = architecture.width
    block: Any = resnet.Bottleneck if architecture.bottleneck else resnet.BasicBlock
    depths = DEPTHS[architecture.name]
    channels = (width, 2 * width, 4 * width, 8 * width)
    net: Any = resnet.ResNet(block, depths, num_classes=0, channels=channels, zero_init_last=False)
    if width != _TIMM_STEM_WIDTH:
        # timm's plain stem is always 64 wide: replace it, and the stage that takes its output.
        stages, _ = resnet.make_blocks(
            (block,) * 4, channels, depths, width, act_layer=nn.ReLU, norm_layer=nn.BatchNorm2d
        )
        net.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        net.bn1 = nn.BatchNorm2d(width)
        net.layer1 = dict(stages)["layer1"]
        net.init_weights(zero_init_last=False)
    if not architecture.stem_pool:
        net.maxpool = nn.Identity()
    return cast(nn.Module, net)

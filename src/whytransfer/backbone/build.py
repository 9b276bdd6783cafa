"""Builds a backbone from its architecture: timm's ResNet or vision transformer."""

from typing import Any, cast

from torch import nn

from whytransfer.backbone.architecture import DEPTHS, PATCH_PX
from whytransfer.backbone.architecture import Architecture as Architecture
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.backbone.transformer import TransformerBackbone
from whytransfer.core.streams import Stream, seeded_torch

GRID = 14
"""Patches on a side of the image that positions are learned for: 224 px."""

_TIMM_STEM_WIDTH = 64


def build(
    architecture: Architecture,
    stream: Stream,
    preprocessing: Preprocessing | None = None,
    grid: int = GRID,
) -> Backbone:
    """Returns a backbone with random weights that are a function of the stream alone.

    A ResNet's convolutions are normal with variance 2 / fan-out (He et al. 2015), BatchNorm starts
    at scale 1 and shift 0, in the last one of a block too. A transformer's linear layers and
    positions are truncated normals of standard deviation 0.02, its biases 0; its patches' layer
    starts as torch has it.

    Args:
        architecture: Which network.
        stream: Of the weights.
        preprocessing: What its input must have gone through; ImageNet's where not given.
        grid: Positions on a side; of a transformer only.

    Source: torchvision, models/resnet.py (``ResNet.__init__``, ``zero_init_residual=False``); timm,
        models/vision_transformer.py (``init_weights_vit_timm``), as DeiT and DINO have it.
    """
    given = preprocessing or Preprocessing()
    with seeded_torch(stream):
        if architecture.transformer:
            return TransformerBackbone(_transformer(architecture, grid), architecture, given)
        return Backbone(_resnet(architecture), architecture, given)


def _transformer(architecture: Architecture, grid: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    size = architecture.transformer
    assert size
    return VisionTransformer(
        img_size=grid * PATCH_PX,
        patch_size=PATCH_PX,
        num_classes=0,
        embed_dim=size.num_heads * architecture.width,
        depth=size.depth,
        num_heads=size.num_heads,
        dynamic_img_size=True,
        dynamic_img_pad=True,
    )


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

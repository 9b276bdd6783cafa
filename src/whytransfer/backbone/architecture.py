"""Which network: its depth and width as a configuration, and the levels that follow from them."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from whytransfer.core.config import Config

Name = Literal[
    "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "vit_tiny_16", "vit_small_16", "vit_base_16", "vit_large_16",
]  # fmt: skip

PATCH_PX = 16
"""Side of a vision transformer's patches, and so the stride of all its levels."""

DEPTHS: dict[Name, tuple[int, int, int, int]] = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks per stage (He et al. 2016, table 1; resnet10 has half of resnet18's)."""


@dataclass(frozen=True)
class Transformer:
    """A vision transformer's size.

    Attributes:
        depth: Blocks.
        num_heads: Of a block's attention; a head has 64 channels in every published one.
    """

    depth: int
    num_heads: int


TRANSFORMERS: dict[Name, Transformer] = {
    "vit_tiny_16": Transformer(12, 3),
    "vit_small_16": Transformer(12, 6),
    "vit_base_16": Transformer(12, 12),
    "vit_large_16": Transformer(24, 16),
}
"""Dosovitskiy et al. 2021, table 1; the two small ones are Touvron et al. 2021's, table 1."""


class Architecture(Config):
    """A ResNet or a plain vision transformer, as torchvision and timm have them, at any width.

    The ResNet has a 7×7 stem of stride 2. The transformer has patches of 16 px, a class token,
    learned positions and LayerNorm before attention and MLP, and nothing else: no registers, no
    distillation token, no scaled layers.

    Attributes:
        name: Depth and kind of block; of a transformer also how many heads.
        width: Channels of a ResNet's stem and of its first stage's 3×3 convolutions; of a
            transformer, those of each head. At 64 keys, shapes and outputs are the published ones;
            narrow ones are for small images and small budgets. At least 8: below, torch 2.15
            corrupts memory in the backward pass on a CPU (strided 1×1 convolutions,
            channels-last).
        stem_pool: Whether a ResNet's stem has its max-pooling. Without it every later level has
            half the stride, which is what images of 64 px need.
    """

    name: Name = "resnet50"
    width: int = Field(default=64, ge=8)
    stem_pool: bool = True

    @model_validator(mode="after")
    def _has_a_stem(self) -> Self:
        if self.transformer and not self.stem_pool:
            raise ValueError(f"stem_pool is a ResNet's, and {self.name} has no stem: leave it away")
        return self

    @property
    def transformer(self) -> Transformer | None:
        """The size of a vision transformer; ``None`` for a ResNet."""
        return TRANSFORMERS.get(self.name)

    @property
    def bottleneck(self) -> bool:
        """Whether a block is 1×1, 3×3, 1×1 with four times the channels, or two 3×3."""
        return self.name in ("resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Level:
    """One of a backbone's outputs.

    Attributes:
        name: Of a ResNet ``stem``, or the stage that ends there: ``layer1`` to ``layer4``. Of a
            transformer ``embed``, or the block that ends there, and last ``class_token``.
        channels: Of its map.
        stride: Pixels of the image between two neighbours of its map.
        whole: Whether its map is one cell that speaks for the whole image.
    """

    name: str
    channels: int
    stride: int
    whole: bool = False


def levels_of(architecture: Architecture) -> tuple[Level, ...]:
    """Lists the levels of an architecture, from the image on.

    A ResNet's stem ends before its max-pooling, which belongs to ``layer1``. A transformer's levels
    are its patches with their positions and what every quarter of the blocks makes of them.

    >>> [f"{level.name} {level.channels} /{level.stride}" for level in levels_of(Architecture())]
    ['stem 64 /2', 'layer1 256 /4', 'layer2 512 /8', 'layer3 1024 /16', 'layer4 2048 /32']
    >>> [level.name for level in levels_of(Architecture(name="vit_base_16"))]
    ['embed', 'block3', 'block6', 'block9', 'block12', 'class_token']
    """
    if transformer := architecture.transformer:
        return _levels_of_a_transformer(transformer, architecture.width)
    expansion = 4 if architecture.bottleneck else 1
    first = 4 if architecture.stem_pool else 2
    stages = (
        Level(f"layer{stage + 1}", architecture.width * expansion << stage, first << stage)
        for stage in range(4)
    )
    return (Level("stem", architecture.width, 2), *stages)


def _levels_of_a_transformer(size: Transformer, width: int) -> tuple[Level, ...]:
    channels = size.num_heads * width
    ends = (size.depth * quarter // 4 for quarter in range(1, 5))
    names = ("embed", *(f"block{end}" for end in ends))
    maps = (Level(name, channels, PATCH_PX) for name in names)
    return (*maps, Level("class_token", channels, PATCH_PX, whole=True))

"""Which ResNet: its depth and width as a configuration, and the levels that follow from them."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from whytransfer.core.config import Config

Name = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

DEPTHS: dict[Name, tuple[int, int, int, int]] = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks per stage (He et al. 2016, table 1; resnet10 has half of resnet18's)."""


class Architecture(Config):
    """A ResNet with a 7×7 stem of stride 2, as torchvision has it, at any width.

    Attributes:
        name: Depth and kind of block.
        width: Channels of the stem and of the first stage's 3×3 convolutions. At 64 keys, shapes
            and outputs are torchvision's; narrow ones are for small images and small budgets. At
            least 8: below, torch 2.15 corrupts memory in the backward pass on a CPU (strided 1×1
            convolutions, channels-last).
        stem_pool: Whether the stem's max-pooling is there. Without it every later level has half
            the stride, which is what images of 64 px need.
    """

    name: Name = "resnet50"
    width: int = Field(default=64, ge=8)
    stem_pool: bool = True

    @property
    def bottleneck(self) -> bool:
        """Whether a block is 1×1, 3×3, 1×1 with four times the channels, or two 3×3."""
        return self.name in ("resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Level:
    """One of a backbone's outputs.

    Attributes:
        name: ``stem``, or the stage that ends there: ``layer1`` to ``layer4``.
        channels: Of its map.
        stride: Pixels of the image between two neighbours of its map.
    """

    name: str
    channels: int
    stride: int


def levels_of(architecture: Architecture) -> tuple[Level, ...]:
    """Lists the levels of an architecture, from the image on.

    The stem ends before its max-pooling, which belongs to ``layer1``.

    >>> [f"{level.name} {level.channels} /{level.stride}" for level in levels_of(Architecture())]
    ['stem 64 /2', 'layer1 256 /4', 'layer2 512 /8', 'layer3 1024 /16', 'layer4 2048 /32']
    """
    expansion = 4 if architecture.bottleneck else 1
    first = 4 if architecture.stem_pool else 2
    stages = (
        Level(f"layer{stage + 1}", architecture.width * expansion << stage, first << stage)
        for stage in range(4)
    )
    return (Level("stem", architecture.width, 2), *stages)

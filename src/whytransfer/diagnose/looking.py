"""How an analysis looks at images through a network: which images, how large, which levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from whytransfer.backbone.features import Centre, features, named_levels
from whytransfer.backbone.features import Config as Features
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError
from whytransfer.data.augmentation import CENTER_SHARE
from whytransfer.data.dataset import Dataset, limited
from whytransfer.data.sample import Source, Split

Floats = NDArray[np.float64]

_LARGEST_RESIZE_PX = 256


class View(BaseConfig):
    """How an image is seen: its short side resized, then the square in its middle.

    Attributes:
        resize_px: Short side; ``None`` takes that of the smallest image, and at most 256.
        crop_px: Side of the square; ``None`` takes what the analysis usually does.
    """

    resize_px: PositiveInt | None = None
    crop_px: PositiveInt | None = None

    def of(self, source: Source, share: float = CENTER_SHARE) -> Centre:
        """Returns the view of these images.

        Args:
            source: At least one image.
            share: Of the short side that the square has where nothing is said, 224/256 usually.
        """
        resize = self.resize_px
        if resize is None:
            resize = min(_LARGEST_RESIZE_PX, *(min(source.size(i)) for i in range(len(source))))
        return Centre(resize_px=resize, crop_px=self.crop_px or max(1, round(resize * share)))


@dataclass(frozen=True)
class Look:
    """What is read of every network.

    Attributes:
        analysis: For messages.
        levels: By name; none means all.
        view: That images are seen in.
        num_values: Numbers per level, about, of a grid; ``None`` averages over the map.
    """

    analysis: str
    levels: tuple[str, ...]
    view: Centre
    num_values: int | None = None

    def levels_of(self, backbone: Backbone) -> tuple[str, ...]:
        """Returns the names of the levels of a network that are looked at.

        Raises:
            InputError: It lacks one, or the view is smaller than the stride of one.
        """
        names = self.levels or tuple(level.name for level in backbone.levels)
        found = named_levels(backbone, names)
        for level in found:
            if level.stride > self.view.crop_px:
                raise InputError(
                    f"{self.analysis}, field view.crop_px",
                    f"a view of {self.view.crop_px} px is smaller than the stride of {level.name},"
                    f" {level.stride} px",
                    f"at least {level.stride} px",
                    "raise view.resize_px and view.crop_px, or leave the level out with levels",
                )
        return tuple(level.name for level in found)

    def read(self, backbone: Backbone, source: Source, split: Split = "test") -> dict[str, Floats]:
        """Returns level → (N, values) of the images of a source."""
        config = Features(
            view=self.view, levels=self.levels_of(backbone), num_values=self.num_values
        )
        found = features(backbone, source, split, config)
        return {name: values.numpy().astype(np.float64) for name, values in found.items()}


def images(
    data: Dataset | None, split: Split, num_images: int, analysis: str, fewest: int = 1
) -> Source:
    """Opens the images that an analysis looks at: of more than so many, a fixed random choice.

    Raises:
        InputError: There are no data, or fewer images than the analysis needs.
    """
    if data is None:
        raise InputError(
            analysis, "no data given", "the images to look at", "name them with --data"
        )
    source = limited(data.open(split), num_images)
    if len(source) < fewest:
        raise InputError(
            analysis, f"the {split} split has {len(source)} images", f"at least {fewest}",
            "add images, or take other data",
        )  # fmt: skip
    return source


def same_levels(found: Sequence[tuple[str, ...]], analysis: str) -> None:
    """Refuses networks of different levels, which could not be compared level by level.

    Raises:
        InputError: They differ.
    """
    for names in found:
        if names != found[0]:
            raise InputError(
                analysis, f"one network has {', '.join(names)}, another {', '.join(found[0])}",
                "levels that all of them have", "name those with levels",
            )  # fmt: skip

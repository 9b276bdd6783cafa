"""What there is to be read out of an image: where its one object stands, how large, how turned.

Of the world's pictures the exact factors are known; of a detection format's, the box. Images with
no object or several are passed over, and so are those whose object's centre lies outside the view.

Letters in shapes: N images, T numbers of one factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.backbone.features import Centre
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset, subset
from whytransfer.data.factors import factors
from whytransfer.data.sample import Source, Split

Floats = NDArray[np.float64]

_WHICH_DATA = (
    "the world's pictures of objects with their factors.jsonl (things, novelties, crowds), or"
    " images with boxes (voc, coco)"
)


@dataclass(frozen=True)
class Contents:
    """Images with one object each, and what is known of it, in pixels of the image.

    Attributes:
        source: The images.
        centre: (N, 2) x and y.
        size: (N, 1) radius of a drawn object, or (N, 2) width and height of a box.
        others: Factors that have nothing to do with the view: (N, T) by name.
        exact: Whether all this was drawn, and not annotated.
    """

    source: Source
    centre: Floats
    size: Floats
    others: dict[str, Floats]
    exact: bool

    def take(self, chosen: NDArray[np.int64]) -> "Contents":
        """Returns some of the images."""
        others = {name: values[chosen] for name, values in self.others.items()}
        source = subset(self.source, chosen)
        return Contents(source, self.centre[chosen], self.size[chosen], others, self.exact)

    def limited(self, num_images: int) -> "Contents":
        """Returns at most so many of the images, in a fixed random choice."""
        count = len(self.source)
        if num_images >= count:
            return self
        return self.take(np.sort(Stream(0, "limit").permutation(count)[:num_images]))

    def seen(self, view: Centre) -> tuple["Contents", dict[str, Floats]]:
        """Returns the images whose object is in the view, and their factors as they are seen.

        Position and size in shares of the view's side; within a pixel of it where the image's sides
        are resized to no whole number of pixels.
        """
        height, width = np.array([self.source.size(i) for i in range(len(self.source))]).T
        ratio = view.resize_px / np.minimum(height, width)
        border = (np.stack([width, height], axis=1) * ratio[:, None] - view.crop_px) / 2
        centre = (self.centre * ratio[:, None] - border) / view.crop_px
        size = self.size * ratio[:, None] / view.crop_px
        inside = np.flatnonzero(((centre >= 0) & (centre <= 1)).all(axis=1))
        kept = self.take(inside)
        return kept, {"position": centre[inside], "size": size[inside], **kept.others}


def contents(data: Dataset, split: Split, analysis: str) -> Contents:
    """Finds the images of a split that show exactly one object, and what is known of it.

    Raises:
        InputError: The images have neither factors nor boxes, or none has a single object.
    """
    source = data.open(split)
    drawn = factors(data, source)
    if drawn is None:
        return _boxed(source, split, analysis)
    single = [index for index, one in enumerate(drawn) if len(one.figures) == 1]
    _require(single, source, split, analysis)
    figures = [drawn[index].figures[0] for index in single]
    turns = np.deg2rad([figure.angle_deg for figure in figures])
    return Contents(
        subset(source, np.array(single)),
        centre=np.array([figure.centre_xy for figure in figures]),
        size=np.array([[figure.radius_px] for figure in figures]),
        others={
            # On the circle: 359 degrees are next to 0.
            "pose": np.stack([np.sin(turns), np.cos(turns)], axis=1),
            "colour": np.array([figure.colour for figure in figures]),
        },
        exact=True,
    )


def _boxed(source: Source, split: Split, analysis: str) -> Contents:
    single, boxes = [], []
    for index in range(len(source)):
        objects = source.objects(index)
        if objects is None:
            raise InputError(
                analysis, "the images have neither the world's factors nor boxes", _WHICH_DATA,
                "name other data with --data",
            )  # fmt: skip
        if len(objects.labels) == 1 and not objects.crowd[0]:
            single.append(index)
            boxes.append(objects.boxes_xyxy[0])
    _require(single, source, split, analysis)
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 2, 2)
    low, high = corners[:, 0], corners[:, 1]
    return Contents(subset(source, np.array(single)), (low + high) / 2, high - low, {}, exact=False)


def _require(single: Sequence[int], source: Source, split: Split, analysis: str) -> None:
    if not single:
        raise InputError(
            analysis, f"none of the {len(source)} {split} images has exactly one object",
            "images of single objects", "take other data",
        )  # fmt: skip

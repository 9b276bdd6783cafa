"""Detections and truth as columns: what every detection score and error analysis reads.

Boxes are ``xyxy`` in absolute pixels, continuous and 0-based: a box that covers the first pixel
alone is (0, 0, 1, 1). Rows of one image need not stand together. Nothing here knows a model.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.masks import Masks


@dataclass(frozen=True)
class Detections:
    """One row per detection.

    Attributes:
        image: (D,) index into ``Truth.images``.
        label: (D,) index into ``Truth.classes``.
        score: (D,) confidence; higher is surer, any finite number.
        boxes_xyxy: (D, 4) absolute pixels.
        masks: (D,) masks in the size of their image; ``None`` where boxes are all that was found.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class Truth:
    """The images, the class list, and one row per annotated object.

    Attributes:
        images: Names, unique, in a stable order.
        sizes: (I, 2) height and width in pixels.
        classes: Class names; ``label`` indexes them.
        image: (G,) index into ``images``.
        label: (G,) index into ``classes``.
        boxes_xyxy: (G, 4) absolute pixels.
        difficult: (G,) VOC's flag: neither a hit nor a miss counts.
        crowd: (G,) COCO's flag: a region that may absorb any number of detections.
        area: (G,) object area in pixels² (COCO's own where given, else the box's).
        masks: (G,) masks in the size of their image; ``None`` where there are none.
    """

    images: tuple[str, ...]
    sizes: NDArray[np.int64]
    classes: tuple[str, ...]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.label)


def same_boxes(first: Truth, second: Truth) -> bool:
    """Says whether two truths are of the same images, classes and objects, masks left out."""
    names = (field.name for field in fields(Truth) if field.name != "masks")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)

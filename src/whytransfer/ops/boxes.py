"""Areas and overlaps of boxes (``xyxy``, absolute pixels), in 64-bit floats.

``pixel`` is the extent that a box has beyond the difference of its corners: 0 for continuous
coordinates, 1 for inclusive ones, where (1, 1, 1, 1) is the first pixel (the VOC devkit).
"""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


def area_xyxy(boxes_xyxy: Boxes, *, pixel: float = 0.0) -> NDArray[np.float64]:
    """Returns the area of each box in pixels², shape (...) of (..., 4); an inverted box has 0.

    >>> area_xyxy(np.array([[0.0, 0.0, 2.0, 3.0]])).tolist()
    [6.0]
    """
    sides = np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2] + pixel, 0.0)
    area: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return area


def intersection_xyxy(
    first_xyxy: Boxes, second_xyxy: Boxes, *, pixel: float = 0.0
) -> NDArray[np.float64]:
    """Returns the area in pixels² that two boxes share, entry by entry with broadcasting."""
    low = np.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = np.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    return area_xyxy(np.concatenate([low, high], axis=-1), pixel=pixel)


def paired_iou_xyxy(
    first_xyxy: Boxes, second_xyxy: Boxes, *, pixel: float = 0.0
) -> NDArray[np.float64]:
    """Returns the intersection over union of two boxes, entry by entry with broadcasting.

    In [0, 1]; two boxes without area overlap by 0.
    """
    shared = intersection_xyxy(first_xyxy, second_xyxy, pixel=pixel)
    union = area_xyxy(first_xyxy, pixel=pixel) + area_xyxy(second_xyxy, pixel=pixel) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=shared > 0)


def iou_xyxy(first_xyxy: Boxes, second_xyxy: Boxes, *, pixel: float = 0.0) -> NDArray[np.float64]:
    """Returns the intersection over union of every box of (N, 4) with every one of (M, 4): (N, M).

    >>> iou_xyxy(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0]])).tolist()
    [[0.3333333333333333]]
    """
    return paired_iou_xyxy(first_xyxy[:, None], second_xyxy[None], pixel=pixel)

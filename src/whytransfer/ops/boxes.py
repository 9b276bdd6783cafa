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
    left, top, right, bottom = np.moveaxis(boxes_xyxy, -1, 0)
    return _area(right - left, bottom - top, pixel)


def intersection_xyxy(
    first_xyxy: Boxes, second_xyxy: Boxes, *, pixel: float = 0.0
) -> NDArray[np.float64]:
    """Returns the area in pixels² that two boxes share, entry by entry with broadcasting."""
    left, top, right, bottom = np.moveaxis(first_xyxy, -1, 0)
    other_left, other_top, other_right, other_bottom = np.moveaxis(second_xyxy, -1, 0)
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    return _area(width, height, pixel)


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


def _area(
    width: NDArray[np.float64], height: NDArray[np.float64], pixel: float
) -> NDArray[np.float64]:
    """The product of sides that are not below 0, a column each: numpy is slow at rows of two."""
    area: NDArray[np.float64] = np.maximum(width + pixel, 0.0) * np.maximum(height + pixel, 0.0)
    return area

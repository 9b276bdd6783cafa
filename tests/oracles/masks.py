"""Mask R-CNN's mask parts, slow and plain: loops over single pixels in 64-bit floats.

What an outline covers is pycocotools' own rule, by pycocotools, one region at a time.
"""

import math

import numpy as np
from pycocotools import mask as coco
from tests.oracles.detector import roi_align


def covered(parts, height, width):
    """The pixels that any outline [x, y, x, y, ...] covers, (H, W)."""
    outlines = [list(map(float, part)) for part in parts]
    if not outlines:
        return np.zeros((height, width), dtype=bool)
    return coco.decode(coco.merge(coco.frPyObjects(outlines, height, width))) > 0


def cropped_polygons(parts, box, side):
    """Outlines moved to the box's corner, scaled to the crop's side, then drawn."""
    x1, y1, x2, y2 = map(float, box)
    moved = []
    for part in parts:
        numbers = []
        for place, value in enumerate(part):
            corner, extent = ((x1, x2 - x1), (y1, y2 - y1))[place % 2]
            numbers.append((value - corner) * side / max(extent, 0.1))
        moved.append(numbers)
    return covered(moved, side, side)


def cropped_pixels(pixels, box, side):
    """The share of the mask in each cell, by half-pixel aligned bilinear points; at least half."""
    share = roi_align(pixels.astype(float), box, side, 1.0)
    return np.array(share).reshape(side, side) >= 0.5


def pasted(square, box, height, width, threshold):
    """The pixels whose centre has at least that bilinear value; beyond the square there is 0."""
    side = len(square)
    x1, y1, x2, y2 = map(float, box)

    def at(row, column):
        inside = 0 <= row < side and 0 <= column < side
        return float(square[row][column]) if inside else 0.0

    result = np.zeros((height, width), dtype=bool)
    margin = np.full((height, width), np.inf)
    for row in range(height):
        for column in range(width):
            u = (column + 0.5 - x1) / (x2 - x1) * side - 0.5
            v = (row + 0.5 - y1) / (y2 - y1) * side - 0.5
            left, top = math.floor(u), math.floor(v)
            value = sum(
                at(top + i, left + j) * abs(1 - i - (v - top)) * abs(1 - j - (u - left))
                for i in (0, 1)
                for j in (0, 1)
            )
            result[row, column] = value >= threshold
            margin[row, column] = abs(value - threshold)
    return result, margin


def mask_loss(logits, labels, targets):
    """The mean over regions and cells of the cross entropy of the labelled class."""
    total, count = 0.0, 0
    for region, label, target in zip(logits, labels, targets, strict=True):
        for logit_row, target_row in zip(region[label], target, strict=True):
            for logit, wanted in zip(logit_row, target_row, strict=True):
                chance = 1 / (1 + math.exp(-float(logit)))
                total -= math.log(chance if wanted else 1 - chance)
                count += 1
    return total / count

"""Writes masks and boxes as COCO 2017 does.

A mask without holes becomes polygons along the edges of its pixels, one per part, which decode to
exactly the same pixels; one with holes, which polygons can't say, becomes run lengths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from whytransfer.data.world._factors import Mask, ObjectFactors

Corner = tuple[int, int]


class Instances:
    """The content of one ``instances_*.json`` in the making."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(classes, start=1)}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self, number: int, file: str, size: tuple[int, ...], objects: Sequence[ObjectFactors]
    ) -> None:
        """Adds a picture; box and area are those of what is to be seen of an object."""
        height, width = size
        image = {"id": number, "file_name": file, "height": height, "width": width}
        self._images.append(image)
        for place, factors in enumerate(objects, start=1):
            rows = np.flatnonzero(factors.visible.any(axis=1)).tolist()
            columns = np.flatnonzero(factors.visible.any(axis=0)).tolist()
            left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            self._annotations.append(
                {
                    "id": 1000 * number + place,
                    "image_id": number,
                    "category_id": self._numbers[factors.category],
                    "segmentation": segmentation(factors.visible),
                    "area": int(np.count_nonzero(factors.visible)),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )

    def content(self) -> dict[str, Any]:
        """Returns the file's content as plain data."""
        return {
            "info": {"description": "whytransfer, the procedural world"},
            "licenses": [],
            "images": self._images,
            "annotations": self._annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": "shape"}
                for name, number in self._numbers.items()
            ],
        }


def segmentation(mask: Mask) -> list[list[int]] | dict[str, Any]:
    """Writes a mask as polygons, or as uncompressed run lengths where it has holes."""
    loops = _outlines(mask)
    if any(_doubled_area(loop) < 0 for loop in loops):
        return run_lengths(mask)
    return [[place for corner in loop for place in corner] for loop in loops]


def run_lengths(mask: Mask) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, the first run is of zeros."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def _outlines(mask: Mask) -> list[list[Corner]]:
    """Follows the edges of the pixels, the inside to the right; parts join by their sides only."""
    following = _edges(mask)
    loops = []
    while following:
        start = corner = next(iter(following))
        before: Corner = (0, 0)
        loop: list[Corner] = []
        while not loop or corner != start:
            step = _taken(following, corner, before)
            if step != before:
                loop.append(corner)
            before = step
            corner = (corner[0] + step[0], corner[1] + step[1])
        loops.append(loop)
    return loops


def _taken(following: dict[Corner, list[Corner]], corner: Corner, before: Corner) -> Corner:
    """Takes the edge that turns most to the right from a corner."""
    ways = following[corner]
    step = min(ways, key=lambda way: _turn(before, way))
    ways.remove(step)
    if not ways:
        del following[corner]
    return step


def _edges(mask: Mask) -> dict[Corner, list[Corner]]:
    """Corner (x, y) → the directions in which edges leave it."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges: dict[Corner, list[Corner]] = {}
    for outside, corner, step in (
        (~padded[:-2, 1:-1], (0, 0), (1, 0)),
        (~padded[1:-1, 2:], (1, 0), (0, 1)),
        (~padded[2:, 1:-1], (1, 1), (-1, 0)),
        (~padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        rows, columns = np.nonzero(inside & outside)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            edges.setdefault((column + corner[0], row + corner[1]), []).append(step)
    return edges


def _turn(before: Corner, after: Corner) -> int:
    """-1 for a turn to the right as seen, 0 straight on, 1 to the left."""
    return -(before[0] * after[1] - before[1] * after[0])


def _doubled_area(loop: Sequence[Corner]) -> int:
    """Twice the area, negative for a loop around a hole."""
    pairs = zip(loop, [*loop[1:], loop[0]], strict=True)
    return sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairs)

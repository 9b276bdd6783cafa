"""The masks of annotated objects: kept as they were annotated, decoded only where one is wanted.

Letters in shapes: N objects of an image, K points of a polygon.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.masks import Masks, areas, decode, encode, of_counts, polygon_counts

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """A mask by the outlines of its parts.

    Attributes:
        parts: Of each the points, (K, 2) as (x, y) in continuous 0-based pixels; at least 3.
    """

    parts: tuple[NDArray[np.float64], ...]

    @property
    def empty(self) -> bool:
        """Whether there is no part."""
        return not self.parts

    def reach(self, size: Size) -> float:
        """Returns by how many pixels the farthest point lies outside an image, 0 if none does."""
        points = np.concatenate([np.zeros((1, 2)), *self.parts])
        return float(np.maximum(-points, points - size[::-1]).max().clip(0))

    def counts(self, size: Size) -> bytes:
        """Returns the run lengths of the pixels that any part covers."""
        return polygon_counts(self.parts, *size)

    def resized(self, old: Size, new: Size) -> "Polygons":
        """Scales the points, as boxes are scaled."""
        scale = np.array([new[1] / old[1], new[0] / old[0]])
        return Polygons(tuple(part * scale for part in self.parts))

    def flipped(self, size: Size) -> "Polygons":
        """Mirrors the points, as boxes are mirrored."""
        mirror, shift = np.array([-1.0, 1.0]), np.array([float(size[1]), 0.0])
        return Polygons(tuple(part * mirror + shift for part in self.parts))


@dataclass(frozen=True)
class RunLengths:
    """A mask by its pixels, as COCO's compressed run lengths.

    Attributes:
        size: Of its image.
        text: The run lengths.
    """

    size: Size
    text: bytes

    @property
    def empty(self) -> bool:
        """Whether no pixel is set."""
        return not areas(of_counts([self.text], [self.size]))[0]

    def pixels(self) -> NDArray[np.bool_]:
        """Decodes it, (H, W)."""
        pixels: NDArray[np.bool_] = decode(of_counts([self.text], [self.size]))[0]
        return pixels

    def counts(self, size: Size) -> bytes:
        """Returns the run lengths themselves; ``size`` is its own."""
        assert size == self.size
        return self.text

    def resized(self, old: Size, new: Size) -> "RunLengths":
        """Takes the nearest pixel, with PIL's rule as in the reference.

        Source: detectron2 transforms/transform.py @02b5c4e, ``ResizeTransform.apply_segmentation``.
        """
        from PIL import Image

        assert old == self.size
        picture = Image.fromarray(self.pixels().astype(np.uint8))
        pixels = np.array(picture.resize((new[1], new[0]), Image.Resampling.NEAREST)) > 0
        return _of_pixels(pixels)

    def flipped(self, size: Size) -> "RunLengths":
        """Mirrors the pixels."""
        assert size == self.size
        return _of_pixels(self.pixels()[:, ::-1])


def _of_pixels(pixels: NDArray[np.bool_]) -> RunLengths:
    height, width = pixels.shape
    return RunLengths((height, width), bytes(encode(pixels[None]).counts[0]))


Shape = Polygons | RunLengths
"""The mask of one object, which moves as its image does."""


class Shapes(Sequence[Shape]):
    """The masks of many objects in a few arrays: cheap to pickle as a whole; slices share them.

    Args:
        shapes: The masks, in order.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        parts = [_parts(shape) for shape in shapes]
        points = [part for shape in parts for part in shape]
        texts = [shape.text if isinstance(shape, RunLengths) else b"" for shape in shapes]
        sizes = [shape.size if isinstance(shape, RunLengths) else (0, 0) for shape in shapes]
        self._points = np.concatenate([np.zeros((0, 2)), *points])
        self._point_starts = _starts([len(part) for part in points])
        self._part_starts = _starts([len(shape) for shape in parts])
        self._texts = np.frombuffer(b"".join(texts), dtype=np.uint8)
        self._text_starts = _starts([len(text) for text in texts])
        self._sizes = np.array(sizes, dtype=np.int32).reshape(-1, 2)
        self._rows = range(len(shapes))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Shape: ...
    @overload
    def __getitem__(self, place: slice) -> "Shapes": ...

    def __getitem__(self, place: int | slice) -> "Shape | Shapes":
        """Returns the mask at a place, or those of a slice."""
        rows = self._rows[place]
        if isinstance(rows, int):
            return self._shape(rows)
        found = Shapes.__new__(Shapes)
        found.__dict__.update(self.__dict__, _rows=rows)
        return found

    def _shape(self, row: int) -> Shape:
        start, end = self._text_starts[row : row + 2].tolist()
        if end > start:
            height, width = self._sizes[row].tolist()
            return RunLengths((height, width), self._texts[start:end].tobytes())
        start, end = self._part_starts[row : row + 2].tolist()
        edges = self._point_starts[start : end + 1].tolist()
        return Polygons(tuple(self._points[a:b] for a, b in pairwise(edges)))


def _parts(shape: Shape) -> tuple[NDArray[np.float64], ...]:
    return shape.parts if isinstance(shape, Polygons) else ()


def _starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def columns(shapes: Iterable[tuple[Shape, Size]]) -> Masks:
    """Returns masks of images of some sizes as run lengths, the form that scores read."""
    rows = [(shape.counts(size), size) for shape, size in shapes]
    return of_counts([counts for counts, _ in rows], [size for _, size in rows])

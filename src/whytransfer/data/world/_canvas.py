"""A canvas for drawn scenes: ellipses, convex polygons and lenses, smoothed over one pixel.

As in ``_scene``, a pixel belongs to a region where its centre lies inside, and only operations
that IEEE 754 rounds correctly reach a pixel. x points right, y down, lengths in pixels; the first
pixel's centre is (0.5, 0.5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream
from whytransfer.data.world._exact import sincos
from whytransfer.data.world._factors import Mask, Rgb
from whytransfer.data.world._scene import develop
from whytransfer.data.world._surfaces import second_colour_share

Tile = NDArray[np.float32]
Point = tuple[float, float]

_ONE = np.float32(1)
_HALF = np.float32(0.5)
_FAR = 1e6
_CENTRES = np.arange(4096, dtype=np.float64) + 0.5


@dataclass(frozen=True)
class Region:
    """Part of a picture: how deep each pixel of a window lies inside an outline.

    Attributes:
        rows: The window's rows in the picture.
        columns: Its columns.
        depth: (h, w) pixels from the outline, positive inside.
    """

    rows: slice
    columns: slice
    depth: Tile

    @property
    def inside(self) -> Mask:
        """(h, w) whether a pixel's centre lies inside."""
        return np.asarray(self.depth > 0)

    @property
    def cover(self) -> Tile:
        """(h, w) how much of each pixel is covered, in [0, 1]."""
        return np.asarray(np.minimum(np.maximum(self.depth + _HALF, np.float32(0)), _ONE))

    def within(self, other: "Region") -> "Region":
        """The part that is inside the other region as well."""
        return self._joined(other.depth, other, -_FAR)

    def without(self, other: "Region") -> "Region":
        """The part that is outside the other region."""
        return self._joined(-other.depth, other, _FAR)

    def eroded(self, by_px: float) -> "Region":
        """The region without a rim of that width; negative grows it, within its window."""
        return Region(self.rows, self.columns, self.depth - np.float32(by_px))

    def _joined(self, depth: Tile, other: "Region", outside: float) -> "Region":
        theirs = np.full(self.depth.shape, outside, dtype=np.float32)
        rows, columns = _shared(self.rows, other.rows), _shared(self.columns, other.columns)
        if rows.stop > rows.start and columns.stop > columns.start:
            theirs[_moved(rows, self.rows), _moved(columns, self.columns)] = depth[
                _moved(rows, other.rows), _moved(columns, other.columns)
            ]
        return Region(self.rows, self.columns, np.minimum(self.depth, theirs))


def _shared(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _moved(part: slice, origin: slice) -> slice:
    return slice(part.start - origin.start, part.stop - origin.start)


class Canvas:
    """A picture in the making, (3, H, W) float32 in [0, 1]; what is painted later is in front."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels = np.zeros((3, height, width), dtype=np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def everywhere(self) -> Region:
        """The whole picture."""
        height, width = self.size
        depth = np.full((height, width), _FAR, dtype=np.float32)
        return Region(slice(0, height), slice(0, width), depth)

    def ellipse(self, centre: Point, radii: Point, turn: float = 0.0) -> Region:
        """An ellipse whose first radius points along the turn, 0 to the right."""
        reach = max(radii) + 1
        window = self._window(centre, (reach, reach))
        if _empty(window):
            return Region(*window, np.zeros(_shape(window), dtype=np.float32))
        if turn == 0:
            across, down = _centres(window[1]) - centre[0], _centres(window[0]) - centre[1]
            x = (across / radii[0]).astype(np.float32)[None, :]
            y = (down / radii[1]).astype(np.float32)[:, None]
        else:
            x, y = self._local(window, centre, turn)
            x, y = x / np.float32(radii[0]), y / np.float32(radii[1])
        depth = (_ONE - np.sqrt(x * x + y * y)) * np.float32(min(radii))
        return Region(*window, np.asarray(depth))

    def polygon(self, corners: Sequence[Point]) -> Region:
        """A convex polygon, its corners clockwise as seen."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        centre = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        reach = ((max(xs) - min(xs)) / 2 + 1, (max(ys) - min(ys)) / 2 + 1)
        window = self._window(centre, reach)
        if _empty(window):
            return Region(*window, np.zeros(_shape(window), dtype=np.float32))
        # Distance from each edge's line: a term of the column plus one of the row.
        start = np.array(corners, dtype=np.float64)
        edge = np.concatenate([start[1:], start[:1]]) - start
        length = np.sqrt(edge[:, 0] * edge[:, 0] + edge[:, 1] * edge[:, 1])
        start, edge, length = start[length > 0], edge[length > 0], length[length > 0]
        nx, ny = (-edge[:, 1] / length)[:, None], (edge[:, 0] / length)[:, None]
        across = ((_centres(window[1]) - start[:, :1]) * nx).astype(np.float32)
        down = ((_centres(window[0]) - start[:, 1:]) * ny).astype(np.float32)
        return Region(*window, (across[:, None, :] + down[:, :, None]).min(axis=0))

    def box(self, left: float, top: float, right: float, bottom: float) -> Region:
        """An upright rectangle."""
        height, width = self.size
        rows = slice(_bounded(top - 1, height), _bounded(bottom + 2, height))
        columns = slice(_bounded(left - 1, width), _bounded(right + 2, width))
        across, down = _centres(columns), _centres(rows)
        x = np.minimum(across - left, right - across).astype(np.float32)
        y = np.minimum(down - top, bottom - down).astype(np.float32)
        return Region(rows, columns, np.minimum(x[None, :], y[:, None]))

    def lens(self, centre: Point, radii: Point, bend: float, turn: float = 0.0) -> Region:
        """A lens between two parabolas; ``bend`` moves its tips down against its middle."""
        reach = radii[0] + radii[1] + abs(bend) + 1
        window = self._window(centre, (reach, reach))
        x, y = self._local(window, centre, turn)
        x = x / np.float32(radii[0])
        square = x * x
        depth = np.float32(radii[1]) * (_ONE - square) - np.abs(y - np.float32(bend) * square)
        ends = (_ONE - np.abs(x)) * np.float32(radii[0])
        return Region(*window, np.asarray(np.minimum(depth, ends)))

    def paint(self, region: Region, colour: Rgb | Tile, opacity: float = 1.0) -> None:
        """Paints a region in one colour, or in the colours of a (3, h, w) tile."""
        if not region.depth.size:
            return
        seen = self.pixels[:, region.rows, region.columns]
        target = column(colour) if isinstance(colour, tuple) else colour
        cover = region.cover if opacity == 1 else region.cover * np.float32(opacity)
        seen += cover * (target - seen)

    def shade(self, region: Region, factor: Tile | float) -> None:
        """Makes a region brighter or darker by a factor."""
        seen = self.pixels[:, region.rows, region.columns]
        seen *= _ONE + region.cover * (np.float32(1) * factor - _ONE)

    def textured(
        self, region: Region, pair: tuple[Rgb, Rgb], family: str, period_px: Point, seed: int
    ) -> Tile:
        """Two colours in the pattern of a surface family, for :meth:`paint`: (3, h, w).

        Args:
            region: Where it will be painted.
            pair: The two colours.
            family: One of ``SURFACES``.
            period_px: Texture period across and down.
            seed: Fixes phase and random places.
        """
        x = (_centres(region.columns) / period_px[0]).astype(np.float32)
        y = (_centres(region.rows) / period_px[1]).astype(np.float32)
        shape = region.depth.shape
        x, y = np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)
        share = second_colour_share(family, x, y, 1 / min(period_px), seed)
        first, second = column(pair[0]), column(pair[1])
        return np.asarray(first + share * (second - first))

    def developed(self, stream: Stream) -> NDArray[np.uint8]:
        """Adds slight noise and rounds: (H, W, 3) uint8, RGB."""
        return develop(self.pixels, stream)

    def _window(self, centre: Point, reach: Point) -> tuple[slice, slice]:
        height, width = self.size
        return _clipped(centre[1], reach[1], height), _clipped(centre[0], reach[0], width)

    def _local(self, window: tuple[slice, slice], centre: Point, turn: float) -> tuple[Tile, Tile]:
        across, down = _centres(window[1]) - centre[0], _centres(window[0]) - centre[1]
        sine, cosine = sincos(turn)
        x = _outer(down * sine, across * cosine)
        return x, _outer(down * cosine, across * -sine)


def column(colour: Rgb) -> Tile:
    """A colour as (3, 1, 1)."""
    return np.array(colour, dtype=np.float32)[:, None, None]


def mixed(one: Rgb, other: Rgb, share: float) -> Rgb:
    """The colour between two, ``share`` of the way to the other."""
    (red, green, blue), (to_red, to_green, to_blue) = one, other
    return (
        red + share * (to_red - red),
        green + share * (to_green - green),
        blue + share * (to_blue - blue),
    )


def lit(colour: Rgb, factor: float) -> Rgb:
    """A colour made brighter or darker, kept within [0, 1]."""
    red, green, blue = colour
    return (
        min(max(red * factor, 0.0), 1.0),
        min(max(green * factor, 0.0), 1.0),
        min(max(blue * factor, 0.0), 1.0),
    )


def fall(canvas: Canvas, upper: Rgb, lower: Rgb) -> Tile:
    """Colours that go from one at the top to another at the bottom: (3, H, 1)."""
    height = canvas.size[0]
    share = (_centres(slice(0, height)) / height).astype(np.float32)[None, :, None]
    return np.asarray(column(upper) + share * (column(lower) - column(upper)))


def _outer(down: NDArray[np.float64], across: NDArray[np.float64]) -> Tile:
    return np.asarray(down.astype(np.float32)[:, None] + across.astype(np.float32)[None, :])


def _centres(part: slice) -> NDArray[np.float64]:
    return np.asarray(_CENTRES[part], dtype=np.float64)


def _shape(window: tuple[slice, slice]) -> tuple[int, int]:
    return window[0].stop - window[0].start, window[1].stop - window[1].start


def _empty(window: tuple[slice, slice]) -> bool:
    return any(part.stop <= part.start for part in window)


def _clipped(centre: float, reach: float, length: int) -> slice:
    start = _bounded(centre - reach, length)
    return slice(start, max(_bounded(centre + reach + 1, length), start))


def _bounded(place: float, length: int) -> int:
    return min(max(math.floor(place), 0), length)

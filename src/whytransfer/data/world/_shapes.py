"""The shapes of the world: each a signed distance on a fixed grid, negative inside.

A shape is written as unions and differences of circles, boxes and polygons, moved and scaled so
that its tight box is centred and its farthest point has distance 1, and tabulated once. The table,
interpolated bilinearly, *is* the shape: inside test, mask, box and edge all come from it, and a
complicated shape costs no more than a circle. x points right, y down, lengths in shape radii.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.world._exact import sincos

Plane = NDArray[np.float64]
Tile = NDArray[np.float32]
Point = tuple[float, float]

_GRID = 192
_REACH = 1.15


def _circle(x: Plane, y: Plane, centre: Point, radius: float) -> Plane:
    dx, dy = x - centre[0], y - centre[1]
    return np.asarray(np.sqrt(dx * dx + dy * dy) - radius)


def _box(x: Plane, y: Plane, low: Point, high: Point) -> Plane:
    dx = np.abs(x - (low[0] + high[0]) / 2) - (high[0] - low[0]) / 2
    dy = np.abs(y - (low[1] + high[1]) / 2) - (high[1] - low[1]) / 2
    over_x, over_y = np.maximum(dx, 0.0), np.maximum(dy, 0.0)
    outside = np.sqrt(over_x * over_x + over_y * over_y)
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0.0))


def _polygon(x: Plane, y: Plane, corners: Sequence[Point]) -> Plane:
    """Distance to the nearest edge, its sign by the parity of edges crossed to the right."""
    nearest = np.full(x.shape, 1e9)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        dx, dy = x - ax, y - ay
        along = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        off_x, off_y = dx - along * ex, dy - along * ey
        nearest = np.minimum(nearest, off_x * off_x + off_y * off_y)
        if ey != 0.0:
            crosses = ((y >= ay) != (y >= by)) & (dx < dy * (ex / ey))
            inside ^= crosses
    distance = np.sqrt(nearest)
    return np.asarray(np.where(inside, -distance, distance))


def _union(*parts: Plane) -> Plane:
    result = parts[0]
    for part in parts[1:]:
        result = np.minimum(result, part)
    return result


def _without(whole: Plane, *holes: Plane) -> Plane:
    return np.maximum(whole, -_union(*holes))


def _around(count: int, radii: Sequence[float], first_turn: float = -0.25) -> list[Point]:
    """Corners at equal angles, their radii taken in rotation; the first one points up."""
    corners = []
    for k in range(count):
        sine, cosine = sincos(first_turn + k / count)
        corners.append((radii[k % len(radii)] * cosine, radii[k % len(radii)] * sine))
    return corners


def _mirrored(right: Sequence[Point]) -> list[Point]:
    """Closes a right half, listed from top to bottom, with its mirror image."""
    return [*right, *((-px, py) for px, py in reversed(right) if px)]


def _star(x: Plane, y: Plane) -> Plane:
    return _polygon(x, y, _around(10, [1.0, 0.45]))


def _gear(x: Plane, y: Plane) -> Plane:
    rim = [1.0, 1.0, 0.72, 0.72]
    return _without(_polygon(x, y, _around(32, rim, -0.265625)), _circle(x, y, (0, 0), 0.3))


def _arrow(x: Plane, y: Plane) -> Plane:
    return _polygon(x, y, _mirrored([(0.0, -1.0), (0.68, -0.1), (0.24, -0.1), (0.24, 1.0)]))


def _heart(x: Plane, y: Plane) -> Plane:
    diamond = _polygon(x, y, [(0.0, 0.9), (0.7, 0.2), (0.0, -0.5), (-0.7, 0.2)])
    radius = 0.4949747468305833
    left, right = (_circle(x, y, (side, -0.15), radius) for side in (-0.35, 0.35))
    return _union(diamond, left, right)


def _cross(x: Plane, y: Plane) -> Plane:
    return _union(_box(x, y, (-1, -0.3), (1, 0.3)), _box(x, y, (-0.3, -1), (0.3, 1)))


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(_circle(x, y, (0, 0), 0.74)) - 0.26


def _crescent(x: Plane, y: Plane) -> Plane:
    return _without(_circle(x, y, (0, 0), 1.0), _circle(x, y, (0.5, 0), 0.8))


def _triangle(x: Plane, y: Plane) -> Plane:
    return _polygon(x, y, _around(3, [1.0]))


def _disc(x: Plane, y: Plane) -> Plane:
    return _circle(x, y, (0, 0), 1.0)


def _square(x: Plane, y: Plane) -> Plane:
    return _box(x, y, (-1, -1), (1, 1))


def _flower(x: Plane, y: Plane) -> Plane:
    petals = [_circle(x, y, centre, 0.36) for centre in _around(6, [0.64])]
    return _without(_union(_circle(x, y, (0, 0), 0.5), *petals), _circle(x, y, (0, 0), 0.2))


def _house(x: Plane, y: Plane) -> Plane:
    walls = [(0.0, -1.0), (1.0, -0.1), (0.7, -0.1), (0.7, 0.9)]
    chimney = _box(x, y, (0.4, -0.95), (0.65, -0.3))
    door = _box(x, y, (-0.2, 0.25), (0.2, 1.0))
    return _without(_union(_polygon(x, y, _mirrored(walls)), chimney), door)


def _drop(x: Plane, y: Plane) -> Plane:
    tip = _polygon(x, y, [(0.0, -1.0), (0.5323, 0.0231), (-0.5323, 0.0231)])
    return _union(tip, _circle(x, y, (0, 0.3), 0.6))


def _bolt(x: Plane, y: Plane) -> Plane:
    edge = [(0.1, -1.0), (-0.6, 0.2), (-0.1, 0.2), (-0.35, 1.0)]
    return _polygon(x, y, [*edge, (0.6, -0.25), (0.1, -0.25), (0.55, -1.0)])


def _hexagon(x: Plane, y: Plane) -> Plane:
    return _polygon(x, y, _around(6, [1.0]))


def _cloud(x: Plane, y: Plane) -> Plane:
    puffs = [((-0.6, 0.2), 0.36), ((-0.1, -0.1), 0.52), ((0.55, 0.12), 0.44)]
    base = _box(x, y, (-0.6, 0.1), (0.55, 0.56))
    return _union(base, *(_circle(x, y, centre, radius) for centre, radius in puffs))


def _fish(x: Plane, y: Plane) -> Plane:
    body = [(0.25 + px * 0.75, py * 0.5) for px, py in _around(40, [1.0])]
    tail = [(-0.3, 0.0), (-1.0, -0.52), (-0.8, 0.0), (-1.0, 0.52)]
    fish = _union(_polygon(x, y, body), _polygon(x, y, tail))
    return _without(fish, _circle(x, y, (0.6, -0.12), 0.09))


def _mug(x: Plane, y: Plane) -> Plane:
    handle = np.abs(_circle(x, y, (0.42, 0.0), 0.42)) - 0.13
    return _union(_box(x, y, (-0.8, -0.8), (0.4, 0.8)), _without(handle, x - 0.3))


def _hourglass(x: Plane, y: Plane) -> Plane:
    return _polygon(x, y, _mirrored([(0.75, -1.0), (0.14, 0.0), (0.75, 1.0)]))


def _tree(x: Plane, y: Plane) -> Plane:
    tiers = [(0.0, -1.0), (0.42, -0.4), (0.2, -0.4), (0.62, 0.15), (0.3, 0.15), (0.8, 0.7)]
    return _polygon(x, y, _mirrored([*tiers, (0.16, 0.7), (0.16, 1.0)]))


def _club(x: Plane, y: Plane) -> Plane:
    stem = _polygon(x, y, _mirrored([(0.05, -0.1), (0.1, 0.5), (0.35, 1.0)]))
    leaves = [(0.0, -0.52), (-0.48, 0.18), (0.48, 0.18)]
    return _union(stem, *(_circle(x, y, centre, 0.43) for centre in leaves))


def _boat(x: Plane, y: Plane) -> Plane:
    hull = _polygon(x, y, _mirrored([(1.0, 0.35), (0.6, 0.9)]))
    mast = _box(x, y, (-0.06, -1.0), (0.06, 0.4))
    right = _polygon(x, y, [(0.0, -1.0), (0.8, 0.2), (0.0, 0.2)])
    left = _polygon(x, y, [(-0.16, -0.75), (-0.16, 0.2), (-0.7, 0.2)])
    return _union(hull, mast, right, left)


def _key(x: Plane, y: Plane) -> Plane:
    bow = np.abs(_circle(x, y, (-0.55, 0.0), 0.32)) - 0.13
    shaft = _box(x, y, (-0.2, -0.13), (1.0, 0.13))
    bits = (_box(x, y, (0.4, 0.0), (0.6, 0.5)), _box(x, y, (0.78, 0.0), (1.0, 0.4)))
    return _union(bow, shaft, *bits)


def _butterfly(x: Plane, y: Plane) -> Plane:
    wings = [((side * 0.52, -0.38), 0.48) for side in (-1, 1)]
    wings += [((side * 0.42, 0.45), 0.36) for side in (-1, 1)]
    body = _box(x, y, (-0.1, -0.75), (0.1, 0.85))
    return _union(body, *(_circle(x, y, centre, radius) for centre, radius in wings))


_DEFINITIONS: tuple[Callable[[Plane, Plane], Plane], ...] = (
    *(_star, _gear, _arrow, _heart, _cross, _crescent, _ring, _triangle),
    *(_disc, _square, _flower, _house, _drop, _bolt, _hexagon, _cloud),
    *(_butterfly, _key, _boat, _club, _tree, _hourglass, _mug, _fish),
)
_BY_NAME = {definition.__name__[1:]: definition for definition in _DEFINITIONS}

SHAPES = tuple(_BY_NAME)
"""Names of all shapes. A world takes its shapes from the front; crowds' new ones from the back."""


def _square_grid(num: int, reach: float) -> tuple[Plane, Plane]:
    axis = (np.arange(num) * 2.0 / (num - 1) - 1.0) * reach
    x, y = np.broadcast_arrays(axis[None, :], axis[:, None])
    return x, y


@cache
def distances(shape: str) -> Tile:
    """Tabulates a shape's signed distance on the fixed grid; (grid, grid), flattened."""
    define = _BY_NAME[shape]
    x, y = _square_grid(_GRID, 1.5)
    inside = define(x, y) < 0
    left, right = x[inside].min(), x[inside].max()
    top, bottom = y[inside].min(), y[inside].max()
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    dx, dy = x[inside] - centre_x, y[inside] - centre_y
    radius = np.sqrt((dx * dx + dy * dy).max())
    x, y = _square_grid(_GRID, _REACH)
    table = define(centre_x + radius * x, centre_y + radius * y) / radius
    flat: Tile = table.astype(np.float32).ravel()
    flat.setflags(write=False)
    return flat


def signed_distance(shape: str, x: Tile, y: Tile) -> Tile:
    """Interpolates a shape's signed distance at points; all in shape radii, negative inside.

    Beyond the table, which reaches past the unit disc, the value of its border is returned.
    """
    table = distances(shape)
    scale = np.float32((_GRID - 1) / 2 / _REACH)
    middle = np.float32((_GRID - 1) / 2)
    last = np.float32(_GRID - 1.001)
    column = np.minimum(np.maximum(x * scale + middle, np.float32(0)), last)
    row = np.minimum(np.maximum(y * scale + middle, np.float32(0)), last)
    left, top = column.astype(np.int32), row.astype(np.int32)
    right_part, lower_part = column - left.astype(np.float32), row - top.astype(np.float32)
    at = top * np.int32(_GRID) + left
    upper = _between(table.take(at), table.take(at + 1), right_part)
    at += np.int32(_GRID)
    lower = _between(table.take(at), table.take(at + 1), right_part)
    return _between(upper, lower, lower_part)


def _between(first: Tile, second: Tile, part: Tile) -> Tile:
    return np.asarray(first + part * (second - first))

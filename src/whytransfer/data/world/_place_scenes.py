"""The scenes of ``places``, one function each: a category is a layout, not a colour."""

from collections.abc import Callable

from whytransfer.core.streams import Stream
from whytransfer.data.world._canvas import Canvas, Point, lit, mixed
from whytransfer.data.world._exact import hsv_to_rgb, sincos
from whytransfer.data.world._factors import Rgb
from whytransfer.data.world._place import PlaceFactors, PlacePainter


def paint_place(factors: PlaceFactors, side_px: int, stream: Stream) -> Canvas:
    """Paints a picture."""
    canvas = Canvas(side_px, side_px)
    _CATEGORIES[factors.category](PlacePainter(canvas, factors, stream))
    return canvas


def _beach(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.16, 0.42, 0.55), (0.30, 0.56, 0.66)), (0.25, 0.025))
    slope, shore = p.draw(-0.12, 0.12), p.eye[1] + p.draw(0.16, 0.3)
    edge = [(0.0, shore - slope), (1.0, shore + slope)]
    p.polygon([(0, edge[0][1] - 0.02), (1, edge[1][1] - 0.02), (1, 1), (0, 1)], (0.95, 0.96, 0.96))
    sand = p.polygon([*edge, (1, 1), (0, 1)], (0.87, 0.77, 0.56))
    p.texture(sand, ((0.87, 0.77, 0.56), (0.80, 0.68, 0.47)), "noise", (0.05, 0.03))
    for _ in range(int(4 * p.draw())):
        x, y = p.draw(0.1, 0.9), p.draw(0.75, 0.95)
        hue = p.draw()
        p.box(x - 0.008, y - 0.18, x + 0.008, y, (0.6, 0.6, 0.6))
        shade = hsv_to_rgb(hue, 0.7, 0.8)
        p.polygon([(x - 0.12, y - 0.14), (x, y - 0.22), (x + 0.12, y - 0.14)], shade)


def _mountain(p: PlacePainter) -> None:
    p.sky()
    for row in range(3):
        base, size = p.eye[1] + 0.05 + 0.14 * row, 0.42 - 0.1 * row
        rock = mixed((0.55, 0.58, 0.66), (0.24, 0.30, 0.26), row / 2)
        for _ in range(4 + row):
            x, high, wide = p.draw(-0.1, 1.1), size * p.draw(0.6, 1.1), size * p.draw(0.6, 1.0)
            lean = x + p.draw(-0.1, 0.1)
            top = (lean, base - high)
            p.polygon([(x - wide, base + 0.05), top, (x + wide, base + 0.05)], rock)
            p.polygon([top, (x + wide, base + 0.05), (lean, base + 0.05)], lit(rock, 0.75))
            if row == 0:
                snow = [(lean - 0.2 * wide, base - 0.78 * high), top]
                p.polygon([*snow, (lean + 0.2 * wide, base - 0.78 * high)], (0.95, 0.96, 0.98))
        p.box(0, base + 0.04, 1, 1, rock)


def _desert(p: PlacePainter) -> None:
    p.sky()
    for row in range(5):
        level = p.eye[1] + 0.09 * row
        sand = lit((0.83, 0.64, 0.38), 0.8 + 0.08 * row)
        for _ in range(2):
            x = p.draw(-0.2, 1.2)
            dune = p.ellipse((x, level + 0.3), (p.draw(0.5, 0.9), 0.3 + p.draw(0, 0.06)), sand)
            p.texture(dune, (sand, lit(sand, 0.88)), "noise", (0.3, 0.03))
    for _ in range(int(3.5 * p.draw())):
        x, foot, high = p.draw(0.1, 0.9), p.draw(0.7, 0.95), p.draw(0.15, 0.35)
        green = hsv_to_rgb(0.33, 0.4, 0.4)
        p.box(x - 0.022, foot - high, x + 0.022, foot, green)
        for side in (-1.0, 1.0):
            ends = sorted((x, x + side * 0.08))
            p.box(ends[0], foot - 0.6 * high, ends[1], foot - 0.6 * high + 0.03, green)
            arm = x + side * 0.08
            p.box(arm - 0.015, foot - 0.85 * high, arm + 0.015, foot - 0.57 * high, green)


def _forest(p: PlacePainter) -> None:
    p.sky()
    green = hsv_to_rgb(p.draw(0.2, 0.38), 0.5, 0.35)
    p.texture(p.box(0, 0, 1, 1, green), (green, lit(green, 0.6)), "noise", (0.07, 0.07))
    p.ground(((0.30, 0.32, 0.16), (0.22, 0.25, 0.12)), (0.06, 0.04))
    wide = p.draw(0.25, 0.5)
    x = p.eye[0]
    path = p.strip((x + wide, 1.0), (x - wide, 1.0), 0.0, 0.97, (0.52, 0.42, 0.30))
    p.texture(path, ((0.52, 0.42, 0.30), (0.44, 0.35, 0.25)), "noise", (0.08, 0.03))
    for step in range(7):
        near = step / 7
        for side in (-1.0, 1.0):
            foot = x + side * (0.06 + near * p.draw(0.35, 0.62))
            thick = 0.012 + 0.05 * near * p.draw(0.6, 1.2)
            low = p.eye[1] + 0.05 + 0.5 * near
            bark = lit((0.32, 0.23, 0.15), p.draw(0.6, 1.2))
            p.box(foot - thick, -0.05, foot + thick, low, bark)


def _field(p: PlacePainter) -> None:
    p.sky()
    one, other = (0.80, 0.68, 0.30), (0.55, 0.50, 0.20)
    p.ground((one, other), (0.03, 0.03))
    count = 9 + int(5 * p.draw())
    for number in range(-count, count + 1):
        x = p.eye[0] + number * 0.24
        p.strip((x + 0.07, 1.0), (x, 1.0), 0.0, 1.0, other)
    for _ in range(int(3 * p.draw())):
        p.tree((p.draw(), p.eye[1] + 0.02), p.draw(0.06, 0.16), False)


def _highway(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.42, 0.46, 0.26), (0.34, 0.38, 0.20)), (0.09, 0.03))
    x, wide = p.eye[0], p.draw(0.5, 0.9)
    p.strip((x + wide, 1.0), (x - wide, 1.0), 0.0, 1.0, (0.30, 0.30, 0.32))
    for number in range(4):
        place = x + wide * (-0.94 + 0.627 * number)
        solid = number in (0, 3)
        for dash in range(1 if solid else 5):
            near = 0.0 if solid else 0.35 * dash / 2 + 0.05
            far = 1.0 if solid else min(near + 0.1, 0.95)
            p.strip((place + 0.035, 1.0), (place, 1.0), near, far, (0.92, 0.92, 0.88))
    for side in (-1.0, 1.0):
        rail = x + side * wide * 1.12
        p.strip(*_ordered((rail, 0.92), (rail, 0.85), side), 0.0, 0.95, (0.65, 0.66, 0.68))
    for _ in range(1 + int(3 * p.draw())):
        near, lane = p.draw(0.35, 0.85), p.draw(-0.6, 0.6) * wide
        at = p.inward((x + lane, 1.0), near)
        size = 0.2 * (1 - near)
        shade = hsv_to_rgb(p.draw(), 0.6, 0.7)
        p.box(at[0] - size, at[1] - size, at[0] + size, at[1], shade)
        p.box(
            at[0] - 0.75 * size,
            at[1] - 1.6 * size,
            at[0] + 0.75 * size,
            at[1] - size,
            (0.15, 0.17, 0.2),
        )


def _ordered(low: Point, high: Point, side: float) -> tuple[Point, Point]:
    return (high, low) if side > 0 else (low, high)


def _skyscrapers(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.38, 0.38, 0.40), (0.32, 0.32, 0.34)), (0.06, 0.03))
    for row in range(2):
        x = -0.05
        while x < 1:
            wide, high = p.draw(0.1, 0.2), p.draw(0.35, 0.75) * (1 - 0.15 * row)
            wall = hsv_to_rgb(p.draw(), p.draw(0.03, 0.2), p.draw(0.45, 0.8))
            top, foot = p.eye[1] + 0.12 * (row + 1) - high, p.eye[1] + 0.12 * (row + 1)
            tower = p.box(x, top, x + wide, foot, wall)
            period = p.draw(0.03, 0.05)
            p.texture(
                tower,
                (wall, (0.20, 0.25, 0.33)),
                ("checks", "stripes")[int(2 * p.draw())],
                (period, period * 0.9),
            )
            x += wide + p.draw(0.0, 0.05)


def _bridge(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.22, 0.38, 0.46), (0.30, 0.47, 0.54)), (0.2, 0.03))
    steel = hsv_to_rgb(p.draw(), 0.6, 0.55)
    deck, top = p.eye[1] + p.draw(-0.06, 0.05), p.draw(0.06, 0.2)
    towers = (p.draw(0.12, 0.25), p.draw(0.75, 0.88))
    for tower in towers:
        for step in (-0.035, 0.02):
            p.box(tower + step, top, tower + step + 0.018, p.eye[1] + 0.2, steel)
        p.box(tower - 0.05, p.eye[1] + 0.17, tower + 0.055, p.eye[1] + 0.25, (0.5, 0.5, 0.5))
    middle, half = (towers[0] + towers[1]) / 2, (towers[1] - towers[0]) / 2
    for number in range(-8, 25):
        x = towers[0] + (towers[1] - towers[0]) * number / 16
        along = (x - middle) / half
        inner = along * along
        outer = 1 - min(abs(abs(along) - 1) / 0.9, 1.0)
        sag = inner if abs(along) <= 1 else outer
        y = deck - 0.02 - (deck - top - 0.02) * sag
        p.box(x - 0.004, y, x + 0.004, deck, steel)
        p.box(x - 0.025, y - 0.008, x + 0.025, y + 0.008, steel)
    p.box(0, deck, 1, deck + 0.045, lit(steel, 0.8))


def _canyon(p: PlacePainter) -> None:
    p.sky()
    rock = (0.70, 0.40, 0.26)
    gap, middle = p.draw(0.04, 0.12), p.eye[0]
    for side in (-1.0, 1.0):
        for row in range(4):
            reach = gap + 0.12 * row
            x = middle + side * reach
            top = p.eye[1] - 0.08 - 0.11 * row - p.draw(0.0, 0.05)
            edge = 1.2 if side > 0 else -0.2
            left, right = min(x, edge), max(x, edge)
            shade = lit(rock, 0.75 + 0.12 * row)
            wall = p.box(left, top, right, 1.0, shade)
            p.texture(wall, (shade, lit(shade, 0.8)), "noise", (0.9, 0.035))
    river = [(middle - 0.02, p.eye[1] + 0.15), (middle + 0.02, p.eye[1] + 0.15)]
    p.polygon([*river, (middle + 0.22, 1.0), (middle - 0.22, 1.0)], (0.35, 0.55, 0.58))


def _harbor(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.18, 0.32, 0.42), (0.26, 0.42, 0.50)), (0.12, 0.03))
    for _ in range(5 + int(3 * p.draw())):
        x, near = p.draw(0.05, 0.95), p.draw(0.2, 1.0)
        water = p.eye[1] + 0.06 + 0.35 * near
        size = 0.08 + 0.12 * near
        hull = mixed((0.93, 0.93, 0.92), hsv_to_rgb(p.draw(), 0.7, 0.5), p.draw())
        p.polygon(
            [(x - size, water - 0.35 * size), (x + size, water - 0.35 * size),
             (x + 0.7 * size, water), (x - 0.75 * size, water)], hull,
        )  # fmt: skip
        p.box(
            x - 0.4 * size, water - 0.6 * size, x + 0.2 * size, water - 0.35 * size, (0.9, 0.9, 0.9)
        )
        mast = p.draw(1.5, 2.6) * size
        p.box(x - 0.006, water - mast, x + 0.006, water - 0.3 * size, (0.8, 0.78, 0.74))
    quay = p.draw(0.82, 0.92)
    stone = p.box(0, quay, 1, 1, (0.52, 0.50, 0.47))
    p.texture(stone, ((0.52, 0.50, 0.47), (0.43, 0.41, 0.39)), "checks", (0.16, 0.07))


def _bedroom(p: PlacePainter) -> None:
    wall = hsv_to_rgb(p.draw(), p.draw(0.05, 0.3), 0.8)
    p.room(wall, (0.50, 0.34, 0.22), 0.55)
    left, top = p.inward((0.12, 0.15), 0.55)
    wide = p.draw(0.12, 0.2)
    p.box(left, top, left + wide, top + wide, (0.95, 0.96, 0.97))
    p.box(left + 0.47 * wide, top, left + 0.53 * wide, top + wide, (0.6, 0.55, 0.5))
    x, y = p.draw(0.45, 0.6), p.draw(0.56, 0.62)
    wood: Rgb = (0.40, 0.26, 0.16)
    cover = hsv_to_rgb(p.draw(), p.draw(0.2, 0.7), 0.75)
    p.box(x - 0.24, y - 0.16, x + 0.24, y + 0.12, wood)
    p.polygon([(x - 0.22, y), (x + 0.22, y), (x + 0.36, 0.92), (x - 0.36, 0.92)], cover)
    p.polygon(
        [(x - 0.36, 0.92), (x + 0.36, 0.92), (x + 0.36, 1.0), (x - 0.36, 1.0)], lit(cover, 0.7)
    )
    for side in (-1.0, 1.0):
        p.ellipse((x + side * 0.1, y + 0.02), (0.1, 0.045), (0.96, 0.95, 0.93))
        p.box(x + side * 0.33 - 0.05, y + 0.02, x + side * 0.33 + 0.05, y + 0.16, wood)
        p.ellipse((x + side * 0.33, y - 0.06), (0.045, 0.05), (0.98, 0.9, 0.65))


def _corridor(p: PlacePainter) -> None:
    wall = hsv_to_rgb(p.draw(), p.draw(0.03, 0.2), 0.78)
    p.room(wall, (0.45, 0.43, 0.42), 0.88)
    left = 0.8
    for step in range(5):
        near = 1 - left
        left *= 0.68
        far = near + 0.32 * (1 - near)
        for corner_x, side in ((0.0, -1.0), (1.0, 1.0)):
            low, high = p.inward((corner_x, 1.0), near), p.inward((corner_x, 1.0), far)
            upper = p.inward((corner_x, 0.22), near), p.inward((corner_x, 0.22), far)
            door = [upper[0], upper[1], high, low] if side < 0 else [upper[1], upper[0], low, high]
            p.polygon(door, lit((0.48, 0.32, 0.20), 1 - 0.1 * step))
        p.strip((0.38, 0.0), (0.62, 0.0), near, far, (0.98, 0.98, 0.94))


def _kitchen(p: PlacePainter) -> None:
    wall = hsv_to_rgb(p.draw(), p.draw(0.02, 0.2), 0.85)
    p.room(wall, (0.60, 0.56, 0.50), 0.35)
    tiles = p.box(0.0, 0.38, 1.0, 0.58, wall)
    p.texture(tiles, (lit(wall, 1.05), lit(wall, 0.85)), "checks", (0.09, 0.09))
    doors = hsv_to_rgb(p.draw(), p.draw(0.1, 0.6), p.draw(0.4, 0.9))
    count = 4 + int(3 * p.draw())
    for number in range(count):
        left, right = number / count, (number + 1) / count
        for top, bottom in ((0.1, 0.38), (0.62, 0.9)):
            p.box(left, top, right, bottom, lit(doors, 0.6))
            p.box(left + 0.012, top + 0.012, right - 0.012, bottom - 0.012, doors)
            p.box(right - 0.04, top + 0.1, right - 0.028, top + 0.18, (0.85, 0.85, 0.85))
    p.box(0.0, 0.57, 1.0, 0.63, (0.25, 0.24, 0.24))
    x = p.draw(0.2, 0.8)
    p.box(x - 0.12, 0.6, x + 0.12, 0.92, (0.75, 0.76, 0.78))
    p.box(x - 0.09, 0.7, x + 0.09, 0.86, (0.12, 0.12, 0.14))
    p.polygon(
        [(x - 0.06, 0.1), (x + 0.06, 0.1), (x + 0.13, 0.36), (x - 0.13, 0.36)], (0.7, 0.71, 0.73)
    )


def _stairs(p: PlacePainter) -> None:
    wall = hsv_to_rgb(p.draw(), p.draw(0.03, 0.25), 0.75)
    p.texture(p.box(0, 0, 1, 1, wall), (wall, lit(wall, 0.93)), "noise", (0.3, 0.3))
    count, stone = 6 + int(5 * p.draw()), (0.62, 0.58, 0.54)
    lean, wide = p.draw(-0.3, 0.3), p.draw(0.28, 0.5)
    top = p.draw(0.12, 0.3)
    for step in reversed(range(count)):
        near = 1 - step / count
        y = top + (1.0 - top) * near
        x, half = 0.5 + lean * (1 - near), wide * (0.45 + 0.55 * near)
        high = (1.0 - top) / count
        p.box(x - half, y - high, x + half, y, lit(stone, 0.7))
        p.box(x - half, y - high, x + half, y - 0.62 * high, lit(stone, 1.1))
        for side in (-1.0, 1.0):
            post = x + side * half
            p.box(post - 0.008, y - 0.22 - high, post + 0.008, y, (0.22, 0.20, 0.20))
            p.box(post - 0.03, y - 0.24 - high, post + 0.03, y - 0.21 - high, (0.22, 0.20, 0.20))


def _windmills(p: PlacePainter) -> None:
    p.sky()
    p.ground(((0.45, 0.58, 0.25), (0.37, 0.50, 0.20)), (0.09, 0.03))
    for _ in range(2 + int(4 * p.draw())):
        x, near = p.draw(0.08, 0.92), p.draw(0.4, 1.0)
        high, foot = 0.5 * near, p.eye[1] + 0.25 * near
        hub, white = (x, foot - high), (0.95, 0.95, 0.96)
        p.polygon(
            [
                (x - 0.008 * near, hub[1]),
                (x + 0.008 * near, hub[1]),
                (x + 0.016 * near, foot),
                (x - 0.016 * near, foot),
            ],
            white,
        )
        phase = p.draw()
        for blade in range(3):
            sine, cosine = sincos(phase + blade / 3)
            tip = (hub[0] + 0.24 * near * cosine, hub[1] + 0.24 * near * sine)
            side = (0.018 * near * sine, -0.018 * near * cosine)
            p.polygon(
                [(hub[0] - side[0], hub[1] - side[1]), (hub[0] + side[0], hub[1] + side[1]), tip],
                white,
            )


_CATEGORIES: dict[str, Callable[[PlacePainter], None]] = {
    "beach": _beach,
    "bedroom": _bedroom,
    "bridge": _bridge,
    "canyon": _canyon,
    "corridor": _corridor,
    "desert": _desert,
    "field": _field,
    "forest_path": _forest,
    "harbor": _harbor,
    "highway": _highway,
    "kitchen": _kitchen,
    "mountain": _mountain,
    "skyscraper": _skyscrapers,
    "staircase": _stairs,
    "wind_farm": _windmills,
}

CATEGORIES = tuple(_CATEGORIES)
"""Names of the categories, sorted."""

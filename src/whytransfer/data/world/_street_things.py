"""Paints the single things of a street, each by its name."""

from collections.abc import Callable

from whytransfer.data.world._canvas import Region, lit, mixed
from whytransfer.data.world._exact import hsv_to_rgb
from whytransfer.data.world._factors import Rgb
from whytransfer.data.world._street import CELL_M, NEAR_M, StreetPainter, Thing

_GLASS: Rgb = (0.14, 0.17, 0.22)
_TYRE: Rgb = (0.06, 0.06, 0.07)
_METAL: Rgb = (0.38, 0.39, 0.41)


def paint_thing(painter: StreetPainter, thing: Thing, z: float) -> None:
    """Paints a thing at a distance from the camera."""
    _PAINTERS[thing.kind](painter, thing, z)


def _house(painter: StreetPainter, thing: Thing, z: float) -> None:
    height = 5 + 16 * thing.draws[0]
    far = z + CELL_M
    painter.facade(thing.x, (max(z, NEAR_M / 2), far), height, thing)


def _fence(painter: StreetPainter, thing: Thing, z: float) -> None:
    hue, value = thing.draws[:2]
    colour = hsv_to_rgb(0.05 + 0.1 * hue, 0.3, 0.3 + 0.4 * value)
    start, end = max(z, NEAR_M / 2), z + CELL_M
    for height in (0.35, 0.8, 1.25):
        rail = painter.along(thing.x, (height, height + 0.12), (start, end))
        painter.stroke(rail, "fence", painter.hazed(colour, start))
    for number in range(9 if painter.fine(start) else 0):
        at = z + 1.5 * (number + 0.02)
        if at > NEAR_M:
            post = painter.along(thing.x, (0.0, 1.5), (at, at + 0.25))
            painter.stroke(post, "fence", painter.hazed(lit(colour, 0.85), at))


def _wall(painter: StreetPainter, thing: Thing, z: float) -> None:
    hue, value = thing.draws[:2]
    colour = hsv_to_rgb(0.03 + 0.08 * hue, 0.25, 0.4 + 0.35 * value)
    start = max(z, NEAR_M / 2)
    front = painter.along(thing.x, (0.0, 2.1), (start, z + CELL_M))
    if front.depth.size:
        shade = painter.hazed(colour, start)
        bricks = painter.canvas.textured(
            front, (shade, lit(shade, 0.82)), "checks", (6.0, 4.0), thing.seed
        )
        painter.stroke(front, "wall", bricks)


def _crown(painter: StreetPainter, thing: Thing, z: float, level: float, size: float) -> None:
    draws = thing.draws[2:]
    for number in range(4 if painter.fine(z) else 2):
        across, up, wide = draws[3 * number : 3 * number + 3]
        tone = hsv_to_rgb(0.22 + 0.13 * draws[12], 0.5, 0.25 + 0.12 * number)
        place = (thing.x + size * (across - 0.5), level + size * 0.8 * (up - 0.3), z)
        radius = size * (0.45 + 0.3 * wide)
        blob = painter.ball(place, (radius, radius * 0.85))
        shade = painter.hazed(tone, z)
        if not painter.fine(z):
            painter.stroke(blob, "vegetation", shade)
        elif blob.depth.size:
            period = max(2.0, 60.0 / z)
            leaves = painter.canvas.textured(
                blob, (shade, lit(shade, 0.7)), "noise", (period, period), thing.seed + number
            )
            painter.stroke(blob, "vegetation", leaves)


def _tree(painter: StreetPainter, thing: Thing, z: float) -> None:
    size, height = thing.draws[:2]
    level = 2.4 + 1.8 * height
    trunk = painter.upright((thing.x - 0.14, thing.x + 0.14), (0.0, level), z)
    painter.stroke(trunk, "vegetation", painter.hazed((0.28, 0.20, 0.14), z))
    _crown(painter, thing, z, level + 0.6, 1.5 + 1.4 * size)


def _hedge(painter: StreetPainter, thing: Thing, z: float) -> None:
    _crown(painter, thing, z, 0.8, 2.2 + 1.6 * thing.draws[0])


def _post(painter: StreetPainter, thing: Thing, z: float, height: float) -> None:
    half = max(0.06, 0.0035 * z)
    pole = painter.upright((thing.x - half, thing.x + half), (0.0, height), z)
    painter.stroke(pole, "pole", painter.hazed(_METAL, z))


def _lamp(painter: StreetPainter, thing: Thing, z: float) -> None:
    _post(painter, thing, z, 5.5)
    inward = -1.0 if thing.x > 0 else 1.0
    ends = sorted((thing.x, thing.x + inward * 1.3))
    arm = painter.upright((ends[0], ends[1]), (5.35, 5.5 + 0.004 * z), z)
    painter.stroke(arm, "pole", painter.hazed(_METAL, z))


def _sign(painter: StreetPainter, thing: Thing, z: float) -> None:
    _post(painter, thing, z, 2.5)
    kind = int(3 * thing.draws[0])
    rim = painter.hazed(((0.75, 0.10, 0.12), (0.10, 0.25, 0.65), (0.95, 0.80, 0.1))[kind], z)
    if kind == 1:
        plate = painter.upright((thing.x - 0.35, thing.x + 0.35), (2.1, 2.8), z)
    else:
        plate = painter.ball((thing.x, 2.5, z), (0.38, 0.38))
    painter.stroke(plate, "traffic sign", rim)
    if not painter.fine(z):
        return
    inner = painter.ball((thing.x, 2.5, z), (0.24, 0.24))
    painter.stroke(inner, "traffic sign", painter.hazed((0.93, 0.93, 0.93), z))


def _light(painter: StreetPainter, thing: Thing, z: float) -> None:
    _post(painter, thing, z, 3.2)
    case = painter.upright((thing.x - 0.19, thing.x + 0.19), (2.5, 3.5), z)
    painter.stroke(case, "traffic light", painter.hazed((0.08, 0.09, 0.08), z))
    if not painter.fine(z):
        return
    shown = int(3 * thing.draws[0])
    colours: tuple[Rgb, ...] = ((0.95, 0.15, 0.12), (0.98, 0.75, 0.15), (0.2, 0.9, 0.35))
    for number, colour in enumerate(colours):
        lamp = painter.ball((thing.x, 3.32 - 0.3 * number, z), (0.12, 0.12))
        painter.stroke(lamp, "traffic light", colour if number == shown else lit(colour, 0.25))


def _vehicle(
    painter: StreetPainter, thing: Thing, z: float, size: tuple[float, float, float], kind: str
) -> None:
    """A box on wheels seen from behind: its far end, the side that shows, its near end."""
    width, height, length = size
    hue, saturation, value = thing.draws[1:4]
    paint = hsv_to_rgb(hue, 0.75 * saturation, 0.25 + 0.65 * value)
    x, number = (thing.x - width / 2, thing.x + width / 2), thing.instance
    inner = x[0] if thing.x > painter.scene.camera_m[0] else x[1]
    waist, slant = (0.55 * height, 0.13 * length) if kind == "car" else (0.45 * height, 0.0)
    colour, dark = painter.hazed(paint, z), painter.hazed(lit(paint, 0.72), z)
    glass = painter.hazed(_GLASS, z)

    def stroke(region: Region, tone: Rgb) -> None:
        painter.stroke(region, kind, tone, number)

    def cabin(inset: float, low: float, high: float) -> Region:
        """A part of the cabin's slanted near end, heights as shares of it."""
        rise = height - waist
        left, right = x[0] + inset * width, x[1] - inset * width
        places = ((left, high), (right, high), (right, low), (left, low))
        return painter.canvas.polygon(
            [painter.at(px, waist + share * rise, z + share * slant) for px, share in places]
        )

    def side(low: float, high: float, ends: tuple[float, float]) -> Region:
        """A part of the cabin's side, its near and far edges at shares of the length."""
        rise, near, far = height - waist, z + ends[0] * length, z + ends[1] * length
        corners = [
            painter.at(inner, waist + share * rise, place + share * slant * lean)
            for share, place, lean in (
                (high, near, 1),
                (high, far, -1),
                (low, far, -1),
                (low, near, 1),
            )
        ]
        return painter.canvas.polygon(corners if _clockwise(corners) else corners[::-1])

    if not painter.fine(z):
        stroke(painter.along(inner, (0.3, waist), (z, z + length)), dark)
        stroke(painter.upright(x, (0.1, height), z), colour)
        return
    roof = [painter.at(px, height, pz) for px, pz in (
        (x[0], z + 0.9 * length), (x[1], z + 0.9 * length), (x[1], z + slant), (x[0], z + slant),
    )]  # fmt: skip
    stroke(painter.canvas.polygon(roof), lit(colour, 1.1))
    stroke(painter.along(inner, (0.3, waist), (z, z + length)), dark)
    stroke(side(0.0, 1.0, (0.0, 0.98)), dark)
    stroke(side(0.15, 0.85, (0.06, 0.9)), glass)
    for share in (0.2, 0.8):
        stroke(painter.canvas.polygon(_wheel(painter, inner, z + share * length)), _TYRE)
    for left in (x[0] + 0.08, x[1] - 0.33):
        stroke(painter.upright((left, left + 0.25), (0.0, 0.4), z), _TYRE)
    stroke(painter.upright(x, (0.22, waist), z), colour)
    stroke(cabin(0.0, 0.0, 1.0), colour)
    stroke(cabin(0.09, 0.12, 0.85), glass)
    lamps: Rgb = (0.95, 0.93, 0.8) if thing.x < 0 else (0.8, 0.08, 0.08)
    for left in (x[0] + 0.05, x[1] - 0.35):
        stroke(painter.upright((left, left + 0.3), (waist - 0.25, waist - 0.08), z), lamps)


def _wheel(painter: StreetPainter, x: float, z: float) -> list[tuple[float, float]]:
    corners = [painter.at(x, y, z + dz) for y, dz in (
        (0.62, -0.12), (0.62, 0.12), (0.45, 0.3), (0.18, 0.3),
        (0.0, 0.12), (0.0, -0.12), (0.18, -0.3), (0.45, -0.3),
    )]  # fmt: skip
    return corners if _clockwise(corners) else corners[::-1]


def _clockwise(corners: list[tuple[float, float]]) -> bool:
    doubled = 0.0
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        doubled += ax * by - bx * ay
    return doubled > 0


def _car(painter: StreetPainter, thing: Thing, z: float) -> None:
    _vehicle(painter, thing, z, (1.75, 1.38 + 0.4 * thing.draws[0], 4.2), "car")


def _bus(painter: StreetPainter, thing: Thing, z: float) -> None:
    _vehicle(painter, thing, z, (2.4, 3.0, 9.0), "bus")


def _person(painter: StreetPainter, thing: Thing, z: float, kind: str, lift: float) -> None:
    draws = thing.draws
    shirt = painter.hazed(hsv_to_rgb(draws[0], 0.6 * draws[1] + 0.2, 0.3 + 0.6 * draws[2]), z)
    trousers = painter.hazed(hsv_to_rgb(draws[3], 0.3, 0.15 + 0.3 * draws[4]), z)
    skin = painter.hazed(mixed((0.93, 0.76, 0.66), (0.36, 0.24, 0.17), draws[5]), z)
    number = thing.instance + (kind == "rider")
    size, x = 0.92 + 0.16 * draws[4], thing.x
    legs = (0.0, 0.85 * size) if not lift else (lift * 0.6, lift + 0.1)
    for side in (-1.0, 1.0):
        step = 0.11 + 0.08 * draws[3] * (not lift)
        leg = painter.upright((x + side * step - 0.085, x + side * step + 0.085), legs, z)
        painter.stroke(leg, kind, trousers, number)
    hip = lift or 0.8 * size
    body = painter.ball((x, hip + 0.3 * size, z), (0.25 * size, 0.38 * size))
    painter.stroke(body, kind, shirt, number)
    for side in (-1.0, 1.0) if painter.fine(z) else ():
        arm = painter.ball((x + side * 0.27 * size, hip + 0.25 * size, z), (0.065, 0.32 * size))
        painter.stroke(arm, kind, lit(shirt, 0.85), number)
    head = painter.ball((x, hip + 0.82 * size, z), (0.12 * size, 0.15 * size))
    painter.stroke(head, kind, skin, number)
    if not painter.fine(z):
        return
    hair = painter.ball((x, hip + 0.89 * size, z), (0.125 * size, 0.1 * size))
    painter.stroke(hair, kind, painter.hazed((0.14, 0.10, 0.08), z), number)


def _pedestrian(painter: StreetPainter, thing: Thing, z: float) -> None:
    _person(painter, thing, z, "pedestrian", 0.0)


def _two_wheels(painter: StreetPainter, thing: Thing, z: float) -> None:
    """A bicycle or motorcycle seen from behind, and its rider, who is an object of their own."""
    broad = 0.09 if thing.kind == "motorcycle" else 0.045
    number, x = thing.instance, thing.x
    for ahead in (1.1, 0.0):
        wheel = painter.ball((x, 0.34, z + ahead), (broad + 0.002 * z, 0.34))
        painter.stroke(wheel, thing.kind, painter.hazed(_TYRE, z), number)
    if thing.kind == "motorcycle":
        body = painter.ball((x, 0.68, z), (0.24, 0.27))
        paint = hsv_to_rgb(thing.draws[6], 0.7, 0.6)
        painter.stroke(body, thing.kind, painter.hazed(paint, z), number)
    bar = painter.upright((x - 0.32, x + 0.32), (0.95, 1.03), z + 0.8)
    painter.stroke(bar, thing.kind, painter.hazed(_METAL, z), number)
    frame = painter.upright((x - 0.06, x + 0.06), (0.35, 0.9), z)
    painter.stroke(frame, thing.kind, painter.hazed((0.5, 0.15, 0.15), z), number)
    _person(painter, thing, z, "rider", 0.9)


_PAINTERS: dict[str, Callable[[StreetPainter, Thing, float], None]] = {
    "house": _house,
    "fence": _fence,
    "wall": _wall,
    "hedge": _hedge,
    "tree": _tree,
    "lamp": _lamp,
    "sign": _sign,
    "light": _light,
    "car": _car,
    "bus": _bus,
    "pedestrian": _pedestrian,
    "bicycle": _two_wheels,
    "motorcycle": _two_wheels,
}

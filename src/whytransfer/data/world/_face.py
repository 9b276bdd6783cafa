"""Draws a face: what its identity fixes, what varies, and where its landmarks lie.

Face coordinates: u to the viewer's right, v down, in half widths of the head, (0, 0) the middle of
the head. A turn of the head moves what stands out of the face, and narrows the far side.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from whytransfer.core.streams import Stream
from whytransfer.data.world._canvas import Canvas, Point, Region, Tile, fall, lit, mixed
from whytransfer.data.world._exact import hsv_to_rgb, sincos
from whytransfer.data.world._factors import BACKGROUNDS, NUM_LIGHTS, Rgb

LANDMARKS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
"""CelebA's five points in its order; left is the viewer's left."""

Landmarks = tuple[Point, Point, Point, Point, Point]
Hair = Literal["bald", "short", "bob", "long", "bun"]

_HAIRS: tuple[Hair, ...] = ("short", "short", "bob", "long", "bun", "short", "long", "bald")
_HAIR_COLOURS: tuple[tuple[str, Rgb], ...] = (
    ("Black", (0.09, 0.08, 0.08)),
    ("Brown", (0.33, 0.20, 0.12)),
    ("Blond", (0.80, 0.64, 0.36)),
    ("Gray", (0.60, 0.60, 0.61)),
    ("Red", (0.56, 0.25, 0.12)),
)
_PALE, _DARK = (0.96, 0.80, 0.70), (0.36, 0.22, 0.15)
_NOWHERE = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What stays the same in every picture of a person; lengths in half widths of the head."""

    skin: Rgb
    head_height: float
    jaw_width: float
    chin: float
    ear: float
    eye_distance: float
    eye_level: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris: Rgb
    brow_level: float
    brow_thickness: float
    brow_bend: float
    nose_length: float
    nose_width: float
    mouth_level: float
    mouth_width: float
    lip_thickness: float
    lips: Rgb
    hair_name: str
    hair_colour: Rgb
    hairline: float
    mole: Point


@dataclass(frozen=True, kw_only=True)
class FaceFactors:
    """What varies from picture to picture.

    Attributes:
        identity: Number of the person.
        centre_xy: Middle of the head, pixels.
        scale_px: Half width of the head.
        yaw: Turn of the head to the viewer's right, in [-1, 1].
        pitch: How far the features are moved down, half widths.
        roll_turns: Tilt of the head, clockwise as seen.
        smile: In [-0.5, 1].
        mouth_open: In [0, 1].
        gaze: How far the irises look to the right.
        eyes_open: In [0.55, 1].
        hair: The style.
        glasses: Whether glasses are worn.
        lipstick: Whether the lips are painted.
        clothes: Their colour.
        background: Index into the shared backgrounds.
        light: Direction of the light in eighths of a turn.
        light_strength: How much brighter the lit side is.
        landmarks: (x, y) of ``LANDMARKS``, continuous pixels; the first pixel's centre is
            (0.5, 0.5).
    """

    identity: int
    centre_xy: Point
    scale_px: float
    yaw: float
    pitch: float
    roll_turns: float
    smile: float
    mouth_open: float
    gaze: float
    eyes_open: float
    hair: Hair
    glasses: bool
    lipstick: bool
    clothes: Rgb
    background: int
    light: int
    light_strength: float
    landmarks: Landmarks


def draw_identity(stream: Stream) -> Identity:
    """Draws a person."""
    tone, warmth, *shape = stream.uniform(16).tolist()
    skin = mixed(_PALE, _DARK, tone * (0.35 + 0.65 * tone))
    name, hair = _HAIR_COLOURS[stream.integer(len(_HAIR_COLOURS))]
    iris_hue = (0.07, 0.08, 0.30, 0.57, 0.60)[stream.integer(5)]
    mole_u, mole_v, level = stream.uniform(3).tolist()
    return Identity(
        skin=(skin[0], skin[1] * (0.96 + 0.06 * warmth), skin[2] * (0.92 + 0.1 * warmth)),
        head_height=1.22 + 0.22 * shape[0],
        jaw_width=0.70 + 0.2 * shape[1],
        chin=0.0 + 0.14 * shape[2],
        ear=0.17 + 0.09 * shape[3],
        eye_distance=0.38 + 0.1 * shape[4],
        eye_level=-0.16 + 0.08 * shape[5],
        eye_width=0.19 + 0.06 * shape[6],
        eye_height=0.07 + 0.055 * shape[7],
        eye_tilt=0.04 * shape[8] - 0.02,
        iris=hsv_to_rgb(iris_hue, 0.65, 0.3 + 0.35 * level),
        brow_level=0.20 + 0.08 * shape[9],
        brow_thickness=0.035 + 0.05 * shape[10],
        brow_bend=0.02 + 0.08 * shape[11],
        nose_length=0.38 + 0.14 * shape[12],
        nose_width=0.15 + 0.1 * shape[13],
        mouth_level=0.66 + 0.1 * mole_v,
        mouth_width=0.30 + 0.12 * mole_u,
        lip_thickness=0.05 + 0.05 * level,
        lips=mixed(skin, (0.66, 0.25, 0.26), 0.45),
        hair_name=name,
        hair_colour=lit(hair, 0.85 + 0.3 * warmth),
        hairline=0.58 + 0.14 * tone,
        mole=(1.2 * mole_u - 0.6, 0.25 + 0.7 * mole_v),
    )


def draw_face(stream: Stream, identity: int, size: tuple[int, int], max_yaw: float) -> FaceFactors:
    """Draws what varies; landmarks are filled in by :func:`paint_face`."""
    height, width = size
    across, down, scale, pitch, roll, smile, opened, gaze = stream.uniform(8, -1, 1).tolist()
    glasses, lipstick, hue, saturation, value = stream.uniform(5).tolist()
    return FaceFactors(
        identity=identity,
        centre_xy=(width * (0.5 + 0.03 * across), height * (0.5 + 0.025 * down)),
        scale_px=width * (0.285 + 0.03 * scale),
        yaw=stream.one(-max_yaw, max_yaw),
        pitch=0.09 * pitch,
        roll_turns=0.03 * roll,
        smile=0.25 + 0.75 * smile,
        mouth_open=max(0.0, opened),
        gaze=0.3 * gaze,
        eyes_open=stream.one(0.55, 1.0),
        hair=_HAIRS[stream.integer(len(_HAIRS))],
        glasses=glasses < 0.15,
        lipstick=lipstick < 0.2,
        clothes=hsv_to_rgb(hue, 0.2 + 0.6 * saturation, 0.25 + 0.6 * value),
        background=stream.integer(len(BACKGROUNDS)),
        light=stream.integer(NUM_LIGHTS),
        light_strength=stream.one(0.05, 0.4),
        landmarks=(_NOWHERE, _NOWHERE, _NOWHERE, _NOWHERE, _NOWHERE),
    )


def paint_face(
    look: Identity, factors: FaceFactors, size: tuple[int, int]
) -> tuple[Canvas, Landmarks]:
    """Paints a face, and returns the canvas and where its landmarks lie."""
    painter = _Painter(Canvas(*size), look, factors)
    painter.backdrop()
    painter.head()
    eyes = painter.eyes()
    nose = painter.nose()
    mouth = painter.mouth()
    painter.light()
    painter.fringe()
    if factors.glasses:
        painter.glasses()
    return painter.canvas, (eyes[0], eyes[1], nose, mouth[0], mouth[1])


class _Painter:
    def __init__(self, canvas: Canvas, look: Identity, factors: FaceFactors) -> None:
        self.canvas = canvas
        self._look, self._factors = look, factors
        self._sine, self._cosine = sincos(factors.roll_turns)

    def _at(self, u: float, v: float, out: float = 0.3) -> Point:
        """Pixels of a place on the face that stands out of it by so much."""
        yaw, factors = self._factors.yaw, self._factors
        u = u * (1 - 0.25 * yaw * yaw) + yaw * out * (1 - 0.5 * u * u)
        v = v + factors.pitch * (1 if out else 0)
        x, y = u * self._cosine - v * self._sine, u * self._sine + v * self._cosine
        return (
            factors.centre_xy[0] + x * factors.scale_px,
            factors.centre_xy[1] + y * factors.scale_px,
        )

    def _px(self, u: float, width: float, height: float, out: float = 0.3) -> Point:
        """Radii in pixels of something at u: narrower on the side that is turned away."""
        yaw = self._factors.yaw
        narrowed = 1 - 0.25 * yaw * yaw - yaw * out * u
        return width * narrowed * self._factors.scale_px, height * self._factors.scale_px

    def _ellipse(self, place: Point, radii: Point, out: float = 0.3, tilt: float = 0.0) -> Region:
        size = self._px(place[0], *radii, out)
        return self.canvas.ellipse(self._at(*place, out), size, self._factors.roll_turns + tilt)

    def backdrop(self) -> None:
        """Background, hair behind the head, shoulders and neck."""
        canvas, factors, look = self.canvas, self._factors, self._look
        colour = BACKGROUNDS[factors.background]
        canvas.paint(canvas.everywhere(), fall(canvas, lit(colour, 1.15), lit(colour, 0.8)))
        back = lit(look.hair_colour, 0.75)
        if factors.hair in ("long", "bob"):
            length = 1.25 if factors.hair == "long" else 0.62
            canvas.paint(self._ellipse((0.0, 0.25), (1.22, 0.4 + length), 0.0), back)
        if factors.hair == "bun":
            canvas.paint(self._ellipse((0.0, -look.head_height - 0.05), (0.42, 0.36), 0.0), back)
        shadow = lit(look.skin, 0.72)
        canvas.paint(
            self._ellipse((0.0, look.head_height + 1.0), (1.9, 0.95), 0.0), factors.clothes
        )
        canvas.paint(self._ellipse((0.0, look.head_height + 0.02), (0.5, 0.55), 0.0), shadow)

    def head(self) -> None:
        """Ears and head."""
        look, canvas = self._look, self.canvas
        for side in (-1.0, 1.0):
            ear = self._ellipse((side * 1.0, 0.05), (look.ear * 0.75, look.ear * 1.4), 0.0)
            canvas.paint(ear, lit(look.skin, 0.85))
        upper = self._ellipse((0.0, -0.12), (1.0, look.head_height - 0.12), 0.0)
        level = look.head_height * 0.42
        reach = look.head_height + look.chin - level
        jaw = self._ellipse((0.0, level), (look.jaw_width, reach), 0.05)
        canvas.paint(upper, look.skin)
        canvas.paint(jaw, look.skin)

    def eyes(self) -> tuple[Point, Point]:
        """Eyes and brows; returns the middles of the eyes."""
        first, second = (self._eye(side) for side in (-1.0, 1.0))
        return first, second

    def _eye(self, side: float) -> Point:
        look, factors, canvas = self._look, self._factors, self.canvas
        u, v = side * look.eye_distance, look.eye_level
        centre, tilt = self._at(u, v), self._factors.roll_turns + side * look.eye_tilt
        socket = self._ellipse((u, v - 0.03), (look.eye_width * 1.25, look.eye_height * 2.1))
        canvas.paint(socket, lit(look.skin, 0.86), 0.6)
        radii = self._px(u, look.eye_width, look.eye_height * factors.eyes_open)
        canvas.paint(
            canvas.lens(
                (centre[0], centre[1] - 0.25 * radii[1]), (radii[0] * 1.08, radii[1] * 1.3), 0, tilt
            ),
            lit(look.hair_colour, 0.45),
        )
        white = canvas.lens(centre, radii, 0.0, tilt)
        canvas.paint(white, (0.95, 0.94, 0.93))
        size = look.eye_height * 0.95
        middle = self._at(u + factors.gaze * look.eye_width, v)
        for radius, colour in ((size, look.iris), (size * 0.5, (0.03, 0.03, 0.03))):
            width = self._px(u, radius, radius)
            canvas.paint(canvas.ellipse(middle, width).within(white), colour)
        spark = (middle[0] - 0.3 * radii[1], middle[1] - 0.3 * radii[1])
        canvas.paint(canvas.ellipse(spark, (radii[1] * 0.25,) * 2).within(white), (1.0, 1.0, 1.0))
        raised = look.brow_level + 0.05 * factors.mouth_open
        brow = self._at(u * 1.04, v - raised)
        size_px = self._px(u, look.eye_width * 1.3, look.brow_thickness)
        bend = look.brow_bend * factors.scale_px
        shape = canvas.lens(brow, size_px, bend, tilt)
        canvas.paint(shape, lit(look.hair_colour, 0.7), 0.9)
        return centre

    def nose(self) -> Point:
        """Bridge, tip and nostrils; returns the tip."""
        look, canvas = self._look, self.canvas
        base = look.eye_level + look.nose_length
        shade = lit(look.skin, 0.8)
        bridge = [self._at(u, v, out) for u, v, out in (
            (-0.05, look.eye_level - 0.05, 0.35), (0.05, look.eye_level - 0.05, 0.35),
            (look.nose_width * 0.8, base, 0.5), (-look.nose_width * 0.8, base, 0.5),
        )]  # fmt: skip
        canvas.paint(canvas.polygon(bridge), lit(look.skin, 0.93), 0.8)
        for side in (-1.0, 1.0):
            wing = self._ellipse(
                (side * look.nose_width * 0.75, base), (look.nose_width * 0.5, 0.075), 0.45
            )
            canvas.paint(wing, shade)
        tip = self._at(0.0, base - 0.03, 0.55)
        canvas.paint(
            self._ellipse((0.0, base - 0.03), (look.nose_width * 0.66, 0.1), 0.55),
            lit(look.skin, 1.05),
        )
        for side in (-1.0, 1.0):
            hole = self._ellipse((side * look.nose_width * 0.5, base + 0.055), (0.05, 0.028), 0.5)
            canvas.paint(hole, lit(look.skin, 0.4))
        canvas.paint(self._ellipse(look.mole, (0.035, 0.035)), lit(look.skin, 0.45))
        return tip

    def mouth(self) -> tuple[Point, Point]:
        """Lips, and teeth behind open ones; returns the corners."""
        look, factors, canvas = self._look, self._factors, self.canvas
        width = look.mouth_width * (1 + 0.2 * factors.smile)
        gap = 0.10 * factors.mouth_open
        lift = -0.10 * factors.smile
        colour = mixed(look.lips, (0.75, 0.08, 0.15), 0.75) if factors.lipstick else look.lips
        level = look.mouth_level + 0.04
        centre, (half, _) = self._at(0.0, level, 0.4), self._px(0.0, width, 0.0, 0.4)
        scale, turn = factors.scale_px, factors.roll_turns
        bend = lift * scale
        lips = canvas.lens(centre, (half, (look.lip_thickness + gap) * scale), bend, turn)
        canvas.paint(lips, colour)
        inner = max(gap * scale, 0.0)
        line = canvas.lens(centre, (half * 0.94, inner + 0.018 * scale), bend, turn)
        canvas.paint(line, (0.25, 0.07, 0.07))
        if gap > 0.03:
            teeth = canvas.lens(
                (centre[0], centre[1] - 0.4 * inner), (half * 0.8, inner * 0.55), bend, turn
            )
            canvas.paint(teeth.within(line), (0.93, 0.92, 0.88))
        return self._tip(centre, -half, bend), self._tip(centre, half, bend)

    def _tip(self, centre: Point, along: float, aside: float) -> Point:
        return (
            centre[0] + along * self._cosine - aside * self._sine,
            centre[1] + along * self._sine + aside * self._cosine,
        )

    def light(self) -> None:
        """Makes the side of the face that the light falls on brighter, and its rim darker."""
        factors = self._factors
        sine, cosine = sincos(factors.light / NUM_LIGHTS)
        canvas = self.canvas
        whole = canvas.everywhere()
        reach = 1.2 * factors.scale_px
        across = _ramp(whole.columns, factors.centre_xy[0], reach) * np.float32(cosine)
        down = _ramp(whole.rows, factors.centre_xy[1], reach) * np.float32(sine)
        slope = np.float32(factors.light_strength)
        canvas.shade(whole, np.float32(1) + slope * (across[None, :] + down[:, None]))

    def fringe(self) -> None:
        """The hair in front of the head."""
        look, factors, canvas = self._look, self._factors, self.canvas
        if factors.hair == "bald":
            return
        cap = self._ellipse((0.0, -0.16), (1.1, look.head_height - 0.02), 0.0)
        side = 0.35 if factors.hair in ("long", "bob") else 0.1
        face = self._ellipse(
            (0.0, 0.55 - 0.2 * side), (0.98 - 0.3 * side, 0.55 + look.hairline), 0.15
        )
        hair = cap.without(face)
        below = canvas.box(-9999, self._at(0, side, 0.0)[1], 9999, 9999)
        hair = hair.without(below) if factors.hair in ("short", "bun") else hair
        dark = lit(look.hair_colour, 0.8)
        strands = canvas.textured(
            hair, (look.hair_colour, dark), "noise",
            (0.06 * factors.scale_px, 0.6 * factors.scale_px), factors.identity,
        )  # fmt: skip
        canvas.paint(hair, strands)

    def glasses(self) -> None:
        """Two dark rings and a bridge."""
        look, canvas = self._look, self.canvas
        radius = min(look.eye_distance * 0.78, 0.33)
        rim = max(0.035 * self._factors.scale_px, 0.8)
        for side in (-1.0, 1.0):
            ring = self._ellipse(
                (side * look.eye_distance, look.eye_level + 0.02), (radius, radius * 0.85)
            )
            canvas.paint(ring.without(ring.eroded(rim)), (0.08, 0.08, 0.1))
        bridge = self._at(0.0, look.eye_level, 0.35)
        canvas.paint(
            canvas.ellipse(bridge, self._px(0.0, look.eye_distance - radius + 0.02, 0.03)),
            (0.08, 0.08, 0.1),
        )


def _ramp(part: slice, centre: float, reach: float) -> Tile:
    places = (np.arange(part.start, part.stop) + 0.5 - centre) / reach
    return np.minimum(np.maximum(places, -1.0), 1.0).astype(np.float32)

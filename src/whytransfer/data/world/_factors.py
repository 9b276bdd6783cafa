"""The factors of a picture: what is drawn of it, and the exact truth that follows.

Coordinates are pixels, x right and y down, 0-based and continuous: the first pixel's centre is
(0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream
from whytransfer.data.world._exact import hsv_to_rgb, sincos

Rgb = tuple[float, float, float]
Mask = NDArray[np.bool_]

BACKGROUNDS: tuple[Rgb, ...] = (
    (0.58, 0.58, 0.58),
    (0.50, 0.51, 0.54),
    (0.60, 0.57, 0.53),
    (0.47, 0.49, 0.46),
    (0.66, 0.66, 0.67),
    (0.54, 0.50, 0.51),
)
"""Colours of the backgrounds, near grey: they must not tell one picture from another."""

NUM_LIGHTS = 8
"""Directions that light can come from: the eighths of a turn."""

MIN_VISIBLE = 0.5
"""An object of which a smaller share of its silhouette is to be seen is ``difficult``."""

MIN_SIDE_PX = 8
"""An object whose box has a shorter side than this is ``difficult``."""

_NUM_MARKS = 3


@dataclass(frozen=True)
class Background:
    """What a picture shows besides its objects.

    Attributes:
        background: Index into the shared backgrounds.
        colour: Its colour, RGB in [0, 1].
        light: Index of the direction that the light comes from, in eighths of a turn.
        light_xy: That direction, a unit vector.
    """

    background: int
    colour: Rgb
    light: int
    light_xy: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Everything that is drawn of one object: its factors.

    Attributes:
        category: Name of its class in the dataset.
        shape: Name of its shape.
        surface: Name of its surface family.
        centre_xy: Centre of its shape, pixels.
        radius_px: Distance of its farthest point from the centre.
        angle_deg: Rotation, clockwise as seen.
        hue: Hue of its main colour, in turns.
        colour: Main colour, RGB in [0, 1].
        second_colour: The surface's other colour.
        mark_colour: Colour of band and marks.
        period: Texture period in object radii.
        texture_deg: Rotation of the texture on the object.
        surface_seed: Fixes phase and random places of the surface.
        band: A straight band's direction in turns and its offset from the centre in radii.
        marks: Round marks: x, y and radius on the unrotated object, in object radii.
    """

    category: str
    shape: str
    surface: str
    centre_xy: tuple[float, float]
    radius_px: float
    angle_deg: float
    hue: float
    colour: Rgb
    second_colour: Rgb
    mark_colour: Rgb
    period: float
    texture_deg: float
    surface_seed: int
    band: tuple[float, float]
    marks: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ObjectFactors(Figure):
    """An object's factors, and the truth that follows from them and from what covers it.

    Attributes:
        box_xyxy: Tight bounds of the silhouette inside the image, whatever covers it: absolute
            pixels, continuous, 0-based; an object of the first pixel alone has (0, 0, 1, 1).
        visible: (H, W) where the object is to be seen.
        visible_share: Visible pixels by pixels of the whole silhouette, inside the image or not.
        truncated: The silhouette crosses the edge of the image.
        difficult: Less than half is visible, or the box's shorter side is under 8 pixels.
    """

    box_xyxy: tuple[float, float, float, float]
    visible: Mask
    visible_share: float
    truncated: bool
    difficult: bool


@dataclass(frozen=True)
class Rendered:
    """A picture and everything that it was made from.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        objects: Its objects, back to front.
        background: What is behind them.
    """

    image: NDArray[np.uint8]
    objects: tuple[ObjectFactors, ...]
    background: Background


@dataclass(frozen=True)
class Pose:
    """Where and how an object stands: centre in pixels, radius in pixels, rotation in turns."""

    centre_xy: tuple[float, float]
    radius_px: float
    turn: float


def draw_background(stream: Stream, num_backgrounds: int) -> Background:
    """Draws one of the shared backgrounds and one of the directions of light."""
    background, light = stream.integer(num_backgrounds), stream.integer(NUM_LIGHTS)
    sine, cosine = sincos(light / NUM_LIGHTS)
    return Background(background, BACKGROUNDS[background], light, (cosine, sine))


def draw_figure(stream: Stream, category: str, shape: str, surface: str, pose: Pose) -> Figure:
    """Draws what an object of that class, shape, surface and pose looks like.

    Its main colour is bright, the second one dark, that of the marks pale; hues are free.
    """
    hue, hue_step, hue_mark, *levels = stream.uniform(7).tolist()
    period, texture_turn, band_turn, band_offset = stream.uniform(4).tolist()
    marks = stream.uniform(3 * _NUM_MARKS).reshape(_NUM_MARKS, 3).tolist()
    return Figure(
        category=category,
        shape=shape,
        surface=surface,
        centre_xy=pose.centre_xy,
        radius_px=pose.radius_px,
        angle_deg=pose.turn * 360,
        hue=hue,
        colour=hsv_to_rgb(hue, 0.45 + 0.5 * levels[0], 0.75 + 0.23 * levels[1]),
        second_colour=hsv_to_rgb((hue + hue_step) % 1, 0.3 + 0.6 * levels[2], 0.3),
        mark_colour=hsv_to_rgb(hue_mark, 0.6 * levels[3], 0.97),
        period=0.36 + 0.2 * period,
        texture_deg=texture_turn * 360,
        surface_seed=int(stream.raw(1)[0] >> np.uint64(32)),
        band=(band_turn, 0.9 * band_offset - 0.45),
        marks=tuple((1.3 * x - 0.65, 1.3 * y - 0.65, 0.07 + 0.09 * r) for x, y, r in marks),
    )

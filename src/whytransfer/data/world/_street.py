"""Paints a street in perspective, and keeps for each pixel its class and its object.

World coordinates are metres: x to the right of the middle of the road, y up from the ground, z
ahead. The street is endless: what stands along it is drawn cell by cell, 12 m each, from streams
of (scene, cell), so a camera that drives on meets the same things again, only nearer.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream
from whytransfer.data.world._canvas import Canvas, Point, Region, Tile, column, fall, lit, mixed
from whytransfer.data.world._exact import hsv_to_rgb
from whytransfer.data.world._factors import Rgb

CLASSES = {
    "sky": 1, "building": 2, "road": 3, "sidewalk": 4, "fence": 5, "vegetation": 6, "pole": 7,
    "car": 8, "traffic sign": 9, "pedestrian": 10, "bicycle": 11, "motorcycle": 12,
    "traffic light": 15, "rider": 17, "bus": 19, "wall": 21, "lane marking": 22,
}  # fmt: skip
"""Classes of the world's streets with their numbers in SYNTHIA-RAND-CITYSCAPES."""

CELL_M = 12.0
NEAR_M, FAR_M = 2.0, 110.0
SLOTS = 16
"""Most objects of one cell that have a number."""

FIRST_CELL_INSTANCE = 64
"""Numbers below are those of vehicles that move; each cell has ``SLOTS`` from here on."""

_NUM_CELL_IDS = 2048
_NUM_DRAWS = 16
_DARK: Rgb = (0.10, 0.10, 0.12)


@dataclass(frozen=True, kw_only=True)
class StreetScene:
    """What is the same all along a street.

    Attributes:
        road_m: Half the width of the road.
        pavement_m: Width of each pavement.
        sky: Colours at the top of the picture and at the horizon.
        daylight: Brightness of everything else.
        asphalt: Colour of the road.
        haze: How much the distance takes the sky's colour.
        building_hue: Hue around which the houses' hues lie, in turns.
        greenery: Share of the places along the street that have a tree.
        camera_m: (x, y) of the camera.
        focal: Focal length by the picture's width.
        horizon: Height of the horizon by the picture's height, from the top.
    """

    road_m: float
    pavement_m: float
    sky: tuple[Rgb, Rgb]
    daylight: float
    asphalt: Rgb
    haze: float
    building_hue: float
    greenery: float
    camera_m: Point
    focal: float
    horizon: float


@dataclass(frozen=True)
class Thing:
    """Something along the street: kind, number (0 for none), place in metres, numbers in [0, 1)."""

    kind: str
    instance: int
    x: float
    z: float
    draws: tuple[float, ...]

    @property
    def seed(self) -> int:
        """Fixes the random places of its surface."""
        return int(self.draws[-1] * (1 << 30))


def draw_scene(stream: Stream) -> StreetScene:
    """Draws a street."""
    road, pavement, day, grey, haze, hue, green = stream.uniform(7).tolist()
    across, up, focal, horizon, warm = stream.uniform(5).tolist()
    top = mixed((0.28, 0.48, 0.80), (0.66, 0.68, 0.72), grey)
    low = mixed((0.80, 0.88, 0.95), (0.95, 0.78, 0.62), warm)
    level = 0.55 + 0.55 * day
    road_m = 3.6 + 3.4 * road
    return StreetScene(
        road_m=road_m,
        pavement_m=2.2 + 2.2 * pavement,
        sky=(lit(top, level), lit(low, level)),
        daylight=level,
        asphalt=lit((0.34, 0.34, 0.36), 0.8 + 0.5 * grey),
        haze=0.25 + 0.5 * haze,
        building_hue=hue,
        greenery=0.15 + 0.6 * green,
        camera_m=(road_m * (0.05 + 0.5 * across), 1.3 + 1.2 * up),
        focal=0.7 + 0.35 * focal,
        horizon=0.40 + 0.12 * horizon,
    )


class StreetPainter:
    """Paints one picture of a street; ``labels`` and ``instances`` follow each stroke."""

    def __init__(self, scene: StreetScene, size: tuple[int, int], camera_x: float) -> None:
        height, width = size
        self.canvas = Canvas(height, width)
        self.labels: NDArray[np.uint8] = np.zeros(size, dtype=np.uint8)
        self.instances: NDArray[np.uint16] = np.zeros(size, dtype=np.uint16)
        self.scene = scene
        self._camera = (camera_x, scene.camera_m[1])
        self._middle = (width / 2, height * scene.horizon)
        self._focal = scene.focal * width

    def at(self, x: float, y: float, z: float) -> Point:
        """Pixels of a place in the world."""
        scale = self._focal / z
        return (
            self._middle[0] + (x - self._camera[0]) * scale,
            self._middle[1] + (self._camera[1] - y) * scale,
        )

    def stroke(self, region: Region, kind: str, colour: Rgb | Tile, instance: int = 0) -> None:
        """Paints a region and marks its pixels as that class and object."""
        if not region.depth.size:
            return
        self.canvas.paint(region, colour)
        inside = region.inside
        np.copyto(self.labels[region.rows, region.columns], CLASSES[kind], where=inside)
        np.copyto(self.instances[region.rows, region.columns], instance, where=inside)

    def fine(self, z: float) -> bool:
        """Whether small parts can be seen at that distance: a metre has six pixels there."""
        return self._focal > 6 * z

    def hazed(self, colour: Rgb, z: float) -> Rgb:
        """A colour as it is seen at a distance."""
        share = self.scene.haze * min(z / FAR_M, 1.0)
        return mixed(lit(colour, self.scene.daylight), self.scene.sky[1], share)

    def upright(self, x: tuple[float, float], y: tuple[float, float], z: float) -> Region:
        """A rectangle that faces the camera."""
        left, top = self.at(x[0], y[1], z)
        right, bottom = self.at(x[1], y[0], z)
        return self.canvas.box(left, top, right, bottom)

    def along(self, x: float, y: tuple[float, float], z: tuple[float, float]) -> Region:
        """A rectangle along the street, at one distance from its middle."""
        near = [self.at(x, y[1], z[0]), self.at(x, y[0], z[0])]
        far = [self.at(x, y[0], z[1]), self.at(x, y[1], z[1])]
        corners = [*near, *far]
        return self.canvas.polygon(corners[::-1] if x < self._camera[0] else _turned(corners))

    def ball(self, place: tuple[float, float, float], radii_m: Point) -> Region:
        """An ellipse around a place."""
        scale = self._focal / place[2]
        return self.canvas.ellipse(self.at(*place), (radii_m[0] * scale, radii_m[1] * scale))

    def flat(self, x: tuple[float, float], z: tuple[float, float]) -> Region:
        """A strip of the ground."""
        return self.canvas.polygon(
            [
                self.at(x[0], 0, z[1]), self.at(x[1], 0, z[1]),
                self.at(x[1], 0, z[0]), self.at(x[0], 0, z[0]),
            ]
        )  # fmt: skip

    def ground(self, camera_z: float, seed: int) -> None:
        """Sky, pavements, road and its marks."""
        scene, canvas = self.scene, self.canvas
        self.stroke(canvas.everywhere(), "sky", fall(canvas, *scene.sky))
        near, far = 0.6, 4 * FAR_M
        paved = lit(mixed(scene.asphalt, (0.62, 0.58, 0.55), 0.6), scene.daylight * 1.1)
        wide = 12 * FAR_M
        floor = self.flat((-wide, wide), (near, far))
        self.stroke(floor, "sidewalk", self._grainy(floor, paved, seed))
        road = self.flat((-scene.road_m, scene.road_m), (near, far))
        self.stroke(road, "road", self._grainy(road, lit(scene.asphalt, scene.daylight), seed + 1))
        white = lit((0.88, 0.88, 0.84), scene.daylight)
        for side in (-1.0, 1.0):
            edge = side * (scene.road_m - 0.25)
            line = self.flat((edge - 0.07, edge + 0.07), (near, far))
            self.stroke(line, "lane marking", white)
        first = math.floor((camera_z + NEAR_M) / 6.0)
        for dash in range(first, first + 14):
            start = dash * 6.0 - camera_z
            if start > 0.7:
                line = self.flat((-0.09, 0.09), (start, start + 3.0))
                self.stroke(line, "lane marking", white)

    def _grainy(self, region: Region, colour: Rgb, seed: int) -> Tile:
        pair = (lit(colour, 0.93), lit(colour, 1.07))
        return self.canvas.textured(region, pair, "noise", (7.0, 2.5), seed)

    def facade(self, x: float, z: tuple[float, float], height: float, thing: Thing) -> None:
        """A house: the front along the street with windows, and its end that faces the camera."""
        hue, saturation, value, floor, bay, outward = thing.draws[1:7]
        tone = hsv_to_rgb(
            (self.scene.building_hue + 0.16 * hue) % 1, 0.08 + 0.4 * saturation, 0.4 + 0.45 * value
        )
        side = 1.0 if x > 0 else -1.0
        ends = (x, x + side * (8 + 6 * outward))
        end = self.upright((min(ends), max(ends)), (0.0, height), z[0])
        self.stroke(end, "building", self.hazed(lit(tone, 0.8), z[0]))
        front = self.along(x, (0.0, height), z)
        if not front.depth.size:
            return
        glass = self.hazed(mixed((0.12, 0.14, 0.18), self.scene.sky[0], 0.25 * bay), z[0])
        panes = self._panes(front, x, (2.8 + 1.2 * floor, 2.0 + 2.0 * bay), height)
        wall = column(self.hazed(tone, z[0]))
        self.stroke(front, "building", np.asarray(wall + panes * (column(glass) - wall)))

    def _panes(self, region: Region, x: float, period: Point, height: float) -> Tile:
        """Which pixels of a front show a window: its places in metres follow from the pixels."""
        px = np.arange(region.columns.start, region.columns.stop) + 0.5 - self._middle[0]
        sideways = x - self._camera[0]
        px = np.where(px * sideways > 1e-3, px, 1e9 if sideways > 0 else -1e9)
        z = (sideways * self._focal / px).astype(np.float32)
        py = np.arange(region.rows.start, region.rows.stop) + 0.5 - self._middle[1]
        y = np.float32(self._camera[1]) - (py / self._focal).astype(np.float32)[:, None] * z
        storey, bay = y / np.float32(period[0]), z / np.float32(period[1])
        up, along = storey - np.floor(storey), bay - np.floor(bay)
        windowed = (up > 0.3) & (up < 0.8) & (y < np.float32(height - 0.8))
        return np.asarray(windowed & (along > 0.25) & (along < 0.75)).astype(np.float32)


def _turned(corners: list[Point]) -> list[Point]:
    return [corners[0], corners[3], corners[2], corners[1]][::-1]


def cell_things(scene: StreetScene, seed: int, cell: int) -> list[Thing]:
    """Draws what stands in one cell of a street, at z from the start of the street."""
    stream = Stream(seed, "cell", cell)
    first = FIRST_CELL_INSTANCE + (cell % _NUM_CELL_IDS) * SLOTS
    kerb, inner = scene.road_m, scene.road_m + scene.pavement_m
    things = []
    for side in (-1.0, 1.0):
        chance, tree, parked, *places = stream.uniform(11).tolist()
        draws = _draws(stream, 8)
        start = cell * CELL_M
        kind = "house" if chance < 0.72 else ("fence" if chance < 0.86 else "wall")
        things.append(Thing(kind, 0, side * inner, start, draws[0]))
        if kind != "house":
            things.append(Thing("hedge", 0, side * (inner + 4), start + 6, draws[1]))
        if tree < scene.greenery:
            things.append(Thing("tree", 0, side * (kerb + 0.9), start + 11 * places[0], draws[2]))
        post = ("lamp", "sign", "light", "none")[int(4 * places[1])]
        if post != "none":
            things.append(Thing(post, 0, side * (kerb + 0.45), start + 11 * places[2], draws[3]))
        slot = first + (8 if side > 0 else 0)
        if parked < 0.35:
            things.append(Thing("car", slot, side * (kerb - 1.1), start + 7 * places[3], draws[4]))
        for number in range(int(2.6 * places[4])):
            across = kerb + 0.5 + (scene.pavement_m - 0.8) * places[5 + number]
            ahead = start + 11 * places[7 - number]
            person = Thing("pedestrian", slot + 1 + number, side * across, ahead, draws[5 + number])
            things.append(person)
    return things


def traffic(scene: StreetScene, seed: int, frame: int) -> list[Thing]:
    """Draws the vehicles that move, at z from the camera of that frame."""
    stream = Stream(seed, "traffic")
    draws = _draws(stream, 7)
    things = []
    for number in range(7):
        kind, lane, start, speed = stream.uniform(4).tolist()
        name = ("car", "car", "car", "bus", "bicycle", "motorcycle")[int(6 * kind)]
        side = 1.0 if lane < 0.5 else -1.0
        wide = scene.road_m - 0.8 if name in ("bicycle", "motorcycle") else scene.road_m * 0.48
        drift = (1.2 * speed - 0.6) if side > 0 else -(0.8 + speed)
        z = 7 + 15 * number + 9 * start + drift * frame
        things.append(Thing(name, 1 + 2 * number, side * wide, z, draws[number]))
    return things


def _draws(stream: Stream, count: int) -> list[tuple[float, ...]]:
    numbers = stream.uniform(count * _NUM_DRAWS).reshape(count, _NUM_DRAWS)
    return [tuple(row) for row in numbers.tolist()]

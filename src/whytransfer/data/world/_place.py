"""What the scenes of ``places`` are painted with.

Places are given in the unit square, (0, 0) the upper left corner. Every colour goes through one
grading that is drawn per picture (tint, brightness), so that colour alone does not tell a category.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whytransfer.core.streams import Stream
from whytransfer.data.world._canvas import Canvas, Point, Region, fall, lit, mixed
from whytransfer.data.world._exact import hsv_to_rgb
from whytransfer.data.world._factors import Rgb


@dataclass(frozen=True, kw_only=True)
class PlaceFactors:
    """What a picture shows.

    Attributes:
        category: The kind of scene.
        horizon: Height of the eye's level from the top, as a share of the picture.
        vanishing: Where lines along the view meet, as a share of the width.
        tint: The colour that all colours are mixed with.
        tint_share: How much of it.
        brightness: A factor of all colours.
        mirrored: The picture was mirrored.
    """

    category: str
    horizon: float
    vanishing: float
    tint: Rgb
    tint_share: float
    brightness: float
    mirrored: bool


def draw_place(stream: Stream, category: str) -> PlaceFactors:
    """Draws what holds for a whole picture."""
    horizon, vanishing, hue, saturation, share, bright, mirror = stream.uniform(7).tolist()
    return PlaceFactors(
        category=category,
        horizon=0.36 + 0.22 * horizon,
        vanishing=0.35 + 0.3 * vanishing,
        tint=hsv_to_rgb(hue, 0.3 + 0.5 * saturation, 0.8),
        tint_share=0.1 + 0.4 * share,
        brightness=0.55 + 0.55 * bright,
        mirrored=mirror < 0.5,
    )


class PlacePainter:
    """Paints one picture; ``draw`` gives the next number of its stream."""

    def __init__(self, canvas: Canvas, factors: PlaceFactors, stream: Stream) -> None:
        self.canvas, self.factors = canvas, factors
        self._draws = iter(stream.uniform(400).tolist())
        self._side = canvas.size[0]

    @property
    def eye(self) -> Point:
        """The vanishing point."""
        return self.factors.vanishing, self.factors.horizon

    def draw(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draws a number in [low, high)."""
        return float(low + next(self._draws) * (high - low))

    def tone(self, colour: Rgb) -> Rgb:
        """A colour as it looks in this picture."""
        tinted = mixed(colour, self.factors.tint, self.factors.tint_share)
        return lit(tinted, self.factors.brightness)

    def sky(self) -> None:
        """The sky and some clouds, everywhere."""
        clear = self.draw()
        top = mixed((0.30, 0.52, 0.86), (0.62, 0.64, 0.68), clear)
        low = mixed((0.84, 0.90, 0.95), (0.93, 0.75, 0.6), self.draw())
        colours = fall(self.canvas, self.tone(top), self.tone(low))
        self.canvas.paint(self.canvas.everywhere(), colours)
        for _ in range(int(4 * self.draw())):
            place = (self.draw(), self.draw(0.05, 0.8) * self.factors.horizon)
            self.ellipse(place, (self.draw(0.06, 0.2), self.draw(0.015, 0.04)), (0.95, 0.95, 0.96))

    def polygon(self, corners: Sequence[Point], colour: Rgb) -> Region:
        """Paints a convex polygon, its corners clockwise as seen."""
        region = self.canvas.polygon([(x * self._side, y * self._side) for x, y in corners])
        self.canvas.paint(region, self.tone(colour))
        return region

    def box(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> Region:
        """Paints an upright rectangle."""
        return self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ellipse(self, centre: Point, radii: Point, colour: Rgb) -> Region:
        """Paints an ellipse."""
        side = self._side
        region = self.canvas.ellipse(
            (centre[0] * side, centre[1] * side), (radii[0] * side, radii[1] * side)
        )
        self.canvas.paint(region, self.tone(colour))
        return region

    def texture(self, region: Region, colours: tuple[Rgb, Rgb], family: str, period: Point) -> None:
        """Paints a region in a pattern; the period is a share of the picture's side."""
        if region.depth.size:
            pair = (self.tone(colours[0]), self.tone(colours[1]))
            period_px = (period[0] * self._side, period[1] * self._side)
            seed = int(self.draw() * (1 << 30))
            tile = self.canvas.textured(region, pair, family, period_px, seed)
            self.canvas.paint(region, tile)

    def ground(self, colours: tuple[Rgb, Rgb], period: Point, family: str = "noise") -> None:
        """Paints all below the eye's level in a pattern."""
        self.texture(self.box(0, self.eye[1], 1, 1, colours[0]), colours, family, period)

    def inward(self, corner: Point, share: float) -> Point:
        """The place at a share of the way from a corner to the vanishing point."""
        x, y = self.eye
        return corner[0] + share * (x - corner[0]), corner[1] + share * (y - corner[1])

    def strip(self, one: Point, other: Point, near: float, far: float, colour: Rgb) -> Region:
        """A plane that recedes from the line between two corners, clockwise as seen."""
        return self.polygon(
            [
                self.inward(one, near), self.inward(other, near),
                self.inward(other, far), self.inward(one, far),
            ],
            colour,
        )  # fmt: skip

    def room(self, walls: Rgb, floor: Rgb, depth: float) -> None:
        """Ceiling, floor, two walls and the far one."""
        corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
        shades = (lit(walls, 1.12), lit(walls, 0.86), floor, lit(walls, 0.94))
        for one, other, shade in zip(corners, (*corners[1:], corners[0]), shades, strict=True):
            self.strip(one, other, -0.5, depth, shade)
        self.polygon([self.inward(corner, depth) for corner in corners], walls)

    def tree(self, foot: Point, height: float, pointed: bool) -> None:
        """Paints a tree."""
        x, y = foot
        wood: Rgb = (0.27, 0.19, 0.12)
        leaves = hsv_to_rgb(self.draw(0.2, 0.38), 0.55, self.draw(0.25, 0.5))
        self.box(x - 0.035 * height, y - 0.5 * height, x + 0.035 * height, y, wood)
        if pointed:
            for level in (0.2, 0.42, 0.64):
                wide = (1.0 - level) * 0.3 * height
                tip = y - height * (level + 0.42)
                low = y - height * level
                self.polygon([(x - wide, low), (x, tip), (x + wide, low)], leaves)
            return
        for _ in range(3):
            at = (x + self.draw(-0.16, 0.16) * height, y - self.draw(0.55, 0.9) * height)
            self.ellipse(at, (0.22 * height, 0.2 * height), lit(leaves, self.draw(0.8, 1.2)))

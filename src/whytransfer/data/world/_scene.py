"""Paints figures on a plain lit background and works out the truth about what is to be seen.

A pixel belongs to an object where its centre lies inside the object's shape; edges are smoothed
over one pixel, symmetrically about that boundary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream
from whytransfer.data.world._exact import sincos
from whytransfer.data.world._factors import (
    MIN_SIDE_PX,
    MIN_VISIBLE,
    Background,
    Figure,
    Mask,
    ObjectFactors,
    Rendered,
    Rgb,
)
from whytransfer.data.world._shapes import signed_distance
from whytransfer.data.world._surfaces import second_colour_share

Tile = NDArray[np.float32]

_BACKGROUND_FALL = np.float32(0.22)
_OBJECT_FALL = 0.3
_RIM_PX = np.float32(2.0)
_RIM_DARKNESS = np.float32(0.55)
_NOISE_LEVELS = np.float32(4 / 255)


def compose(
    figures: Sequence[Figure], background: Background, size_px: int, stream: Stream
) -> Rendered:
    """Paints figures back to front on a background, adds slight noise, and works out the truth.

    A figure of which no pixel is to be seen is left out of the truth.
    """
    canvas = _backdrop(background, size_px).copy()
    silhouettes = [_paint(canvas, figure, background.light_xy) for figure in figures]
    covered = np.zeros((size_px, size_px), dtype=np.bool_)
    objects = []
    for figure, (silhouette, num_pixels) in zip(
        reversed(figures), reversed(silhouettes), strict=True
    ):
        visible = silhouette & ~covered
        if visible.any():
            objects.append(_with_truth(figure, silhouette, num_pixels, visible))
        covered |= silhouette
    return Rendered(develop(canvas, stream), tuple(reversed(objects)), background)


@lru_cache(maxsize=64)
def _backdrop(background: Background, size_px: int) -> Tile:
    """The background alone, (3, H, W) in [0, 1], brighter towards the light."""
    axis = ((np.arange(size_px) + 0.5) * 2 / size_px - 1).astype(np.float32)
    light_x, light_y = (np.float32(part) for part in background.light_xy)
    light = (axis * light_x)[None, :] + (axis * light_y)[:, None]
    colour = np.array(background.colour, dtype=np.float32)[:, None, None]
    return np.asarray(colour * (np.float32(1) + _BACKGROUND_FALL * light))


@dataclass(frozen=True)
class _Window:
    """The square of pixels around a figure, and their places relative to it.

    ``x`` and ``y`` are on the unrotated object in object radii, ``facing`` is how far a pixel lies
    towards the light, in object radii.
    """

    left: int
    top: int
    x: Tile
    y: Tile
    facing: Tile


def _window(figure: Figure, light_xy: tuple[float, float]) -> _Window:
    (centre_x, centre_y), radius = figure.centre_xy, figure.radius_px
    left, right = math.floor(centre_x - radius - 1), math.ceil(centre_x + radius + 1)
    top, bottom = math.floor(centre_y - radius - 1), math.ceil(centre_y + radius + 1)
    across = (np.arange(left, right) + 0.5 - centre_x) / radius
    down = (np.arange(top, bottom) + 0.5 - centre_y) / radius
    sine, cosine = sincos(figure.angle_deg / 360)
    return _Window(
        left,
        top,
        x=_plane(across * cosine, down * sine),
        y=_plane(across * -sine, down * cosine),
        facing=_plane(across * light_xy[0], down * light_xy[1]),
    )


def _plane(across: NDArray[np.floating[Any]], down: NDArray[np.floating[Any]]) -> Tile:
    return np.asarray(across.astype(np.float32)[None, :] + down.astype(np.float32)[:, None])


def _paint(canvas: Tile, figure: Figure, light_xy: tuple[float, float]) -> tuple[Mask, int]:
    """Paints a figure over the canvas in place.

    Returns the silhouette inside the image, and its count of pixels inside the image or not.
    """
    window = _window(figure, light_xy)
    depth_px = signed_distance(figure.shape, window.x, window.y) * np.float32(-figure.radius_px)
    inside = depth_px > 0
    height, width = canvas.shape[1:]
    rows = slice(max(window.top, 0), min(window.top + inside.shape[0], height))
    columns = slice(max(window.left, 0), min(window.left + inside.shape[1], width))
    part = (
        slice(rows.start - window.top, rows.stop - window.top),
        slice(columns.start - window.left, columns.stop - window.left),
    )
    silhouette = np.zeros((height, width), dtype=np.bool_)
    silhouette[rows, columns] = inside[part]
    seen = canvas[:, rows, columns]
    cover = _unit(depth_px[part] + np.float32(0.5))
    seen += cover * (_colours(figure, window, depth_px)[:, *part] - seen)
    return silhouette, int(np.count_nonzero(inside))


def _colours(figure: Figure, window: _Window, depth_px: Tile) -> Tile:
    """The lit colours of the object's surface, (3, h, w); its rim is darker."""
    sine, cosine = sincos(figure.texture_deg / 360)
    scale, pixel = 1 / figure.period, 1 / figure.radius_px
    along = window.x * np.float32(cosine * scale) + window.y * np.float32(sine * scale)
    aside = window.y * np.float32(cosine * scale) - window.x * np.float32(sine * scale)
    share = second_colour_share(figure.surface, along, aside, pixel * scale, figure.surface_seed)
    colours = _mixed(_column(figure.colour), _column(figure.second_colour), share)
    colours = _mixed(colours, _column(figure.mark_colour), _marked(figure, window))
    rim = np.float32(1) - _RIM_DARKNESS * _unit(np.float32(1) - depth_px / _RIM_PX)
    return np.asarray(colours * (rim * (np.float32(1) + np.float32(_OBJECT_FALL) * window.facing)))


def _marked(figure: Figure, window: _Window) -> Tile:
    """How much of each pixel the band and the round marks take, in [0, 1]."""
    turn, offset = figure.band
    sine, cosine = sincos(turn)
    across = window.x * np.float32(cosine) + window.y * np.float32(sine)
    depth = np.float32(0.06) - np.abs(across - np.float32(offset))
    for x, y, radius in figure.marks:
        dx, dy = window.x - np.float32(x), window.y - np.float32(y)
        depth = np.maximum(depth, np.float32(radius) - np.sqrt(dx * dx + dy * dy))
    return _unit(depth * np.float32(figure.radius_px) + np.float32(0.5))


def _column(colour: Rgb) -> Tile:
    return np.array(colour, dtype=np.float32)[:, None, None]


def _mixed(first: Tile, second: Tile, share: Tile) -> Tile:
    return np.asarray(first + share * (second - first))


def _unit(values: Tile) -> Tile:
    return np.minimum(np.maximum(values, np.float32(0)), np.float32(1))


def _with_truth(figure: Figure, silhouette: Mask, num_pixels: int, visible: Mask) -> ObjectFactors:
    columns = np.flatnonzero(silhouette.any(axis=0))
    rows = np.flatnonzero(silhouette.any(axis=1))
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    visible_share = int(np.count_nonzero(visible)) / num_pixels
    return ObjectFactors(
        **vars(figure),
        box_xyxy=(float(left), float(top), float(right), float(bottom)),
        visible=visible,
        visible_share=visible_share,
        truncated=int(np.count_nonzero(silhouette)) < num_pixels,
        difficult=visible_share < MIN_VISIBLE or min(right - left, bottom - top) < MIN_SIDE_PX,
    )


def develop(canvas: Tile, stream: Stream) -> NDArray[np.uint8]:
    """Turns a canvas into (H, W, 3) bytes, with uniform noise of at most two grey levels."""
    count = canvas.size
    grains = stream.raw((count + 7) // 8).astype("<u8").view(np.uint8)[:count]
    noise = grains.astype(np.float32).reshape(canvas.shape) * _NOISE_LEVELS
    levels = canvas * np.float32(255) + (noise - np.float32(1.5))
    levels = np.minimum(np.maximum(levels, np.float32(0)), np.float32(255))
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))

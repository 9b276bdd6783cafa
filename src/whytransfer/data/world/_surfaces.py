"""The surface families of the world: how an object's two colours share its surface."""

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream

Tile = NDArray[np.float32]

_HALF = np.float32(0.5)
_QUARTER = np.float32(0.25)
_LATTICE = 8


def _share(depth: Tile, softness: float) -> Tile:
    """How much of a pixel lies where ``depth`` is positive; softness is one pixel's width."""
    scaled = depth / np.float32(softness) + _HALF
    return np.asarray(np.minimum(np.maximum(scaled, np.float32(0)), np.float32(1)))


def _fold(x: Tile) -> Tile:
    """Distance to the middle of the period, in [0, 1/2]."""
    return np.asarray(np.abs(x - np.floor(x) - _HALF))


def _stripes(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    return _share(_fold(x) - _QUARTER, softness)


def _checks(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    across, down = _fold(x) - _QUARTER, _fold(y) - _QUARTER
    either = np.maximum(np.minimum(across, -down), np.minimum(-across, down))
    return _share(either, softness)


def _dots(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    across, down = _fold(x), _fold(y)
    return _share(np.float32(0.32) - np.sqrt(across * across + down * down), softness)


def _lines(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    zigzag = y + _fold(x) * np.float32(1.2)
    return _share(np.float32(0.13) - _fold(zigzag), softness)


def _cells(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    """Voronoi cells of 16 points, one jittered in each square of a lattice, with dark seams."""
    draws = stream.uniform(48).astype(np.float32).reshape(3, 16, 1, 1)
    squares = np.arange(16, dtype=np.int64).reshape(16, 1, 1)
    step = np.float32(1.4)
    dx = ((squares % 4 - 2).astype(np.float32) + draws[0]) * step - x
    dy = ((squares // 4 - 2).astype(np.float32) + draws[1]) * step - y
    squared = dx * dx + dy * dy
    first = squared.argmin(axis=0)[None]
    near = np.sqrt(np.take_along_axis(squared, first, axis=0)[0])
    np.put_along_axis(squared, first, np.float32(1e9), axis=0)
    next_near = np.sqrt(squared.min(axis=0))
    level = draws[2].ravel().take(first[0]) * np.float32(0.7)
    seam = _share(np.float32(0.12) - (next_near - near), softness)
    return np.asarray(level + seam * (np.float32(1) - level))


def _noise(x: Tile, y: Tile, softness: float, stream: Stream) -> Tile:
    """Value noise of two octaves, its contrast stretched."""
    lattice = stream.uniform(_LATTICE * _LATTICE).astype(np.float32)
    x, y = x * np.float32(1.4), y * np.float32(1.4)
    coarse = _value_noise(lattice, x, y)
    fine = _value_noise(lattice, x * np.float32(2) + _HALF, y * np.float32(2) + _HALF)
    mixed = coarse + _HALF * fine - np.float32(0.75)
    return _share(mixed, 0.5)


def _value_noise(lattice: Tile, x: Tile, y: Tile) -> Tile:
    left, top = np.floor(x), np.floor(y)
    across, down = _smooth(x - left), _smooth(y - top)
    column, row = left.astype(np.int32), top.astype(np.int32)
    mask = np.int32(_LATTICE - 1)
    columns = (column & mask, (column + 1) & mask)
    upper, lower = (r * np.int32(_LATTICE) for r in (row & mask, (row + 1) & mask))
    at_upper = [lattice.take(upper + c) for c in columns]
    at_lower = [lattice.take(lower + c) for c in columns]
    above = at_upper[0] + across * (at_upper[1] - at_upper[0])
    below = at_lower[0] + across * (at_lower[1] - at_lower[0])
    return np.asarray(above + down * (below - above))


def _smooth(part: Tile) -> Tile:
    return part * part * (np.float32(3) - np.float32(2) * part)


_FAMILIES = {
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "cells": _cells,
    "lines": _lines,
}

SURFACES = tuple(_FAMILIES)
"""Names of the surface families."""


def second_colour_share(family: str, x: Tile, y: Tile, softness: float, seed: int) -> Tile:
    """Returns how much of the second colour shows at each point, in [0, 1].

    Args:
        family: One of ``SURFACES``.
        x: Place on the object in texture periods.
        y: As ``x``, at a right angle to it.
        softness: Width of a pixel in texture periods, over which edges are smoothed.
        seed: Fixes the random places of a family that has some, and every phase.
    """
    stream = Stream(seed, "surface")
    phase_x, phase_y = stream.uniform(2).astype(np.float32)
    if family != "cells":
        x, y = x + phase_x, y + phase_y
    return _FAMILIES[family](x, y, softness, stream)

"""Arithmetic whose bits are the same on every machine.

A picture of the world must be a function of its seed and index alone, so what reaches a pixel uses
only operations that IEEE 754 rounds correctly (+ − × ÷ √, comparisons, conversions) and integers.
The sine of a C library or of a vector unit differs in its last bit; this one does not.
"""

import math

_TWO_PI = 6.283185307179586
_SINE = (-1 / 1307674368000, 1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6)
_COSINE = (-1 / 87178291200, 1 / 479001600, -1 / 3628800, 1 / 40320, -1 / 720, 1 / 24, -1 / 2)


def sincos(turns: float) -> tuple[float, float]:
    """Returns sine and cosine of an angle in turns, to about 1e-15, from products and sums.

    The angle is reduced to the eighth of a turn around its nearest quarter, where the Taylor
    polynomials of degree 15 and 14 are exact to rounding.

    >>> sincos(0.0)
    (0.0, 1.0)
    """
    quarter = math.floor(turns * 4 + 0.5)
    x = (turns - quarter * 0.25) * _TWO_PI
    square = x * x
    sine, cosine = x * (1.0 + _horner(_SINE, square)), 1.0 + _horner(_COSINE, square)
    by_quarter = ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))
    return by_quarter[quarter % 4]


def _horner(coefficients: tuple[float, ...], square: float) -> float:
    value = 0.0
    for coefficient in coefficients:
        value = (value + coefficient) * square
    return value


def hsv_to_rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Converts a colour; hue in turns, the rest in [0, 1].

    >>> hsv_to_rgb(1 / 3, 1.0, 0.5)
    (0.0, 0.5, 0.0)
    """

    def channel(offset: float) -> float:
        sector = (hue * 6 + offset) % 6
        return value - value * saturation * max(0.0, min(sector, 4 - sector, 1.0))

    return channel(5), channel(3), channel(1)

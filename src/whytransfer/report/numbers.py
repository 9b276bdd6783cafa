"""How numbers are written on the page: the same decimals down a column, undefined is not zero."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

UNDEFINED = "undefined"
_MAX_DECIMALS = 6


@dataclass(frozen=True)
class Scale:
    """How the numbers of one metric are written.

    Attributes:
        decimals: Digits after the point, at least; a number that would be rounded to 0 without
            being 0 is given the digits that show it.
        unit: Unit of the values, such as ``%``.
    """

    decimals: int
    unit: str = ""

    def value(self, value: float | None) -> str:
        """Writes a value without its unit.

        >>> Scale(1).value(-51.34), Scale(1).value(None)
        ('−51.3', 'undefined')
        """
        if not _defined(value):
            return UNDEFINED
        return _fixed(value, self.decimals).replace("-", "−")

    def signed(self, value: float | None) -> str:
        """Writes a difference with its sign, without its unit."""
        text = self.value(value)
        return f"+{text}" if _defined(value) and float(text.replace("−", "-")) > 0 else text

    def interval(self, low: float | None, high: float | None) -> str:
        """Writes ``[low, high]``; an empty text where no interval can be given."""
        if not (_defined(low) and _defined(high)):
            return ""
        return f"[{self.value(low)}, {self.value(high)}]"

    @property
    def value_unit(self) -> str:
        """The unit behind a value, with the space that belongs before it."""
        return f" {self.unit}" if self.unit else ""

    @property
    def difference_unit(self) -> str:
        """The unit behind a difference: that of two percentages is points."""
        return " points" if self.unit == "%" else self.value_unit


def scale_of(values: Iterable[float | None], unit: str = "") -> Scale:
    """Chooses the decimals by the largest of the values: three digits or so, whole counts none."""
    defined = [value for value in values if _defined(value)]
    if all(value == round(value) for value in defined) and unit != "%":
        return Scale(0, unit)
    largest = max((abs(value) for value in defined), default=1.0)
    if unit == "%" and (largest >= 1 or largest == 0):
        return Scale(1, unit)
    leading = math.floor(math.log10(largest)) if largest > 0 else 0
    return Scale(min(max(2 - leading, 1), _MAX_DECIMALS), unit)


def count(number: int) -> str:
    """Writes a count with thousands apart.

    >>> count(4952)
    '4,952'
    """
    return f"{number:,}"


def plain(value: object) -> str:
    """Writes one entry of a free table: numbers to four digits, ``None`` as undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNDEFINED
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return count(value).replace("-", "−")
    if isinstance(value, float):
        return f"{value:,.4g}".replace("-", "−")
    return str(value)


def _defined(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _fixed(value: float, decimals: int) -> str:
    while round(value, decimals) == 0 and value != 0 and decimals < _MAX_DECIMALS:
        decimals += 1
    return f"{round(value, decimals) + 0.0:.{decimals}f}"

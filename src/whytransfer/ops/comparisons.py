"""Which of several differences are shown? Bootstrap p-values and Holm's correction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def bootstrap_p_value(draws: NDArray[np.float64]) -> float:
    """Returns how often a difference of either sign would arise by the draw of images alone.

    Twice the share of draws (B,) on the rarer side of 0, a draw of exactly 0 being on both; the
    plain data count as one more draw, so the least value is 2/(B + 1). Draws without a value (NaN)
    are left out.

    Source: Davison & Hinkley 1997, section 4.2 (the added draw); the percentile interval, inverted.
    """
    known = draws[~np.isnan(draws)]
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2.0 * (rarer + 1) / (len(known) + 1))


def fewest_draws(num_comparisons: int, level: float = 0.95) -> int:
    """Returns how many draws a bootstrap needs before Holm's correction can show anything.

    >>> fewest_draws(18)
    720
    """
    return int(np.ceil(2.0 * num_comparisons / (1.0 - level) - 1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number: below α with a chance of α for any false one.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """As :func:`holm`; what has no p-value stays without and is no part of the family.

    >>> holm_of_known([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    corrected = iter(holm([value for value in p_values if value is not None]))
    return [None if value is None else next(corrected) for value in p_values]

"""How sure is a number? Bootstrap over images and seeds, seed spread, smallest visible difference.

An image is the unit that is drawn: what was matched once is counted as often as its image was
drawn (``image_weights``). Two models that were tested on the same images are compared under the
same weights, so the interval is that of the paired difference between two fixed models. What
another seed would change is a different question, and is answered apart (``seed_spread``) or on
top (``resample_seeds``).

Letters in shapes: B draws, I images, S seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream

_FEWEST_SEEDS = 3


@dataclass(frozen=True)
class SeedSpread:
    """How much a number changes from seed to seed.

    Attributes:
        points: One value per seed, in the given order.
        mean: Their mean.
        deviation: Their standard deviation (divisor S - 1); None for a single seed.
        interval: Student's interval for the mean over all seeds there might be; None below three
            seeds, whose points should be shown instead.
    """

    points: tuple[float, ...]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


def image_weights(stream: Stream, num_images: int, num_draws: int) -> NDArray[np.int64]:
    """Draws (B, I): how often each image occurs among I images drawn with replacement.

    The first draws don't depend on how many follow.

    Source: Efron & Tibshirani 1993, chapter 6.
    """
    drawn = stream.integers(num_draws * num_images, num_images).reshape(num_draws, num_images)
    cell = drawn + np.arange(num_draws)[:, None] * num_images
    return np.bincount(cell.ravel(), minlength=num_draws * num_images).reshape(drawn.shape)


def resample_seeds(stream: Stream, per_seed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (B,) means over S seeds drawn with replacement, anew in every draw.

    The second level of a hierarchical bootstrap. Row s of ``per_seed`` (S, B) is what seed s
    scores under each draw of the images; all seeds share the images of a draw, since they are
    tested on the same ones. For a difference between two arms whose seeds have nothing to do
    with each other, resample each under a stream of its own and subtract.

    With few seeds this is too sure of itself: the variance between seeds enters by (S - 1)/S.
    """
    num_seeds, num_draws = per_seed.shape
    picked = stream.integers(num_draws * num_seeds, num_seeds).reshape(num_draws, num_seeds)
    means: NDArray[np.float64] = per_seed[picked.T, np.arange(num_draws)].mean(axis=0)
    return means


def percentile_interval(draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Returns the interval that holds the middle share ``level`` (in (0, 1)) of the draws.

    Draws without a value (NaN) are left out; without any, both ends are NaN.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    known = draws[~np.isnan(draws)]
    if len(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def seed_spread(values: Sequence[float], level: float = 0.95) -> SeedSpread:
    """Returns how the values of at least one seed spread, with an interval from three seeds on."""
    points = tuple(float(value) for value in values)
    if not points:
        raise ValueError("the spread over seeds needs at least one value")
    mean = math.fsum(points) / len(points)
    if len(points) == 1:
        return SeedSpread(points, mean, None, None)
    degrees = len(points) - 1
    deviation = math.sqrt(math.fsum((point - mean) ** 2 for point in points) / degrees)
    if len(points) < _FEWEST_SEEDS:
        return SeedSpread(points, mean, deviation, None)
    reach = student_quantile((1.0 + level) / 2.0, degrees) * deviation / math.sqrt(len(points))
    return SeedSpread(points, mean, deviation, (mean - reach, mean + reach))


def smallest_detectable(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """Returns the smallest true difference that would be shown with probability ``power``.

    In the unit of ``standard_error``, which is that of the estimated difference (the standard
    deviation of its draws): (z of (1 + level)/2 plus z of power) standard errors, 2.80 of them
    where nothing else is asked for.

    >>> round(smallest_detectable(1.0), 2)
    2.8

    Source: Cohen 1988, chapter 2, with normal quantiles.
    """
    normal = NormalDist()
    return (normal.inv_cdf((1.0 + level) / 2.0) + normal.inv_cdf(power)) * standard_error


def student_quantile(probability: float, degrees: int) -> float:
    """Returns the quantile of Student's t for whole degrees of freedom, at least 1.

    >>> round(student_quantile(0.975, 2), 3)
    4.303
    """
    from scipy.special import stdtrit  # here, since it takes a moment to import

    return float(stdtrit(degrees, probability))

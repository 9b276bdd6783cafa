"""How sure is what an arm loses, and what it loses more than another? Seeds, then images.

Letters: S seeds, B draws of the images, K quantities. Where there are fewer than three seeds, an
interval is the percentile bootstrap over the images and speaks of these fixed models alone. From
three on it is hierarchical: the variance of a mean is the sum of the seeds' (squared standard error
over the seeds) and the images' (bootstrap of the mean over the seeds), under Student's quantile for
Satterthwaite's degrees of freedom.

Two arms are compared on the same draws. Where they have the same seeds, the difference is taken
seed by seed; where they have other ones, the variances of both means are added.

Source: Efron & Tibshirani 1993, chapters 8 and 13; Welch 1947; Satterthwaite 1946; Holm 1979.
Differs: a percentile bootstrap over three to five seeds is too narrow, since it sees only
(S - 1)/S of the variance between them; hence the sum of variances.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.ops.comparisons import bootstrap_p_value, student_p_value
from whytransfer.ops.resampling import (
    FEWEST_SEEDS,
    percentile_interval,
    satterthwaite_degrees,
    student_quantile,
)

Floats = NDArray[np.float64]

LEVEL = 0.95
IMAGES = "images (these fixed models)"
SEEDS = "seeds then images"


@dataclass(frozen=True)
class Measured:
    """Some quantities of one arm.

    Attributes:
        seeds: (S,) of its runs.
        values: (S, K) at each seed; NaN where undefined.
        draws: (S, B, K) the same under each draw of the images, which all seeds share.
    """

    seeds: tuple[int, ...]
    values: Floats
    draws: Floats

    @property
    def mean(self) -> Floats:
        """(K,) over the seeds."""
        mean: Floats = self.values.mean(axis=0)
        return mean


@dataclass(frozen=True)
class Estimate:
    """One number, and how far it can be trusted.

    Attributes:
        value: NaN where undefined; so are the ends then.
        low, high: The 95 % interval.
        interval: What was resampled.
        p_value: How often a value as far from 0 would arise by chance.
        error: The standard error that a normal reading of it has.
    """

    value: float
    low: float
    high: float
    interval: str
    p_value: float
    error: float

    def metric(self, name: str, unit: str, n: int, better: bool = False) -> Metric:
        """Writes the number down; ``n`` images stand behind it."""
        known = not math.isnan(self.value) and not math.isnan(self.low)
        return Metric(
            name=name,
            value=number(self.value),
            unit=unit,
            higher_is_better=better,
            n=n,
            low=self.low if known else None,
            high=self.high if known else None,
            interval=self.interval if known else "none",
        )


def number(value: float) -> float | None:
    """Returns a plain number, ``None`` where it is undefined (NaN)."""
    return None if np.isnan(value) else float(value)


def estimates(own: Measured) -> list[Estimate]:
    """Returns the mean over the seeds of each quantity of an arm."""
    terms = _seed_terms(own.values) if len(own.seeds) >= FEWEST_SEEDS else None
    return _estimates(own.mean, own.draws.mean(axis=0), terms)


def differences(own: Measured, other: Measured, *, many: bool = False) -> list[Estimate]:
    """Returns how much larger each quantity of an arm is than another arm's, on the same images.

    Args:
        many: There are so many comparisons that the share of draws on one side of 0 can't resolve
            their p-values: those over images alone are then of the normal distribution, too.
    """
    draws = own.draws.mean(axis=0) - other.draws.mean(axis=0)
    values = own.mean - other.mean
    return _estimates(values, draws, _paired_terms(own, other), many=many)


def _paired_terms(own: Measured, other: Measured) -> list[tuple[Floats, int]] | None:
    if min(len(own.seeds), len(other.seeds)) < FEWEST_SEEDS:
        return None
    if set(own.seeds) == set(other.seeds):
        place = [other.seeds.index(seed) for seed in own.seeds]
        return _seed_terms(own.values - other.values[place])
    return _seed_terms(own.values) + _seed_terms(other.values)


def _seed_terms(values: Floats) -> list[tuple[Floats, int]]:
    """The variance of the mean over the seeds of (S, K) values, and its degrees of freedom."""
    return [(values.var(axis=0, ddof=1) / len(values), len(values) - 1)]


def _estimates(
    values: Floats,
    draws: Floats,
    terms: Sequence[tuple[Floats, int]] | None,
    *,
    many: bool = False,
) -> list[Estimate]:
    found = []
    for index, (value, column) in enumerate(zip(values.tolist(), draws.T, strict=True)):
        own = [(float(term[index]), degrees) for term, degrees in terms or []]
        found.append(_estimate(value, column, own, many))
    return found


def _estimate(
    value: float, draws: Floats, terms: Sequence[tuple[float, int]], many: bool
) -> Estimate:
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or len(known) < 2:
        return Estimate(value, math.nan, math.nan, "none", 1.0, math.nan)
    image_variance = float(known.var(ddof=1))
    error = math.sqrt(image_variance + sum(variance for variance, _ in terms))
    degrees = satterthwaite_degrees(terms, image_variance)
    p_value = student_p_value(value, error, degrees)
    if not terms:
        low, high = percentile_interval(known, LEVEL)
        p_value = p_value if many else bootstrap_p_value(known)
        return Estimate(value, low, high, IMAGES, p_value, error)
    reach = student_quantile((1 + LEVEL) / 2, degrees) * error
    return Estimate(value, value - reach, value + reach, SEEDS, p_value, error)

"""How sure is a mean over seeds, each of which was measured on the same test images?

Two sources of chance: which images there were, known from draws that all seeds share, and which
seed a training had, known from the spread of the seeds. From three seeds on both count; below, the
interval is that of the images under these fixed models.

Letters in shapes: S seeds, B draws of the images, I images.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.streams import Stream
from whytransfer.ops.comparisons import bootstrap_p_value
from whytransfer.ops.resampling import percentile_interval, seed_spread, student_quantile

Floats = NDArray[np.float64]
Sampling = Literal["bootstrap", "jackknife"]

_MANY = 10_000
"""Degrees of freedom at which Student's t is the normal distribution for all that is shown."""


@dataclass(frozen=True)
class Certainty:
    """A mean over seeds and how far it can be trusted.

    Attributes:
        value: The mean of the seeds' values.
        low, high: Interval; ``None`` where there is nothing to make one of.
        error: Standard error of the mean; ``None`` as above.
        p_value: Of the mean being 0; ``None`` as above. Over seeds it can be above 0.05 where the
            interval excludes 0, see :func:`mean_over_seeds`.
        over: What the interval is over: ``seeds then images``, ``seeds``, ``images (these fixed
            models)``, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    error: float | None
    p_value: float | None
    over: str

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 lies outside it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def groups_left_out(stream: Stream, num_images: int, num_groups: int) -> NDArray[np.int64]:
    """Returns weights (G, I) of a jackknife: in each row the images of one random group are 0.

    Source: Shao and Tu 1995, "The jackknife and bootstrap", section 2.3.
    """
    weights = np.ones((num_groups, num_images), dtype=np.int64)
    weights[np.arange(num_images) % num_groups, stream.permutation(num_images)] = 0
    return weights


def images_variance(draws: Floats, sampling: Sampling) -> float:
    """Returns the variance that the choice of images gives a number, from its (B,) draws.

    Of a bootstrap the variance of the draws; of a jackknife over G groups (G - 1)/G times the sum
    of their squared deviations. Draws without a value (NaN) are left out.

    Source: Efron and Tibshirani 1993, chapters 6 and 11; Shao and Tu 1995, section 2.3.
    """
    known = draws[~np.isnan(draws)]
    if len(known) < 2:
        return math.nan
    variance = float(np.var(known, ddof=1))
    return variance if sampling == "bootstrap" else variance * (len(known) - 1) ** 2 / len(known)


def mean_over_seeds(
    points: Floats,
    draws: Floats | None,
    sampling: Sampling = "bootstrap",
    level: float = 0.95,
    sampled: str = "images",
    num_sampled: int | None = None,
) -> Certainty:
    """Returns the mean of a number over the seeds, or of a paired difference, with an interval.

    From three seeds on the variance is the sum of the seeds' (standard error over seeds) and the
    images' (of the mean over the seeds), with Student's quantile for Satterthwaite's degrees of
    freedom. Below, it is the percentile interval of a bootstrap, or Student's of a jackknife.

    The p-value over seeds is Student's with S - 1 degrees of freedom. Satterthwaite's are estimated
    from the same few seeds: good enough for an interval at 95 %, but where three seeds happen to
    agree they are many, and p-values small enough for a correction come too often (of 200 null
    findings of five comparisons each, 31 instead of 10 had one).

    Differs: a percentile bootstrap over three to five seeds is too narrow, since it sees only
    (S - 1)/S of the variance between them; hence the sum of variances.

    Args:
        points: (S,) what each seed has.
        draws: (S, B) the same under draws of the images that all seeds share; ``None`` where no
            image takes part.
        sampling: How the draws were made.
        level: Of the interval, in (0, 1).
        sampled: What stands in the place of images, for ``over``.
        num_sampled: How many of them there are. One alone says nothing of others, whatever its
            draws: then the interval is over seeds, or there is none. ``None`` is many.

    Source: Efron & Tibshirani 1993, chapters 8 and 13; Satterthwaite 1946.
    """
    value = math.fsum(points) / len(points)
    spread = seed_spread(points.tolist(), level)
    lacking = "fewer than three seeds"
    if draws is not None and num_sampled is not None and num_sampled < 2:
        draws, lacking = None, f"{lacking}, fewer than two {sampled}"
    over_images = None if draws is None else draws.mean(axis=0)
    by_images = 0.0 if over_images is None else images_variance(over_images, sampling)
    if math.isnan(value) or math.isnan(by_images):
        return Certainty(value, None, None, None, None, "none (undefined)")
    if spread.interval is None or spread.deviation is None:
        if over_images is None:
            return Certainty(value, None, None, None, None, f"none ({lacking})")
        over = f"{sampled} (these fixed models)"
        if sampling == "bootstrap":
            low, high = percentile_interval(over_images, level)
            p_value = bootstrap_p_value(over_images)
            return Certainty(value, low, high, math.sqrt(by_images), p_value, over)
        degrees = len(over_images) - 1
        return _student(value, by_images, (degrees, degrees), level, over)
    by_seeds = spread.deviation**2 / len(points)
    over = "seeds" if over_images is None else f"seeds then {sampled}"
    # A bootstrap has draws enough for its variance to be known.
    of_images = math.inf
    if over_images is not None and sampling == "jackknife":
        of_images = len(over_images) - 1
    degrees = _satterthwaite((by_seeds, len(points) - 1), (by_images, of_images))
    cautious = int(min(len(points) - 1, of_images))
    return _student(value, by_seeds + by_images, (degrees, cautious), level, over)


def _satterthwaite(*parts: tuple[float, float]) -> int:
    """Returns the degrees of freedom of a sum of independent variances, each with its own."""
    total = sum(variance for variance, _ in parts)
    weighed = sum(variance**2 / degrees for variance, degrees in parts)
    if weighed == 0.0:
        return _MANY
    return max(1, min(_MANY, math.floor(total**2 / weighed + 1e-9)))


def _student(
    value: float, variance: float, degrees: tuple[int, int], level: float, over: str
) -> Certainty:
    """Returns Student's interval and p-value, each with its own degrees of freedom."""
    from scipy.special import stdtr  # here, since it takes a moment to import

    error = math.sqrt(variance)
    reach = student_quantile((1.0 + level) / 2.0, degrees[0]) * error
    if error == 0.0:
        p_value = 1.0 if value == 0.0 else 0.0
    else:
        p_value = float(2.0 * stdtr(degrees[1], -abs(value) / error))
    return Certainty(value, value - reach, value + reach, error, p_value, over)

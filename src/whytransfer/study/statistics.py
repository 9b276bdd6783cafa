"""How different are two arms, and how far can the difference be trusted?

Two sources of chance are kept apart. Which images were in the test set: a bootstrap over images
that are drawn together for both arms, because both were scored on the same ones. Which seed the
training drew: the spread of the difference over seeds, with an interval from three seeds on.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Comparison
from whytransfer.ops.resampling import (
    percentile_interval,
    satterthwaite_degrees,
    seed_spread,
    smallest_detectable,
    student_quantile,
)

LEVEL = 0.95


@dataclass(frozen=True)
class Scores:
    """One metric of one task: what each arm scored at each seed, plain and resampled.

    Attributes:
        values: (arm, seed) → the metric.
        draws: (arm, seed) → (B,) the metric under the same B draws of the test images.
        sampled: What stands in their place where a test is made of something else.
    """

    task: str
    metric: str
    unit: str
    num_images: int
    values: Mapping[tuple[str, int], float]
    draws: Mapping[tuple[str, int], NDArray[np.float64]]
    sampled: str = "images"

    def seeds(self, *arms: str) -> tuple[int, ...]:
        """Lists the seeds at which all these arms have a score, in ascending order."""
        every = [{seed for arm, seed in self.values if arm == name} for name in arms]
        return tuple(sorted(set.intersection(*every)))


def compare_all(scores: Scores, arms: Sequence[str], reference: str) -> tuple[Comparison, ...]:
    """Compares every arm with every other; the reference stands on the right of its pairs."""
    ordered = [arm for arm in arms if arm != reference] + [reference]
    pairs = itertools.combinations(ordered, 2)
    return tuple(compare(scores, a, b) for a, b in pairs if scores.seeds(a, b))


def compare(scores: Scores, arm: str, reference: str) -> Comparison:
    """Returns the difference of two arms with the interval that their seeds allow.

    Below three seeds the interval is the percentile bootstrap over images, and speaks of these
    fixed models only. From three on it is hierarchical (seeds, then images): the variance of the
    mean difference is the sum of the seeds' (standard error over seeds) and the images' (bootstrap
    of the mean over seeds), with Student's quantile for Satterthwaite's degrees of freedom.

    Differs: a percentile bootstrap over three to five seeds is too narrow, since it sees only
    (S - 1)/S of the variance between them; hence the sum of variances.

    Source: Efron & Tibshirani 1993, chapters 8 and 13; Satterthwaite 1946.
    """
    seeds = scores.seeds(arm, reference)
    points = [scores.values[arm, seed] - scores.values[reference, seed] for seed in seeds]
    per_seed = np.stack([scores.draws[arm, s] - scores.draws[reference, s] for s in seeds])
    difference = math.fsum(points) / len(points)
    over_images = per_seed.mean(axis=0)
    spread = seed_spread(points)
    image_variance = float(np.nanvar(over_images, ddof=1))
    if spread.interval is None:
        low, high = percentile_interval(over_images, LEVEL)
        interval, error = f"{scores.sampled} (these fixed models)", math.sqrt(image_variance)
    else:
        assert spread.deviation is not None
        seed_variance = spread.deviation**2 / len(seeds)
        error = math.sqrt(seed_variance + image_variance)
        degrees = satterthwaite_degrees([(seed_variance, len(seeds) - 1)], image_variance)
        reach = student_quantile((1 + LEVEL) / 2, degrees) * error
        low, high, interval = difference - reach, difference + reach, f"seeds then {scores.sampled}"
    return Comparison(
        task=scores.task,
        metric=scores.metric,
        unit=scores.unit,
        arm=arm,
        reference=reference,
        difference=difference,
        low=low,
        high=high,
        interval=interval,
        num_images=scores.num_images,
        sampled=scores.sampled,
        seeds=seeds,
        points=tuple(points),
        seed_spread=spread.deviation if len(seeds) > 2 else None,
        smallest_detectable=smallest_detectable(error, LEVEL),
        shown=low > 0 or high < 0,
    )

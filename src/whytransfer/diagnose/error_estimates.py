"""How sure is what an arm loses, and what it loses more than another? Seeds, then images.

Letters: S seeds, B draws of the images, K quantities. Two arms are compared on the same draws, and
seed by seed where they have three of the same; see :mod:`whytransfer.ops.seeds_and_images`.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.diagnose.comparing import number, paired_seeds
from whytransfer.ops.seeds_and_images import Certainty, mean_over_seeds

Floats = NDArray[np.float64]

FEWEST_IMAGES = 2
"""Below, every draw of the images is the same one, and would seem certain."""

_FEW_IMAGES = "none (fewer than two images with objects)"


@dataclass(frozen=True)
class Measured:
    """Some quantities of one arm.

    Attributes:
        seeds: (S,) of its runs.
        values: (S, K) at each seed; NaN where undefined.
        draws: (S, B, K) the same under each draw of the images, which all seeds share.
        num_images: Images that hold what they are of.
    """

    seeds: tuple[int, ...]
    values: Floats
    draws: Floats
    num_images: int = FEWEST_IMAGES

    @property
    def mean(self) -> Floats:
        """(K,) over the seeds."""
        mean: Floats = self.values.mean(axis=0)
        return mean

    def at(self, seeds: tuple[int, ...]) -> "Measured":
        """Returns those of some seeds, in that order."""
        place = [self.seeds.index(seed) for seed in seeds]
        return replace(self, seeds=seeds, values=self.values[place], draws=self.draws[place])

    def as_one(self) -> "Measured":
        """Returns the mean over the seeds, as one fixed model."""
        values, draws = self.mean[None], self.draws.mean(axis=0)[None]
        return replace(self, seeds=(0,), values=values, draws=draws)

    def minus(self, other: "Measured") -> "Measured":
        """Returns how much larger they are than another arm's at the same seeds."""
        images = min(self.num_images, other.num_images)
        return Measured(self.seeds, self.values - other.values, self.draws - other.draws, images)


def estimates(own: Measured) -> list[Certainty]:
    """Returns the mean over the seeds of each quantity of an arm.

    There is no interval where fewer than two images hold something.
    """
    if own.num_images < FEWEST_IMAGES:
        return [Certainty(float(one), None, None, None, None, _FEW_IMAGES) for one in own.mean]
    return [
        mean_over_seeds(points, draws)
        for points, draws in zip(own.values.T, np.moveaxis(own.draws, -1, 0), strict=True)
    ]


def differences(own: Measured, other: Measured, *, many: bool = False) -> list[Certainty]:
    """Returns how much larger each quantity of an arm is than another arm's, on the same images.

    The seeds that both arms have are paired where there are three of them; else the means of each
    arm's seeds are compared, as fixed models.

    Args:
        many: There are so many comparisons that the share of draws on one side of 0 can't resolve
            their p-values: those over images alone are then of the normal distribution.
    """
    if both := paired_seeds(own.seeds, other.seeds):
        own, other = own.at(both), other.at(both)
    else:
        own, other = own.as_one(), other.as_one()
    found = estimates(own.minus(other))
    return [_of_normal(one) for one in found] if many and len(own.seeds) == 1 else found


def _of_normal(found: Certainty) -> Certainty:
    if found.error is None:
        return found
    if found.error == 0.0:
        return replace(found, p_value=1.0 if found.value == 0.0 else 0.0)
    return replace(found, p_value=2.0 * NormalDist().cdf(-abs(found.value) / found.error))


def metric(found: Certainty, name: str, unit: str, n: int, better: bool = False) -> Metric:
    """Returns a number as records hold it; ``n`` images stand behind it."""
    return Metric(
        name=name,
        value=number(found.value),
        unit=unit,
        higher_is_better=better,
        n=n,
        low=found.low,
        high=found.high,
        interval="none" if math.isnan(found.value) else found.over,
    )

"""How different are two arms, and how far can the difference be trusted?

Two sources of chance are kept apart. Which images were in the test set: a bootstrap over images
that are drawn together for both arms, because both were scored on the same ones. Which seed the
training drew: the spread of the difference over seeds, with an interval from three seeds on.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Comparison
from whytransfer.ops.resampling import seed_spread, smallest_detectable
from whytransfer.ops.seeds_and_images import mean_over_seeds

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

    See :func:`whytransfer.ops.seeds_and_images.mean_over_seeds` for what it is made of.
    """
    seeds = scores.seeds(arm, reference)
    points = [scores.values[arm, seed] - scores.values[reference, seed] for seed in seeds]
    per_seed = np.stack([scores.draws[arm, s] - scores.draws[reference, s] for s in seeds])
    found = mean_over_seeds(
        np.array(points), per_seed, level=LEVEL, sampled=scores.sampled,
        num_sampled=scores.num_images,
    )  # fmt: skip
    spread = seed_spread(points)
    smallest = None if found.error is None else smallest_detectable(found.error, LEVEL)
    return Comparison(
        task=scores.task,
        metric=scores.metric,
        unit=scores.unit,
        arm=arm,
        reference=reference,
        difference=found.value,
        low=found.low,
        high=found.high,
        interval=found.over,
        num_images=scores.num_images,
        sampled=scores.sampled,
        seeds=seeds,
        points=tuple(points),
        seed_spread=spread.deviation if len(seeds) > 2 else None,
        smallest_detectable=smallest,
        shown=found.excludes_zero,
    )

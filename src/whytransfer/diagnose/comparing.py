"""What analyses of several arms have in common: which arm is the reference, and what differs.

A :class:`Measure` is one kind of number, of every run and at every level, with what it is under
draws of the images that all runs share. :func:`estimates` says what each arm has,
:func:`differences` how each other arm differs from the reference: paired over the images, and over
the seeds where both arms have three of the same; p-values corrected by Holm's method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError, nearest
from whytransfer.core.records import Metric
from whytransfer.core.streams import Stream
from whytransfer.ops.comparisons import fewest_draws, holm_of_known
from whytransfer.ops.resampling import image_weights
from whytransfer.ops.seeds_and_images import Certainty, Sampling, mean_over_seeds

Floats = NDArray[np.float64]
Key = tuple[str, int, str]
"""Arm, seed, level."""

ALPHA = 0.05
FEWEST_SEEDS = 3


class _Run(Protocol):
    @property
    def arm(self) -> str: ...

    @property
    def seed(self) -> int: ...


RunT = TypeVar("RunT", bound=_Run)


def by_arm(runs: Sequence[RunT], analysis: str) -> dict[str, list[RunT]]:
    """Returns the runs of each arm, both in the order given.

    Raises:
        InputError: There is none, or an arm has a seed twice.
    """
    if not runs:
        raise InputError(analysis, "no runs given", "at least one finished run")
    found: dict[str, list[RunT]] = {}
    for run in runs:
        own = found.setdefault(run.arm, [])
        if run.seed in {other.seed for other in own}:
            name = f"{run.arm} (seed {run.seed})"
            raise InputError(analysis, f"{name} stands twice", "one run per arm and seed")
        own.append(run)
    return found


def reference_arm(arms: Sequence[str], wanted: str | None, analysis: str) -> str:
    """Returns the arm to compare with: ``random_init`` if there is one, else the first.

    Raises:
        InputError: Another one is wanted that is not there.
    """
    if wanted is None:
        return "random_init" if "random_init" in arms else arms[0]
    if wanted not in arms:
        raise InputError(
            f"{analysis}, field reference", f"found {wanted!r}", "one of " + ", ".join(arms),
            nearest(wanted, arms),
        )  # fmt: skip
    return wanted


def paired_seeds(own: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    """Returns the seeds that two arms have in common, where they are enough to be paired."""
    both = tuple(seed for seed in own if seed in others)
    return both if len(both) >= FEWEST_SEEDS else ()


def family_of(num_comparisons: int) -> str:
    """Says of how many comparisons a family is, and how it was corrected."""
    return f"{num_comparisons} comparison{'' if num_comparisons == 1 else 's'}, Holm"


def plain_and_drawn(
    stream: Stream, num_images: int, num_draws: int, num_comparisons: int
) -> Floats:
    """Returns (1 + B, I) how often each image counts: once for the plain number, then in draws.

    Args:
        num_draws: At least; as many more as Holm's correction of so many comparisons needs.
    """
    draws = max(num_draws, fewest_draws(num_comparisons))
    drawn = image_weights(stream, num_images, draws).astype(np.float64)
    return np.concatenate([np.ones((1, num_images)), drawn])


@dataclass
class Measure:
    """One kind of number of every run at every level; filled run by run.

    Attributes:
        name: In tables, figures and the names of metrics.
        words: In sentences: "CKA", "category share".
        n: Images that it is of.
        unit: Of the number; empty for a ratio.
        better: Whether more is better; ``None`` where neither is.
        sampling: How the draws were made.
        values: The number.
        draws: (B,) the same under each draw; of no run where no image takes part.
    """

    name: str
    words: str
    n: int
    unit: str = ""
    better: bool | None = None
    sampling: Sampling = "bootstrap"
    values: dict[Key, float] = field(default_factory=dict)
    draws: dict[Key, Floats] = field(default_factory=dict)

    def add(self, key: Key, values: Floats) -> None:
        """Keeps the number of a run: its plain value, then that under each draw."""
        self.values[key] = float(values[0])
        if len(values) > 1:
            self.draws[key] = values[1:]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in the order in which they came."""
        return tuple(dict.fromkeys(arm for arm, _, _ in self.values))

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels, in the order in which they came."""
        return tuple(dict.fromkeys(level for _, _, level in self.values))

    def seeds(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm, in the order in which they came."""
        return tuple(dict.fromkeys(seed for name, seed, _ in self.values if name == arm))

    def points(self, arm: str, seeds: Sequence[int], level: str) -> Floats:
        """Returns (S,) the numbers of some seeds."""
        return np.array([self.values[arm, seed, level] for seed in seeds])

    def drawn(self, arm: str, seeds: Sequence[int], level: str) -> Floats | None:
        """Returns (S, B) the same under each draw; ``None`` where there are no draws."""
        if not self.draws:
            return None
        return np.stack([self.draws[arm, seed, level] for seed in seeds])


@dataclass(frozen=True)
class Difference:
    """How an arm differs from the reference in one measure at one level.

    Attributes:
        metric: The arm's number minus the reference's, mean over the seeds, with interval.
        p_value: Of this difference alone; ``None`` where there is no interval.
        corrected: Of it as one of its family.
    """

    arm: str
    measure: Measure
    level: str
    metric: Metric
    p_value: float | None
    corrected: float | None

    @property
    def shown(self) -> bool:
        """Whether the corrected p-value is below the level."""
        return self.corrected is not None and self.corrected < ALPHA

    @property
    def size(self) -> float:
        """The absolute difference; 0 where it is undefined."""
        return abs(self.metric.value or 0.0)


def estimates(measure: Measure) -> list[Metric]:
    """Returns what every arm has at every level: the mean over its seeds, with its interval."""
    found = []
    for arm in measure.arms:
        seeds = measure.seeds(arm)
        for level in measure.levels:
            drawn = measure.drawn(arm, seeds, level)
            certain = _mean(measure, measure.points(arm, seeds, level), drawn)
            found.append(metric_of(measure, f"{measure.name}.{level}[{arm}]", certain))
    return found


def differences(measures: Sequence[Measure], reference: str) -> list[Difference]:
    """Returns how every other arm differs from the reference; all of it is one family.

    The seeds that both arms have are paired where there are three of them; else the means of each
    arm's seeds are compared, as fixed models.
    """
    found: list[tuple[str, Measure, str, Certainty]] = [
        (arm, measure, level, _difference(measure, arm, reference, level))
        for measure in measures
        for arm in measure.arms
        if arm != reference
        for level in measure.levels
    ]
    corrected = holm_of_known([certain.p_value for *_, certain in found])
    return [
        Difference(
            arm,
            measure,
            level,
            metric_of(measure, f"{measure.name}.{level}[{arm} - {reference}]", certain),
            certain.p_value,
            value,
        )
        for (arm, measure, level, certain), value in zip(found, corrected, strict=True)
    ]


def _difference(measure: Measure, arm: str, reference: str, level: str) -> Certainty:
    own, others = measure.seeds(arm), measure.seeds(reference)
    if both := paired_seeds(own, others):
        points = measure.points(arm, both, level) - measure.points(reference, both, level)
        drawn = _minus(measure.drawn(arm, both, level), measure.drawn(reference, both, level))
        return _mean(measure, points, drawn)
    means = measure.points(arm, own, level).mean() - measure.points(reference, others, level).mean()
    first, second = measure.drawn(arm, own, level), measure.drawn(reference, others, level)
    drawn = None
    if first is not None and second is not None:
        drawn = (first.mean(axis=0) - second.mean(axis=0))[None]
    return _mean(measure, np.array([means]), drawn)


def _mean(measure: Measure, points: Floats, drawn: Floats | None) -> Certainty:
    return mean_over_seeds(points, drawn, measure.sampling, num_sampled=measure.n)


def _minus(first: Floats | None, second: Floats | None) -> Floats | None:
    return None if first is None or second is None else first - second


def metric_of(measure: Measure, name: str, certain: Certainty) -> Metric:
    """Returns a number of a measure as records hold it."""
    return Metric(
        name=name,
        value=number(certain.value),
        unit=measure.unit,
        higher_is_better=measure.better,
        n=measure.n,
        low=certain.low,
        high=certain.high,
        interval=certain.over,
    )


def level_of(metric: Metric) -> str:
    """Returns the level that a metric of :func:`estimates` is of."""
    return metric.name.partition(".")[2].partition("[")[0]


def number(value: float) -> float | None:
    """Returns a plain number, ``None`` where it is undefined (NaN)."""
    return None if np.isnan(value) else float(value)


def few_seeds(runs: Mapping[str, Sequence[_Run]], reference: str) -> str:
    """Says what intervals speak of where arms have too few seeds for more; else nothing.

    An arm that shares fewer than three seeds with the reference can't be paired with it over seeds,
    however many it has.
    """
    seeds = {arm: [run.seed for run in own] for arm, own in runs.items()}
    few = [arm for arm, own in seeds.items() if len(own) < FEWEST_SEEDS]
    apart = [
        arm
        for arm, own in seeds.items()
        if not {arm, reference} & {*few} and not paired_seeds(own, seeds[reference])
    ]
    said = ""
    if few:
        said += (
            f" Fewer than three seeds of {', '.join(few)}: the points are shown, there is no"
            " interval over seeds, and what intervals there are speak of these fixed networks"
            " alone, not of another training run."
        )
    if apart:
        said += (
            f" Fewer than three seeds that {', '.join(apart)} and {reference} have in common:"
            " their differences are of these fixed networks, not of other training runs."
        )
    return said


def said(metric: Metric, style: str = ".2f") -> str:
    """Writes a number with its interval."""
    if metric.value is None:
        return "undefined"
    unit = f" {metric.unit}" if metric.unit else ""
    if metric.low is None or metric.high is None:
        return f"{metric.value:{style}}{unit}, no interval"
    return f"{metric.value:{style}}{unit} [{metric.low:{style}}, {metric.high:{style}}]"


def sentence(found: Sequence[Difference], reference: str, num_named: int = 3) -> tuple[str, Metric]:
    """Says what differs from the reference, largest first, and gives the headline.

    That is the largest difference of those shown, or, where none is, the largest of all.

    Args:
        found: At least one, all in one unit.
        num_named: The most that are named.
    """
    known = [one for one in found if one.p_value is not None]
    family = family_of(len(known))
    shown = sorted((one for one in found if one.shown), key=lambda one: -one.size)
    if not shown:
        # One with an interval says more than a larger one without.
        largest = max(known or found, key=lambda one: one.size)
        words = f"{largest.arm}'s in {largest.measure.words} at {largest.level}"
        return (
            f"No difference shown to {reference} ({family}); the largest is {words},"
            f" {said(largest.metric, '+.2f')}.",
            largest.metric,
        )
    parts = [
        f"{one.arm} has a {'lower' if (one.metric.value or 0) < 0 else 'higher'}"
        f" {one.measure.words} at {one.level} ({said(one.metric, '+.2f')})"
        for one in shown[:num_named]
    ]
    more = f"; {len(shown) - len(parts)} more in the table" if len(shown) > len(parts) else ""
    return f"Compared with {reference}, {'; '.join(parts)}{more} ({family}).", shown[0].metric

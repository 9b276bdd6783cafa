"""How different are the scores of finished runs, and how far can each difference be trusted?

Every run is scored as its images are and under draws of them which all runs share, so that any
sum of scores with signs (a *contrast*: a difference, a difference of differences) is paired over
images; over seeds it is paired, too, because an arm and its variants share theirs.

Letters in shapes: B draws, I images, S seeds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.records import Metric, Table
from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import (
    ClassRun,
    DetectionRun,
    ExposedRun,
    PixelRun,
    PointRun,
    ScoredRun,
)
from whytransfer.diagnose.comparing import ALPHA, FEWEST_SEEDS, number, reference_arm
from whytransfer.ops.average_precision import (
    Matches,
    average_precision,
    coco_matches,
    summary,
    voc_matches,
)
from whytransfer.ops.comparisons import fewest_draws, holm_of_known
from whytransfer.ops.detections import same_boxes
from whytransfer.ops.mean_iou import class_iou, mean_iou
from whytransfer.ops.resampling import image_weights
from whytransfer.ops.seeds_and_images import Certainty, mean_over_seeds

Floats = NDArray[np.float64]
Weights = NDArray[np.int64]
Precision = Literal["AP", "AP50", "AP75"]
Row = dict[str, str | int | float | None]


class Key(NamedTuple):
    """Which score: of an arm, at a seed, of one of its parts (a variant, a group of classes)."""

    arm: str
    seed: int
    part: str = ""


class Term(NamedTuple):
    """A part of a contrast: the score of an arm, times a sign."""

    sign: float
    arm: str
    part: str = ""


@dataclass(frozen=True)
class Scores:
    """What every run scored, as its images are and under the same draws of them.

    Attributes:
        metric: Its name; ``unit`` what it is measured in.
        values: Key → the score; NaN where it is undefined.
        draws: Key → (B,) the same under each draw.
        num_images: Test images.
        sign: 1 where a higher score is better, -1 where a lower one is: an error.
    """

    metric: str
    unit: str
    num_images: int
    values: Mapping[Key, float]
    draws: Mapping[Key, Floats]
    sign: int = 1

    def better(self, contrast: "Contrast") -> float:
        """Returns a contrast's value, turned so that above 0 is better."""
        return self.sign * contrast.value

    def seeds(self, arm: str, part: str = "") -> set[int]:
        """Lists the seeds at which a part of an arm has a score."""
        return {key.seed for key in self.values if (key.arm, key.part) == (arm, part)}

    def contrast(self, label: str, *terms: Term) -> "Contrast":
        """Sums scores with their signs at each seed that all of them have, and averages.

        Raises:
            InputError: They have no seed in common.
        """
        common = sorted(set.intersection(*(self.seeds(arm, part) for _, arm, part in terms)))
        if not common:
            parts = ", ".join(f"{arm} {part}".strip() for _, arm, part in terms)
            raise InputError(label, f"no seed has all of {parts}", "the same seeds for every arm")

        signs = np.array([sign for sign, _, _ in terms])
        keys = [[Key(arm, seed, part) for _, arm, part in terms] for seed in common]
        points = np.array([signs @ [self.values[key] for key in own] for own in keys])
        draws = np.stack([signs @ np.stack([self.draws[key] for key in own]) for own in keys])
        certainty = mean_over_seeds(points, draws, num_sampled=self.num_images)
        return Contrast(label, tuple(common), points, certainty)


@dataclass(frozen=True)
class Contrast:
    """A contrast of scores, its certainty, and whether it is shown as one of its family.

    Attributes:
        label: What reports call it.
        seeds: (S,) those that all its terms have.
        points: (S,) what it is at each of them.
        certainty: Of the mean over the seeds.
        corrected: Its p-value as one of its family; ``None`` where it is undefined, or alone.
    """

    label: str
    seeds: tuple[int, ...]
    points: Floats
    certainty: Certainty
    corrected: float | None = None

    @property
    def value(self) -> float:
        """The mean over the seeds; NaN where it is undefined."""
        return self.certainty.value

    @property
    def shown(self) -> bool:
        """Whether it differs from 0, corrected for the number of its family."""
        return self.corrected is not None and self.corrected < ALPHA

    @property
    def excludes_zero(self) -> bool:
        """Whether its own interval, uncorrected, holds no 0."""
        return self.certainty.excludes_zero

    def metric(self, name: str, unit: str, n: int) -> Metric:
        """Returns it as a metric."""
        found = self.certainty
        return Metric(
            name=name,
            value=number(found.value),
            unit=unit,
            n=n,
            low=found.low,
            high=found.high,
            interval=found.over,
        )

    def columns(self) -> Row:
        """Returns its columns of a table: value, interval, p-values, and whether it is shown."""
        found = self.certainty
        return {
            "difference": number(found.value),
            "low": found.low,
            "high": found.high,
            "p": found.p_value,
            "corrected p": self.corrected,
            "shown": "yes" if self.shown else "no",
        }

    def said(self, unit: str, style: str = "+.1f") -> str:
        """Writes it with its interval."""
        found = self.certainty
        if found.low is None or found.high is None:
            return "undefined"
        ends = f"[{found.low:{style}}, {found.high:{style}}]"
        return f"{found.value:{style}} {unit} {ends}"


COLUMNS = ("difference", "low", "high", "p", "corrected p", "shown")
"""Columns that :meth:`Contrast.columns` fills."""


def family(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Returns contrasts with their p-values corrected as one family, by Holm's method."""
    corrected = holm_of_known([c.certainty.p_value for c in contrasts])
    return tuple(
        replace(contrast, corrected=value)
        for contrast, value in zip(contrasts, corrected, strict=True)
    )


def largest(contrasts: Iterable[Contrast]) -> Contrast:
    """Returns the largest contrast in size, of those shown where any is."""
    found = list(contrasts)
    shown = [c for c in found if c.shown]
    return max(shown or found, key=lambda c: 0.0 if math.isnan(c.value) else abs(c.value))


def weights_for(
    stream: Stream, num_images: int, num_draws: int, num_comparisons: int
) -> NDArray[np.int64]:
    """Draws (B, I) weights of the images: as many draws as asked for and as Holm's method needs."""
    return image_weights(stream, num_images, max(num_draws, fewest_draws(num_comparisons)))


def score(runs: Sequence[ScoredRun], weights: Weights, precision: Precision) -> Scores:
    """Scores runs that were tested on the same images; a part is the name of a variant.

    Args:
        runs: From :func:`on_same_images`.
        weights: (B, I) how often each image counts in each draw.
        precision: Which AP, of detections. Guesses have ``top1``, label maps ``mIoU``, landmarks
            ``inter_ocular_error``.
    """
    values: dict[Key, float] = {}
    draws: dict[Key, Floats] = {}
    for run in runs:
        key, at = Key(run.arm, run.seed, run.variant), scorer(run, precision)
        values[key], draws[key] = float(at(None)), at(weights)
    metric, unit, sign = _SCORES[type(runs[0])]
    return Scores(metric or precision, unit, weights.shape[1], values, draws, sign)


_SCORES: Mapping[type, tuple[str, str, int]] = {
    DetectionRun: ("", "AP points", 1),
    ClassRun: ("top1", "points", 1),
    PixelRun: ("mIoU", "points", 1),
    PointRun: ("inter_ocular_error", "% of the eyes' distance", -1),
}
"""Kind of run → its score's name and unit, and 1 where more of it is better, else -1."""


def scorer(run: ScoredRun, precision: Precision) -> Callable[[Weights | None], Floats]:
    """Matches a run once; what is returned scores it in percent under any weights (B, I)."""
    if isinstance(run, ClassRun):
        return _mean(100.0 * run.correct.astype(np.float64))
    if isinstance(run, PointRun):
        return _mean(run.errors)
    if isinstance(run, PixelRun):
        counts = run.counts
        return lambda weights: 100.0 * mean_iou(class_iou(counts, weights))
    matches = _matches(run)
    return lambda weights: summary(average_precision(matches, weights, metric=run.rule))[precision]


def _mean(values: Floats) -> Callable[[Weights | None], Floats]:
    """Returns the mean of what each image (I,) has, under any weights (B, I)."""

    def mean(weights: Weights | None) -> Floats:
        counts = np.ones(len(values)) if weights is None else weights
        found: Floats = np.asarray(counts @ values / counts.sum(axis=-1))
        return found

    return mean


def class_scorer(run: DetectionRun, precision: Precision) -> Callable[[Weights | None], Floats]:
    """As :func:`scorer`, class by class: (B, C), NaN for a class without an object that counts."""
    matches = _matches(run)

    def per_class(weights: Weights | None) -> Floats:
        found = 100.0 * average_precision(matches, weights, metric=run.rule)
        return found.mean(axis=-1) if precision == "AP" else found[..., _THRESHOLD[precision]]

    return per_class


_THRESHOLD: Mapping[Precision, int] = {"AP50": 0, "AP75": 5}
"""Which of the overlaps .50, .55, ..., .95 they are."""


def _matches(run: DetectionRun) -> Matches:
    match = coco_matches if run.rule == "coco101" else voc_matches
    return match(run.detections, run.truth)


def on_same_images(runs: Sequence[ScoredRun], where: str) -> Sequence[ScoredRun]:
    """Returns the runs, once it is known that their scores can be compared.

    Raises:
        InputError: They were tested on different images, hold different kinds of predictions, or
            one stands twice.
    """
    first, seen = runs[0], set()
    for run in runs:
        name = " ".join(filter(None, (run.arm, f"(seed {run.seed})", run.variant)))
        if type(run) is not type(first) or not _same(first, run):
            raise InputError(
                where, f"{name} was tested on other images than {first.arm} (seed {first.seed})",
                "runs over one test set", "diagnose them apart",
            )  # fmt: skip
        key = Key(run.arm, run.seed, run.variant)
        if key in seen:
            raise InputError(where, f"{name} stands twice", "one run per arm, seed and variant")
        seen.add(key)
    return runs


def _same(first: ScoredRun, second: ScoredRun) -> bool:
    """Says whether two runs of one kind were tested on the same images, as far as they tell."""
    if isinstance(first, DetectionRun) and isinstance(second, DetectionRun):
        return same_boxes(first.truth, second.truth) and first.rule == second.rule
    if isinstance(first, PixelRun) and isinstance(second, PixelRun):
        pixels = np.array_equal(first.counts.true, second.counts.true)
        return first.images == second.images and pixels
    return images_of(first) == images_of(second)


def images_of(run: ScoredRun) -> tuple[str, ...]:
    """Returns the names of the test images."""
    return run.truth.images if isinstance(run, DetectionRun) else run.images


def arms_of(runs: Iterable[ScoredRun]) -> list[str]:
    """Lists the arms in the order in which they come."""
    return list(dict.fromkeys(run.arm for run in runs))


def reference_of(arms: Sequence[str], wanted: str | None, where: str) -> str:
    """Returns the arm that the others are compared with.

    ``random_init`` where it is among the arms and no other is wanted, else the first one.

    Raises:
        InputError: It is not among the arms, or the only one.
    """
    reference = reference_arm(arms, wanted, where)
    if len(arms) < 2:
        raise InputError(where, f"{arms[0]} is the only arm", "a second one to compare it with")
    return reference


def require_variants(
    runs: Sequence[ScoredRun],
    names: Sequence[str],
    except_for: str | None,
    where: str,
) -> None:
    """Checks that every run has its variants.

    Args:
        names: What each needs; ``""`` is the run itself.
        except_for: The arm of which there need be none but itself.

    Raises:
        InputError: Names all that are missing.
    """
    found = {Key(run.arm, run.seed, run.variant) for run in runs}
    needed = {
        Key(key.arm, key.seed, part): None
        for key in sorted(found)
        for part in (("",) if key.arm == except_for else names)
    }
    missing = [key for key in needed if key not in found]
    if missing:
        said = ", ".join(
            f"{arm}/seed{seed}{f' {part}' if part else ' itself'}" for arm, seed, part in missing
        )
        raise InputError(
            where, f"{len(missing)} runs are missing: {said}", "each of them, finished",
            f"put `analysis: {where}` into a study, which makes them; or give them as "
            "ARM:VARIANT=PATH",
        )  # fmt: skip


def seeds_caveat(contrasts: Sequence[Contrast]) -> str:
    """Says what cannot be concluded where there are too few seeds; empty with enough of them."""
    fewest = min(len(contrast.seeds) for contrast in contrasts)
    if fewest >= FEWEST_SEEDS:
        return ""
    seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
    return (
        f" With {seeds} there is no interval over seeds: the intervals resample the test images"
        " under these fixed models; the table of seeds has the points."
    )


def seed_table(contrasts: Sequence[Contrast], unit: str) -> Table:
    """Returns each contrast at each seed."""
    rows: list[Row] = [
        {"difference": c.label, "seed": seed, "value": number(float(point))}
        for c in contrasts
        for seed, point in zip(c.seeds, c.points, strict=True)
    ]
    title = f"The same seed by seed ({unit})"
    return Table(title=title, columns=("difference", "seed", "value"), rows=tuple(rows))


def detections_of(runs: Iterable[ExposedRun]) -> list[DetectionRun]:
    """Returns those runs that detect as such."""
    return [
        DetectionRun(
            run.arm, run.seed, run.fingerprint, run.truth, run.detections, run.variant, run.rule
        )
        for run in runs
        if run.truth is not None and run.detections is not None
    ]

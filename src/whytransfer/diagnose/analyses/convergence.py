"""Whether an arm transfers or only starts faster: its gap to the reference over training length.

Every arm is fine-tuned anew at several lengths, each a complete run whose schedule is stretched
with it; an earlier checkpoint of a longer run, whose learning rate has not fallen yet, is never
read. The gaps to the reference at all lengths, of all arms, and how far each arm's gap shrinks
from the shortest to the longest, are one family, corrected by Holm's method.

Source: He, Girshick and Dollár 2019, "Rethinking ImageNet pre-training" (schedules from 1x to 6x);
Zhao et al. 2021 (detection fine-tuned from each pretraining).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, PositiveFloat, field_validator

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.records import Finding, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import (
    ScoredRun,
    Variant,
    name_of_length,
    of_lengths,
)
from whytransfer.diagnose.comparing import family_of, number
from whytransfer.diagnose.contrasts import (
    COLUMNS,
    Contrast,
    Precision,
    Row,
    Scores,
    Term,
    arms_of,
    family,
    images_of,
    largest,
    on_same_images,
    reference_of,
    require_variants,
    score,
    seed_table,
    seeds_caveat,
    weights_for,
)

QUESTION = "Does the pretraining transfer, or does fine-tuning only start faster?"
NEEDS = "scored"

_WHERE = "convergence"
_CAVEAT = (
    "Each length is a complete run with its own schedule, milestones and warm-up stretched with it;"
    " learning rate and regularisation are those of the study's own length. That no difference is"
    " shown at the longest length doesn't prove that there is none, nor that none would return on"
    " less data: a longer training of the reference also costs more."
)


class Config(BaseConfig):
    """Which lengths are compared.

    Attributes:
        lengths: In lengths of the study's own training, from short to long; 1 is that run itself.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        precision: Which AP, where the runs are detectors.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        seed: Of the bootstrap.
    """

    lengths: tuple[PositiveFloat, ...] = Field((0.25, 0.5, 1.0, 2.0), min_length=2)
    reference: str | None = None
    precision: Precision = "AP"
    num_draws: int = Field(1000, ge=100)
    seed: int = 0

    @field_validator("lengths")
    @classmethod
    def _lengths_rise(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if list(lengths) != sorted(set(lengths)):
            raise ValueError("lengths must rise, each standing once")
        return lengths


def variants(config: Config) -> list[Variant]:
    """Lists the runs of other lengths than the study's own, such as ``length_0.5``."""
    return of_lengths(config.lengths)


@dataclass(frozen=True)
class _Course:
    """The gaps of one arm to the reference, from short to long, and how far they shrink."""

    arm: str
    gaps: tuple[Contrast, ...]
    shrinkage: Contrast


def answer(
    runs: Sequence[ScoredRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Says of each arm whether its gap to the reference is still there at the longest length.

    Raises:
        InputError: A run is missing (all are named), the runs were not tested on the same images,
            or the reference is not among the arms.
    """
    names = [name_of_length(length) for length in config.lengths]
    wanted = [run for run in runs if run.variant in names]
    arms = arms_of(wanted or runs)
    reference = reference_of(arms, config.reference, _WHERE)
    require_variants(wanted or runs, names, None, _WHERE)
    on_same_images(wanted, _WHERE)
    num_images = len(images_of(wanted[0]))
    count = (len(names) + 1) * (len(arms) - 1)
    stream = Stream(config.seed, f"{_WHERE}/images")
    weights = weights_for(stream, num_images, config.num_draws, count)
    scores = score(wanted, weights, config.precision)
    courses = _courses(scores, [arm for arm in arms if arm != reference], reference, config.lengths)
    gaps = [gap for course in courses for gap in course.gaps]
    everything = [*gaps, *(course.shrinkage for course in courses)]
    chosen = largest(course.gaps[-1] for course in courses)
    return Finding(
        analysis=_WHERE,
        question=QUESTION,
        answer=_answer(courses, reference, config.lengths, scores),
        headline=chosen.metric(f"{scores.metric}[{chosen.label}]", scores.unit, num_images),
        caveat=_CAVEAT + seeds_caveat(everything),
        metrics=tuple(
            contrast.metric(f"{scores.metric}[{contrast.label}]", scores.unit, num_images)
            for contrast in everything
            if contrast.label != chosen.label
        ),
        tables=(
            _table(courses, config.lengths, scores, len(everything)),
            seed_table(everything, scores.unit),
        ),
        figures=_figures(scores, arms, courses, config.lengths),
    )


def _courses(
    scores: Scores, arms: Sequence[str], reference: str, lengths: Sequence[float]
) -> list[_Course]:
    """Measures all gaps and their shrinkage, corrected as one family."""

    def gap(arm: str, length: float, sign: float = 1.0) -> tuple[Term, Term]:
        part = name_of_length(length)
        return Term(sign, arm, part), Term(-sign, reference, part)

    found = []
    for arm in arms:
        found += [
            scores.contrast(f"{arm} - {reference} at {length:g}x", *gap(arm, length))
            for length in lengths
        ]
        label = f"{arm} - {reference} at {lengths[0]:g}x minus at {lengths[-1]:g}x"
        terms = *gap(arm, lengths[0]), *gap(arm, lengths[-1], -1.0)
        found.append(scores.contrast(label, *terms))
    corrected, each = family(found), len(lengths) + 1
    parts = [corrected[start : start + each] for start in range(0, len(found), each)]
    return [_Course(arm, own[:-1], own[-1]) for arm, own in zip(arms, parts, strict=True)]


def _answer(
    courses: Sequence[_Course], reference: str, lengths: Sequence[float], scores: Scores
) -> str:
    longest = f"{lengths[-1]:g} times the study's length"
    ordered = sorted(courses, key=lambda course: not course.gaps[-1].shown)
    said = "; ".join(_said(course, lengths, scores) for course in ordered)
    count = family_of(sum(len(course.gaps) + 1 for course in courses))
    if not ordered[0].gaps[-1].shown:
        return f"No difference shown to {reference} at {longest} ({count}): {said}."
    return f"Compared with {reference} at {longest} ({count}): {said}."


def _said(course: _Course, lengths: Sequence[float], scores: Scores) -> str:
    """Says how one arm stands at the longest length, and how it came there."""
    last, first, arm, unit = course.gaps[-1], course.gaps[0], course.arm, scores.unit
    now = last.said(unit)
    if last.shown:
        kind = "transfers" if scores.better(last) > 0 else "transfers worse"
        shrinks = course.shrinkage.shown and abs(first.value) > abs(last.value)
        less = f", less than at {lengths[0]:g} ({first.said(unit)})" if shrinks else ""
        return f"{arm} {kind} ({now}{less})"
    earlier = [
        (length, gap) for length, gap in zip(lengths, course.gaps[:-1], strict=False) if gap.shown
    ]
    if not earlier:
        return f"{arm} shows none at any length ({now})"
    length, gap = earlier[-1]
    then = f"{gap.said(unit)} at {length:g}"
    if first.shown and course.shrinkage.shown:
        pace = "faster" if scores.better(first) > 0 else "slower"
        return f"{arm} only starts {pace} ({then}, {now} at {lengths[-1]:g})"
    return f"{arm} shows one up to {length:g} ({then}), but that it shrinks isn't shown ({now})"


def _table(
    courses: Sequence[_Course], lengths: Sequence[float], scores: Scores, count: int
) -> Table:
    rows: list[Row] = []
    for course in courses:
        for length, gap in zip(lengths, course.gaps, strict=True):
            rows.append({"arm": course.arm, "length": f"{length:g}", **gap.columns()})
        name = f"{lengths[0]:g} minus {lengths[-1]:g}"
        rows.append({"arm": course.arm, "length": name, **course.shrinkage.columns()})
    title = (
        f"Differences to the reference ({scores.metric}, {scores.unit};"
        f" p corrected by Holm's method for {count})"
    )
    return Table(title=title, columns=("arm", "length", *COLUMNS), rows=tuple(rows))


def _figures(
    scores: Scores, arms: Sequence[str], courses: Sequence[_Course], lengths: Sequence[float]
) -> dict[str, tuple[Row, ...]]:
    own = [
        _point(arm, length, scores.contrast(arm, Term(1, arm, name_of_length(length))))
        for arm in arms
        for length in lengths
    ]
    gaps = [
        _point(course.arm, length, gap)
        for course in courses
        for length, gap in zip(lengths, course.gaps, strict=True)
    ]
    name = scores.metric
    return {f"{name}_over_length": tuple(own), f"{name}_difference_over_length": tuple(gaps)}


def _point(arm: str, length: float, found: Contrast) -> Row:
    certainty = found.certainty
    return {
        "arm": arm, "x": length, "value": number(found.value),
        "low": certainty.low, "high": certainty.high,
    }  # fmt: skip

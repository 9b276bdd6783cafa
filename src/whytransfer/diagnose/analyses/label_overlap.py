"""Whether the gain comes from shared categories: AP split by what the pretraining's classes name.

An arm's gain over the reference in the categories that the class list of its pretraining data has,
minus its gain in the others: a difference of differences, paired over images and seeds. Over all
arms they are one family, corrected by Holm's method.

Two names are the same category where they are equal once written small, with spaces for ``_`` and
``-``; of a list such as "tench, Tinca tinca" every part is a name. Nothing else is guessed: what a
word of one list is called in the other is for ``names`` to say.

Source: Zhao et al. 2021, table 2 (pretraining on images and labels that fit the task less or more).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.records import Finding, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import DetectionRun, ExposedRun
from whytransfer.diagnose.comparing import family_of, number
from whytransfer.diagnose.contrasts import (
    COLUMNS,
    Contrast,
    Floats,
    Key,
    Precision,
    Row,
    Scores,
    Term,
    Weights,
    arms_of,
    class_scorer,
    detections_of,
    family,
    largest,
    on_same_images,
    reference_of,
    seed_table,
    seeds_caveat,
    weights_for,
)
from whytransfer.ops.means import mean_of_known

QUESTION = "Does the gain come from categories that pretraining had already?"
NEEDS = "exposed"

_WHERE = "label_overlap"
_UNIT = "AP points"
_CAVEAT = (
    "Seen and unseen categories differ in more than having been seen: in size, number and"
    " difficulty, and AP has a ceiling; the difference of the gains takes out only what the"
    " reference shares. The intervals are over images and seeds, not over categories: they speak of"
    " these. The class list says what the pretraining images were collected for; a method without"
    " labels saw the pictures and not the names, and images show more than their class."
)


class Config(BaseConfig):
    """Which names are the same, and how gains are compared.

    Attributes:
        names: Class of the task → names of the same category in the pretraining's class list, or
            of its kinds (``dog: [beagle, collie]``); they count beside the class' own name.
        reference: The arm whose scores are taken off; by default ``random_init`` where it is among
            the arms, else the first one.
        precision: Which AP.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        seed: Of the bootstrap.
    """

    names: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    reference: str | None = None
    precision: Precision = "AP"
    num_draws: int = Field(1000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class _Split:
    """Which categories of the task one arm's pretraining had; ``seen`` (C,) by their number."""

    arm: str
    seen: tuple[bool, ...]

    @property
    def counts(self) -> tuple[int, int]:
        return sum(self.seen), len(self.seen) - sum(self.seen)


@dataclass(frozen=True)
class _Gains:
    """An arm's gain over the reference in the categories seen and unseen, and how they differ."""

    split: _Split
    seen: Contrast
    unseen: Contrast
    differ: Contrast


def normalised(name: str) -> frozenset[str]:
    """Returns the names that a class is called by, as they are compared.

    >>> sorted(normalised("Tench, Tinca_tinca"))
    ['tench', 'tinca tinca']
    """
    parts = (re.sub(r"[\s_-]+", " ", part).strip().casefold() for part in name.split(","))
    return frozenset(part for part in parts if part)


def answer(
    runs: Sequence[ExposedRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Says whether an arm gains more where its pretraining had the category.

    Raises:
        InputError: Fewer than two arms detect, they were tested on different images, nobody said
            what an arm was pretrained on, a name is unknown, or no arm has categories of both
            kinds.
    """
    own = [run for run in runs if not run.variant]
    detectors = detections_of(own)
    if not detectors:
        raise InputError(_WHERE, "no run detects anything", "finished detectors")
    on_same_images(detectors, _WHERE)
    reference = reference_of(arms_of(detectors), config.reference, _WHERE)
    classes = detectors[0].truth.classes
    splits, all_alike = _splits(own, classes, reference, config)
    num_images = len(detectors[0].truth.images)
    stream = Stream(config.seed, f"{_WHERE}/images")
    weights = weights_for(stream, num_images, config.num_draws, len(splits))
    scores = _scores(detectors, splits, reference, weights, config.precision)
    gains = _gains(scores, splits, reference)
    chosen = largest(one.differ for one in gains)
    contrasts = [c for one in gains for c in (one.seen, one.unseen, one.differ)]
    caveat = _CAVEAT + (f" Without a split: {'; '.join(all_alike)}." if all_alike else "")
    return Finding(
        analysis=_WHERE,
        question=QUESTION,
        answer=_sentence(gains, reference),
        headline=chosen.metric(f"{config.precision}[{chosen.label}]", _UNIT, num_images),
        caveat=caveat + seeds_caveat(contrasts),
        metrics=tuple(
            contrast.metric(f"{config.precision}[{contrast.label}]", _UNIT, num_images)
            for contrast in contrasts
            if contrast.label != chosen.label
        ),
        tables=(
            _gain_table(gains, config.precision),
            _class_table(gains, classes, scores, reference),
            seed_table(contrasts, _UNIT),
        ),
        figures={"gain_by_category": tuple(row for one in gains for row in _dots(one))},
    )


def _splits(
    runs: Sequence[ExposedRun], classes: Sequence[str], reference: str, config: Config
) -> tuple[list[_Split], list[str]]:
    """Returns the arms whose pretraining had some categories and lacked others; and which don't."""
    _require_classes(config.names, classes)
    lists: dict[str, frozenset[str]] = {}
    for run in runs:
        if run.arm == reference or run.arm in lists or run.detections is None:
            continue
        if run.pretrained_on is None:
            raise InputError(
                _WHERE, f"nobody said what {run.arm} was pretrained on", "its data",
                "name them with --against; in a study, against: DATA",
            )  # fmt: skip
        lists[run.arm] = _class_names(run.pretrained_on)
    _require_names(config.names, lists)
    found = [
        _Split(arm, tuple(bool(_called(name, config.names) & known) for name in classes))
        for arm, known in lists.items()
    ]
    alike = [
        f"{s.arm} (its pretraining had {'none' if not any(s.seen) else 'all'} of the categories)"
        for s in found
        if all(s.seen) or not any(s.seen)
    ]
    splits = [s for s in found if any(s.seen) and not all(s.seen)]
    if not splits:
        raise InputError(
            _WHERE, f"nothing to compare: {'; '.join(alike)}",
            "an arm whose pretraining had some of the categories and lacked others",
            "say by names what the task's classes are called there: " + ", ".join(classes),
        )  # fmt: skip
    return splits, alike


def _class_names(data: Sequence[Dataset]) -> frozenset[str]:
    """Collects the names of all classes of some pretraining data."""
    every = [normalised(name) for one in data for name in one.open("train").classes]
    return frozenset().union(*every)


def _called(name: str, names: Mapping[str, Sequence[str]]) -> frozenset[str]:
    return normalised(name).union(*(normalised(other) for other in names.get(name, ())))


def _require_classes(names: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    for name in names:
        if name not in classes:
            raise InputError(
                f"{_WHERE}, field names.{name}", "no class of the task",
                "one of " + ", ".join(classes), nearest(name, classes),
            )  # fmt: skip


def _require_names(names: Mapping[str, Sequence[str]], lists: Mapping[str, frozenset[str]]) -> None:
    """Checks that what ``names`` says is in some pretraining's class list, so no typing error."""
    known = frozenset().union(*lists.values())
    for name, others in names.items():
        for other in others:
            if not normalised(other) <= known:
                raise InputError(
                    f"{_WHERE}, field names.{name}", f"no class {other!r} in the pretraining data",
                    "names from its class list", nearest(other, sorted(known)),
                )  # fmt: skip


def _scores(
    runs: Sequence[DetectionRun],
    splits: Sequence[_Split],
    reference: str,
    weights: Weights,
    precision: Precision,
) -> Scores:
    """Scores every run on the categories seen and unseen by each arm that it is compared in."""
    values: dict[Key, float] = {}
    draws: dict[Key, Floats] = {}
    for run in runs:
        own = [split for split in splits if run.arm in (split.arm, reference)]
        if own:
            at = class_scorer(run, precision)
            plain, drawn = at(None), at(weights)
            for label, value in enumerate(plain):
                key = Key(run.arm, run.seed, f"class {label}")
                values[key], draws[key] = float(value), drawn[:, label]
        for split in own:
            for kind, chosen in (("seen", True), ("unseen", False)):
                columns = np.array(split.seen) == chosen
                key = Key(run.arm, run.seed, _part(kind, split.arm))
                values[key] = float(mean_of_known(plain[columns]))
                draws[key] = mean_of_known(drawn[:, columns])
    return Scores(precision, _UNIT, weights.shape[1], values, draws)


def _part(kind: str, arm: str) -> str:
    return f"{kind} by {arm}"


def _gains(scores: Scores, splits: Sequence[_Split], reference: str) -> list[_Gains]:
    """Measures the gains by kind of category; their differences are corrected as one family."""

    def gain(arm: str, kind: str, sign: float = 1.0) -> tuple[Term, Term]:
        part = _part(kind, arm)
        return Term(sign, arm, part), Term(-sign, reference, part)

    differ = family(
        [
            scores.contrast(
                f"gain of {s.arm} in seen - in unseen categories",
                *gain(s.arm, "seen"),
                *gain(s.arm, "unseen", -1.0),
            )
            for s in splits
        ]
    )
    return [
        _Gains(
            split,
            scores.contrast(f"gain of {split.arm} in seen categories", *gain(split.arm, "seen")),
            scores.contrast(
                f"gain of {split.arm} in unseen categories", *gain(split.arm, "unseen")
            ),
            difference,
        )
        for split, difference in zip(splits, differ, strict=True)
    ]


def _sentence(gains: Sequence[_Gains], reference: str) -> str:
    count = family_of(len(gains))
    ordered = sorted(gains, key=lambda one: not one.differ.shown)
    said = "; ".join(_said(one) for one in ordered)
    if not ordered[0].differ.shown:
        return (
            f"No difference shown between the gain over {reference} in categories that pretraining"
            f" had and in others ({count}): {said}."
        )
    return f"Gains over {reference} by whether pretraining had the category ({count}): {said}."


def _said(one: _Gains) -> str:
    seen, unseen = one.split.counts
    parts = (
        f"{one.seen.said(_UNIT)} in {seen} seen, {one.unseen.said(_UNIT)} in {unseen} unseen;"
        f" they differ by {one.differ.said(_UNIT)}"
    )
    if not one.differ.shown:
        return f"{one.split.arm} {parts}"
    more = "more" if one.differ.value > 0 else "less"
    return f"{one.split.arm} gains {more} in seen ones: {parts}"


def _gain_table(gains: Sequence[_Gains], metric: str) -> Table:
    rows: list[Row] = []
    for one in gains:
        kinds = zip(("seen", "unseen"), one.split.counts, (one.seen, one.unseen), strict=True)
        for kind, count, found in kinds:
            whole = {"difference": number(found.value), "p": found.certainty.p_value}
            ends = {"low": found.certainty.low, "high": found.certainty.high}
            rows.append(
                {"arm": one.split.arm, "gain in": kind, "categories": count, **whole, **ends}
            )
        rows.append(
            {
                "arm": one.split.arm, "gain in": "seen - unseen",
                "categories": len(one.split.seen), **one.differ.columns(),
            }
        )  # fmt: skip
    columns = ("arm", "gain in", "categories", *COLUMNS)
    filled = tuple({name: row.get(name) for name in columns} for row in rows)
    title = f"Gains by category ({metric}, {_UNIT}; the differences corrected by Holm's method)"
    return Table(title=title, columns=columns, rows=filled)


def _class_table(
    gains: Sequence[_Gains], classes: Sequence[str], scores: Scores, reference: str
) -> Table:
    rows: list[Row] = []
    for one in gains:
        arm = one.split.arm
        for label, (name, seen) in enumerate(zip(classes, one.split.seen, strict=True)):
            part = f"class {label}"
            own, its = Term(1, arm, part), Term(1, reference, part)
            gain = scores.contrast(name, own, its._replace(sign=-1))
            rows.append(
                {
                    "arm": arm, "class": name, "in pretraining": "yes" if seen else "no",
                    "own": number(scores.contrast(name, own).value),
                    "reference": number(scores.contrast(name, its).value),
                    "gain": number(gain.value),
                    "low": gain.certainty.low, "high": gain.certainty.high,
                }
            )  # fmt: skip
    columns = ("arm", "class", "in pretraining", "own", "reference", "gain", "low", "high")
    title = f"Every category ({scores.metric}; intervals of each alone)"
    return Table(title=title, columns=columns, rows=tuple(rows))


def _dots(one: _Gains) -> list[Row]:
    pairs = (("seen", one.seen), ("unseen", one.unseen))
    return [
        {
            "arm": one.split.arm, "group": kind, "value": number(found.value),
            "low": found.certainty.low, "high": found.certainty.high,
        }
        for kind, found in pairs
    ]  # fmt: skip

"""Whether pretraining saw the test images: the same files, the same pixels, near duplicates.

Every test image is looked for in the training splits that the arms were pretrained on, by
:mod:`whytransfer.data.overlap`, which says what counts as a near duplicate and what is not found.
Where an arm is a detector, its AP without those images stands beside that with them, under the same
draws of the images; over all arms the differences are corrected by Holm's method.

Source: Barz and Denzler 2020, "Do we train on test data?" (duplicates between splits); Kolesnikov
et al. 2020, "Big Transfer" (scores without the test images that pretraining has near duplicates
of).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding, Metric, Picture, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset, subset
from whytransfer.data.overlap import MAX_DISTANCE, Match, Overlap, between
from whytransfer.data.sample import Source
from whytransfer.diagnose.analysis import DetectionRun, ExposedRun
from whytransfer.diagnose.comparing import number
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
    detections_of,
    family,
    on_same_images,
    scorer,
    seeds_caveat,
    weights_for,
)
from whytransfer.diagnose.gallery import write_photograph
from whytransfer.ops.binomial import clopper_pearson

QUESTION = "Did pretraining see the test images?"
NEEDS = "exposed"

_WHERE = "leakage"
_WITHOUT = "without"
_UNIT = "AP points"
_LISTED = 200
_CAVEAT = (
    "Found are the same files, the same pixels, and images saved again at another quality or size;"
    " mirrored, cropped and recoloured copies are not, so the count is a lower bound, and a near"
    " duplicate can be another photograph of a plain scene: look at the pairs. The whole training"
    " split counts as seen, even where a limit left a part of it out. The interval is that of the"
    " share in test sets drawn like this one. AP without the leaked images is that of"
    " other, perhaps easier or harder, images: compare it with an arm that did not see them."
)


class Config(BaseConfig):
    """What counts as found, and how scores are compared.

    Attributes:
        max_distance: Bits in which the hashes of near duplicates differ at most, of 64.
        precision: Which AP.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        num_pictures: Pairs of pictures for each pretraining data.
        seed: Of the bootstrap.
    """

    max_distance: int = Field(MAX_DISTANCE, ge=0, le=64)
    precision: Precision = "AP"
    num_draws: int = Field(1000, ge=100)
    num_pictures: int = Field(6, ge=0)
    seed: int = 0


@dataclass(frozen=True)
class _Leak:
    """What was found of one pretraining's data, of which several arms may have been made.

    ``seen`` (I,) says of each test image whether it is in them.
    """

    arms: tuple[str, ...]
    data: tuple[Dataset, ...]
    overlap: Overlap
    seen: NDArray[np.bool_]

    @property
    def label(self) -> str:
        return ", ".join(self.arms)

    @property
    def count(self) -> int:
        return int(self.seen.sum())

    @property
    def metric(self) -> Metric:
        total = len(self.seen)
        low, high = clopper_pearson(self.count, total)
        return Metric(
            name=f"leaked[{self.label}]",
            value=100.0 * self.count / total,
            unit="%",
            higher_is_better=False,
            n=total,
            low=100.0 * low,
            high=100.0 * high,
            interval="images (exact binomial)",
        )


def answer(
    runs: Sequence[ExposedRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Counts the test images that are in the arms' pretraining data, and scores without them.

    Args:
        data: Whose test split is looked for; of it the images that the detectors were tested on.

    Raises:
        InputError: There are no test images, nobody said what an arm was pretrained on, no arm was
            pretrained, or the detectors were tested on different images.
    """
    detectors = detections_of(runs)
    test = _test_images(data, detectors)
    leaks = _leaks(runs, test, config.max_distance)
    effects: tuple[Contrast, ...] = ()
    leaky = {arm: leak for leak in leaks if leak.count for arm in leak.arms}
    affected = [run for run in detectors if run.arm in leaky]
    scores = None
    if affected:
        arms = list(dict.fromkeys(run.arm for run in affected))
        stream = Stream(config.seed, f"{_WHERE}/images")
        weights = weights_for(stream, len(test), config.num_draws, len(arms))
        scores = _scores(affected, leaky, weights, config.precision)
        effects = family(
            [scores.contrast(arm, Term(1, arm, _WITHOUT), Term(-1, arm)) for arm in arms]
        )
    worst = max(leaks, key=lambda leak: leak.count)
    named = [effect.metric(_name(effect, config), _UNIT, len(test)) for effect in effects]
    return Finding(
        analysis=_WHERE,
        question=QUESTION,
        answer=_sentence(worst, effects, config.precision),
        headline=worst.metric,
        caveat=_CAVEAT + (seeds_caveat(effects) if effects else ""),
        metrics=(*(leak.metric for leak in leaks if leak is not worst), *named),
        tables=_tables(leaks, effects, scores),
        figures=_figures(effects, scores),
        pictures=tuple(
            picture
            for number, leak in enumerate(leaks)
            for picture in _pictures(leak, test, workspace, number, config.num_pictures)
        ),
    )


def _test_images(data: Dataset | None, detectors: Sequence[DetectionRun]) -> Source:
    """Opens the test images, those alone that the detectors were tested on where there are any."""
    if data is None:
        raise InputError(_WHERE, "no data given", "the test images", "name them with --data")
    source = data.open("test")
    if not detectors:
        return source
    on_same_images(detectors, _WHERE)
    places = {source.name(index): index for index in range(len(source))}
    wanted = detectors[0].truth.images
    if lacking := [name for name in wanted if name not in places]:
        raise InputError(
            _WHERE, f"{len(lacking)} images of the test, such as {lacking[0]}, are not in the data",
            "the data that the runs were tested on", "give those with --data",
        )  # fmt: skip
    return subset(source, np.array([places[name] for name in wanted], dtype=np.int64))


def _leaks(runs: Sequence[ExposedRun], test: Source, max_distance: int) -> list[_Leak]:
    """Compares the test images with each pretraining's data once, however many arms are of it."""
    arms: dict[tuple[str, ...], list[str]] = {}
    opened: dict[tuple[str, ...], tuple[Dataset, ...]] = {}
    for run in runs:
        if run.pretrained_on is None:
            raise InputError(
                _WHERE, f"nobody said what {run.arm} was pretrained on", "its data",
                "name them with --against; in a study, against: DATA",
            )  # fmt: skip
        key = tuple(sorted({one.fingerprint for one in run.pretrained_on}))
        if key and run.arm not in arms.setdefault(key, []):
            arms[key].append(run.arm)
            opened[key] = run.pretrained_on
    if not arms:
        raise InputError(_WHERE, "no arm was pretrained on anything", "one that was")
    return [_leak(tuple(arms[key]), opened[key], test, max_distance) for key in arms]


def _leak(
    arms: tuple[str, ...], data: tuple[Dataset, ...], test: Source, max_distance: int
) -> _Leak:
    theirs = ((_prefix(number), one.open("train")) for number, one in enumerate(data))
    overlap = between([("test", test)], theirs, max_distance)
    found = {match.name.partition("/")[2] for match in overlap.matches}
    seen = np.array([test.name(index) in found for index in range(len(test))], dtype=bool)
    return _Leak(arms, data, overlap, seen)


def _prefix(number: int) -> str:
    """What the images of a pretraining's data are called by: the second one's by its number."""
    return "train" if number == 0 else f"train{number + 1}"


def _scores(
    runs: Sequence[DetectionRun],
    leaky: Mapping[str, _Leak],
    weights: Weights,
    precision: Precision,
) -> Scores:
    """Scores every run on all test images, and without those that its pretraining saw."""
    values: dict[Key, float] = {}
    draws: dict[Key, Floats] = {}
    for run in runs:
        at, unseen = scorer(run, precision), (~leaky[run.arm].seen).astype(np.int64)
        for part, kept in (("", np.ones_like(unseen)), (_WITHOUT, unseen)):
            key = Key(run.arm, run.seed, part)
            values[key], draws[key] = float(at(kept)), at(weights * kept)
    return Scores(precision, _UNIT, weights.shape[1], values, draws)


def _name(effect: Contrast, config: Config) -> str:
    return f"{config.precision}[{effect.label} without its leaked images - with them]"


def _sentence(worst: _Leak, effects: Sequence[Contrast], precision: str) -> str:
    metric, total = worst.metric, len(worst.seen)
    share = f"{metric.value:.2g} % [{metric.low:.2g}, {metric.high:.2g}]"
    if not worst.count:
        return (
            "No difference shown to a test that pretraining never saw: none of the"
            f" {total} test images ({share}) was found in what {worst.label} saw."
        )
    kinds = ", ".join(f"{count} {kind}" for kind, count in worst.overlap.counts.items())
    said = (
        f"{worst.count} of {total} test images ({share}) are in what {worst.label} saw"
        f" in pretraining ({kinds})"
    )
    parts = [
        f"{effect.label} {effect.said(_UNIT)}{'' if effect.shown else ' (no difference shown)'}"
        for effect in effects
    ]
    without = f"; without them {precision} changes by: " + "; ".join(parts) if parts else ""
    return f"{said}{without}."


def _tables(
    leaks: Sequence[_Leak], effects: Sequence[Contrast], scores: Scores | None
) -> tuple[Table, ...]:
    counted: list[Row] = [
        {
            "pretraining": leak.label, "images of it": leak.overlap.num_others,
            "test images": len(leak.seen), **{str(k): n for k, n in leak.overlap.counts.items()},
            "found": leak.count,
            "%": leak.metric.value, "low": leak.metric.low, "high": leak.metric.high,
            "unreadable": len(leak.overlap.problems),
        }
        for leak in leaks
    ]  # fmt: skip
    tables = [_table("Test images that are in the pretraining data", counted)]
    if scores is not None:
        rows = [
            {
                "arm": effect.label, "with": _value(scores, effect.label, ""),
                "without": _value(scores, effect.label, _WITHOUT), **effect.columns(),
            }
            for effect in effects
        ]  # fmt: skip
        columns = ("arm", "with", "without", *COLUMNS)
        title = f"{scores.metric} with and without them ({_UNIT}; p corrected by Holm's method)"
        tables.append(Table(title=title, columns=columns, rows=tuple(rows)))
    found = [(leak, match) for leak in leaks for match in leak.overlap.matches]
    if found:
        rows = [_match_row(leak, match) for leak, match in found[:_LISTED]]
        tables.append(_table(f"Which ones ({len(rows)} of {len(found)})", rows))
    return tuple(tables)


def _table(title: str, rows: Sequence[Row]) -> Table:
    return Table(title=title, columns=tuple(rows[0]), rows=tuple(rows))


def _match_row(leak: _Leak, match: Match) -> Row:
    return {
        "pretraining": leak.label, "test image": match.name.partition("/")[2],
        "found as": match.other, "the same": match.kind, "bits apart": match.distance,
    }  # fmt: skip


def _value(scores: Scores, arm: str, part: str) -> float | None:
    return number(scores.contrast(arm, Term(1, arm, part)).value)


def _figures(effects: Sequence[Contrast], scores: Scores | None) -> dict[str, tuple[Row, ...]]:
    if scores is None:
        return {}
    rows: list[Row] = []
    for effect in effects:
        for name, part in (("all images", ""), ("without the leaked", _WITHOUT)):
            found = scores.contrast(effect.label, Term(1, effect.label, part)).certainty
            value, low, high = number(found.value), found.low, found.high
            rows.append(
                {"arm": effect.label, "group": name, "value": value, "low": low, "high": high}
            )
    return {f"{scores.metric}_with_and_without": tuple(rows)}


def _pictures(leak: _Leak, test: Source, workspace: Path, number: int, limit: int) -> list[Picture]:
    """Writes pairs of pictures, a test image and the one it was found as; near ones first."""
    ordered = sorted(leak.overlap.matches, key=lambda match: -match.distance)[:limit]
    if not ordered:
        return []
    places = {f"test/{test.name(index)}": (test, index) for index in range(len(test))}
    wanted = {match.other for match in ordered}
    for prefix, source in ((_prefix(n), one.open("train")) for n, one in enumerate(leak.data)):
        for index in range(len(source)):
            if (name := f"{prefix}/{source.name(index)}") in wanted:
                places[name] = (source, index)
    pictures = []
    for pair, match in enumerate(ordered):
        for side, name in (("test", match.name), ("pretraining", match.other)):
            source, index = places[name]
            pixels = cv2.cvtColor(source[index].image, cv2.COLOR_RGB2BGR)
            target = workspace / f"leak_{number}_{pair}_{side}.jpg"
            photograph = write_photograph(np.asarray(pixels, dtype=np.uint8), target)
            pictures.append(
                Picture(
                    file=photograph.file,
                    width=photograph.width,
                    height=photograph.height,
                    caption=f"{name} ({match.kind}, {match.distance} bits apart)",
                    tags={"arm": leak.label, "type": match.kind, "of": side, "pair": str(pair)},
                )
            )
    return pictures

"""The detection errors of one pretraining: each seed's, and how they move with the images.

Letters: S seeds, B draws, K TIDE types, M of them main ones, C classes; Hoiem's types are always
five.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_estimates import Measured
from whytransfer.ops.average_precision import By
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.hoiem import (
    HoiemTypes,
    Rule,
    counted_rows,
    hoiem_types,
    impact,
    type_counts,
)
from whytransfer.ops.masks import areas as mask_areas
from whytransfer.ops.object_sizes import Sizes, bands
from whytransfer.ops.tide import (
    MAIN_TYPES,
    TideErrors,
    TideGains,
    among,
    tide_errors,
    tide_gains,
)

Floats = NDArray[np.float64]

RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class ErrorRules:
    """How errors are typed and counted: TIDE's thresholds, Hoiem's similar sets and prefix.

    Attributes:
        groups: Name → classes whose errors are reported together.
        sizes: The bands of size by which errors are told apart; ``None`` for none.
        by: What overlaps for TIDE's types; Hoiem's are of boxes.
    """

    foreground: float
    background: float
    max_per_image: int
    similar: tuple[tuple[str, ...], ...]
    rule: Rule
    groups: Mapping[str, tuple[str, ...]]
    sizes: Sizes | None
    by: By = "boxes"


@dataclass(frozen=True)
class ErrorProfile:
    """What one arm does wrong. APs and gains are in percent, NaN for a class without an object.

    Attributes:
        arm: Its name.
        seeds: (S,) of its runs.
        types: Hoiem's types of every detection, one entry per seed.
        ap: (S, C) AP at the foreground threshold.
        dap_per_class: (S, K, C) gain of fixing each TIDE type.
        dap: Of the mean over the classes, by TIDE type.
        parts: The same of the main types by part of the data: (``class``, name), (``group``, name)
            or (``size``, name); of a size, what fixing its errors alone gains in all classes.
        shares: Hoiem's types in percent of the counted detections.
        counts: (C, 5) Hoiem's types of the counted detections, summed over the seeds, by rule.
        impact: (C,) mean over the seeds of Hoiem's normalised AP, by repair.
    """

    arm: str
    seeds: tuple[int, ...]
    types: tuple[HoiemTypes, ...]
    ap: Floats
    dap_per_class: Floats
    dap: Measured
    parts: dict[tuple[str, str], Measured]
    shares: Measured
    counts: dict[Rule, Floats]
    impact: dict[str, Floats]

    @property
    def mean_ap(self) -> float:
        """AP in percent, the mean over the seeds and the classes that have one."""
        return float(np.nanmean(self.ap))


def error_profile(
    runs: Sequence[DetectionRun], rules: ErrorRules, weights: NDArray[np.int64]
) -> ErrorProfile:
    """Types the errors of the runs of one arm and costs them under every draw.

    Args:
        runs: Of one arm, over one truth.
        weights: (B, I) how often each image counts in each draw.
    """
    draws, seeds = weights.astype(np.float64), tuple(run.seed for run in runs)
    tide = [_tide(run, rules, draws) for run in runs]
    hoiem = [_hoiem(run, rules, draws) for run in runs]
    return ErrorProfile(
        arm=runs[0].arm,
        seeds=seeds,
        types=tuple(one.types for one in hoiem),
        ap=np.stack([one.plain.before for one in tide]),
        dap_per_class=np.stack([one.plain.per_class() for one in tide]),
        dap=_measured(seeds, [one.dap for one in tide]),
        parts={part: _measured(seeds, [one.parts[part] for one in tide]) for part in tide[0].parts},
        shares=_measured(seeds, [one.shares for one in hoiem]),
        counts={rule: np.sum([one.counts[rule] for one in hoiem], axis=0) for rule in RULES},
        impact={
            name: np.mean([one.impact[name] for one in hoiem], axis=0) for name in hoiem[0].impact
        },
    )


def average_precision_of(run: DetectionRun, rules: ErrorRules) -> float:
    """Returns the mean AP of one run in percent at the foreground threshold."""
    return float(np.nanmean(tide_gains(_errors(run, rules)).before))


def shares_of(counts: Floats) -> Floats:
    """Returns counts (..., N) in percent of their sum; NaN where nothing was counted."""
    total = counts.sum(axis=-1, keepdims=True)
    undefined = np.full(counts.shape, np.nan)
    shares: Floats = np.divide(100.0 * counts, total, out=undefined, where=total > 0)
    return shares


_Pair = tuple[Floats, Floats]
"""Quantities plain, and under each draw."""


@dataclass(frozen=True)
class _Tide:
    plain: TideGains
    dap: _Pair
    parts: dict[tuple[str, str], _Pair]


@dataclass(frozen=True)
class _Hoiem:
    types: HoiemTypes
    counts: dict[Rule, Floats]
    shares: _Pair
    impact: dict[str, Floats]


def _measured(seeds: tuple[int, ...], pairs: Sequence[_Pair]) -> Measured:
    return Measured(seeds, np.stack([p for p, _ in pairs]), np.stack([d for _, d in pairs]))


def _errors(run: DetectionRun, rules: ErrorRules) -> TideErrors:
    return tide_errors(
        run.detections,
        run.truth,
        foreground=rules.foreground,
        background=rules.background,
        max_per_image=rules.max_per_image,
        by=rules.by,
    )


def _tide(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Tide:
    errors = _errors(run, rules)
    plain, drawn = tide_gains(errors), tide_gains(errors, draws)
    parts: dict[tuple[str, str], _Pair] = {}
    for part, members in _members(run.truth.classes, rules.groups):
        parts[part] = (_main(plain.in_all(members)), _main(drawn.in_all(members)))
    for name, of_size in _by_size(run, errors, rules):
        parts["size", name] = (
            _main(tide_gains(of_size).in_all()),
            _main(tide_gains(of_size, draws).in_all()),
        )
    return _Tide(plain, (plain.in_all(), drawn.in_all()), parts)


def _main(gains: Floats) -> Floats:
    return gains[..., : len(MAIN_TYPES)]


def _members(
    classes: Sequence[str], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    """Yields every group and every class with its members among the classes."""
    for group, names in groups.items():
        yield ("group", group), np.isin(classes, names)
    for index, name in enumerate(classes):
        yield ("class", name), np.arange(len(classes)) == index


def _by_size(
    run: DetectionRun, errors: TideErrors, rules: ErrorRules
) -> Iterator[tuple[str, TideErrors]]:
    """Yields each band with the errors on its objects.

    An error that is about an object has that object's size, any other the detection's own.
    """
    if rules.sizes is None:
        return
    truth, found = run.truth, run.detections
    scale = bands(truth, rules.sizes)
    masks = found.masks if rules.by == "masks" else None
    own = area_xyxy(found.boxes_xyxy) if masks is None else mask_areas(masks)
    size = scale.of(own[errors.row], errors.label)
    about = errors.target >= 0
    size_of_object = scale.of(truth.area, truth.label)
    size[about] = size_of_object[errors.target[about]]
    for band, name in enumerate(scale.names):
        yield name, among(errors, truth, size == band, size_of_object == band)


def _hoiem(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Hoiem:
    found, truth = replace(run.detections, masks=None), run.truth
    types = hoiem_types(found, truth, rules.similar)
    rows = {rule: counted_rows(types, found, truth, rule) for rule in RULES}
    counts = {rule: type_counts(types, found, truth, rows=rows[rule]) for rule in RULES}
    drawn = type_counts(types, found, truth, rows=rows[rules.rule], weights=draws)
    return _Hoiem(
        types=types,
        counts=counts,
        shares=(shares_of(counts[rules.rule].sum(axis=0)), shares_of(drawn.sum(axis=1))),
        impact=impact(types, found, truth),
    )

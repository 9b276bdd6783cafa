"""The detection errors of one pretraining: its seeds, their mean, and how it moves with the images.

Letters: S seeds, B draws, K TIDE types, C classes; Hoiem's types are always five.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops.hoiem import (
    HoiemTypes,
    Rule,
    counted_rows,
    hoiem_types,
    impact,
    type_counts,
)
from whytransfer.ops.tide import tide_errors, tide_gains

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorRules:
    """How errors are typed and counted: TIDE's thresholds, Hoiem's similar sets and prefix."""

    foreground: float
    background: float
    max_per_image: int
    similar: tuple[tuple[str, ...], ...]
    rule: Rule


@dataclass(frozen=True)
class ErrorProfile:
    """What one arm does wrong. APs and gains are in percent, NaN for a class without an object.

    Attributes:
        arm: Its name.
        seeds: (S,) of its runs.
        types: Hoiem's types of every detection, one entry per seed.
        ap: (S, C) AP at the foreground threshold.
        dap_per_class: (S, K, C) gain of fixing each TIDE type.
        dap: (S, K) the same, of the mean over the classes.
        dap_draws: (B, K) the mean over the seeds, under each draw of the images.
        counts: (C, 5) Hoiem's types of the counted detections, summed over the seeds.
        count_draws: (B, 5) the same over all classes, under each draw.
        impact: (C,) mean over the seeds of Hoiem's normalised AP, by repair.
    """

    arm: str
    seeds: tuple[int, ...]
    types: tuple[HoiemTypes, ...]
    ap: Floats
    dap_per_class: Floats
    dap: Floats
    dap_draws: Floats
    counts: Floats
    count_draws: Floats
    impact: dict[str, Floats]


def error_profile(
    runs: Sequence[DetectionRun], rules: ErrorRules, weights: NDArray[np.int64]
) -> ErrorProfile:
    """Types the errors of the runs of one arm and costs them under every draw.

    Args:
        runs: Of one arm, over one truth.
        weights: (B, I) how often each image counts in each draw.
    """
    draws = weights.astype(np.float64)
    tide = [_tide(run, rules, draws) for run in runs]
    hoiem = [_hoiem(run, rules, draws) for run in runs]
    impacts = [
        impact(one.types, run.detections, run.truth) for one, run in zip(hoiem, runs, strict=True)
    ]
    return ErrorProfile(
        arm=runs[0].arm,
        seeds=tuple(run.seed for run in runs),
        types=tuple(one.types for one in hoiem),
        ap=np.stack([one.ap for one in tide]),
        dap_per_class=np.stack([one.dap_per_class for one in tide]),
        dap=np.stack([one.dap for one in tide]),
        dap_draws=np.mean([one.dap_draws for one in tide], axis=0),
        counts=np.sum([one.counts for one in hoiem], axis=0),
        count_draws=np.sum([one.count_draws for one in hoiem], axis=0),
        impact={name: np.mean([one[name] for one in impacts], axis=0) for name in impacts[0]},
    )


@dataclass(frozen=True)
class _Tide:
    ap: Floats
    dap_per_class: Floats
    dap: Floats
    dap_draws: Floats


@dataclass(frozen=True)
class _Hoiem:
    types: HoiemTypes
    counts: Floats
    count_draws: Floats


def _tide(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Tide:
    errors = tide_errors(
        run.detections,
        run.truth,
        foreground=rules.foreground,
        background=rules.background,
        max_per_image=rules.max_per_image,
    )
    plain = tide_gains(errors)
    return _Tide(
        ap=plain.before,
        dap_per_class=plain.per_class(),
        dap=plain.in_all(),
        dap_draws=tide_gains(errors, draws).in_all(),
    )


def _hoiem(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Hoiem:
    detections, truth = run.detections, run.truth
    types = hoiem_types(detections, truth, rules.similar)
    rows = counted_rows(types, detections, truth, rules.rule)
    return _Hoiem(
        types=types,
        counts=type_counts(types, detections, truth, rows=rows),
        count_draws=type_counts(types, detections, truth, rows=rows, weights=draws).sum(axis=1),
    )

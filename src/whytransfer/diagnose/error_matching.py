"""Which errors two arms make at the same AP: the better one by a run of another length.

A better detector has other errors just because it is better; a complete schedule of another length
takes that away, but only where its AP is about the other arm's. What gap is left is itself known to
within an interval, and is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.comparing import paired_seeds
from whytransfer.diagnose.error_differences import (
    AP_GAP,
    Pair,
    Profiles,
    as_they_are,
    in_all,
)
from whytransfer.diagnose.error_profile import (
    ErrorProfile,
    ErrorRules,
    average_precision_of,
    error_profile,
)

Variants = Mapping[str, Mapping[str, Sequence[DetectionRun]]]
"""Arm → name → its complete runs of other lengths."""


@dataclass(frozen=True)
class Matched:
    """An arm and the reference, the better one by that of its complete runs whose AP is nearest.

    Attributes:
        arm: The arm that is compared with the reference.
        better: The one of the two that has the higher AP.
        variant: The run of the better one whose AP is nearest; empty where that is its full one.
        tried: Whether the better one has runs of other lengths at all.
        gap: AP of the arm minus the reference's, as they are.
        gap_left: The same with that run.
        holds: Whether that is near enough for the two to be compared at one AP.
        over_seeds: Whether seeds are paired in the comparison.
        pair: The two, that run standing in for the better one.
    """

    arm: str
    better: str
    variant: str
    tried: bool
    gap: Metric
    gap_left: Metric
    holds: bool
    over_seeds: bool
    pair: Pair


def at_matched_ap(
    profiles: Profiles,
    variants: Variants,
    reference: str,
    rules: ErrorRules,
    weights: NDArray[np.int64],
    within: float,
) -> list[Matched]:
    """Exchanges the better arm's runs for those whose AP is nearest to the other's.

    Runs of one variant stand in together, the mean of their seeds.

    Args:
        variants: Of each arm that has any.
        within: AP points that the two may be apart, at most. No interval decides this: on few
            images it holds 0 however far apart they are.

    Returns:
        One for each arm but the reference.
    """
    found = []
    for plain in as_they_are(profiles, reference, weights.shape[1]):
        own, base = plain.own, plain.base
        better, worse = (own, base) if own.mean_ap >= base.mean_ap else (base, own)
        runs = variants.get(better.arm, {})
        nearest = _nearest(better, worse, runs, rules)
        nearer = error_profile(runs[nearest], rules, weights) if nearest else better
        ends = (nearer, base) if better is own else (own, nearer)
        pair = Pair(*ends, plain.n, note="matched AP")
        left = _gap(pair)
        found.append(
            Matched(
                arm=own.arm,
                better=better.arm,
                variant=nearest,
                tried=bool(runs),
                gap=_gap(plain),
                gap_left=left,
                holds=left.value is not None and abs(left.value) <= within,
                over_seeds=bool(paired_seeds(pair.own.seeds, pair.base.seeds)),
                pair=pair,
            )
        )
    return found


def _nearest(
    better: ErrorProfile,
    worse: ErrorProfile,
    runs: Mapping[str, Sequence[DetectionRun]],
    rules: ErrorRules,
) -> str:
    """The name of the better arm's runs whose AP is nearest to the worse arm's."""
    aps = {"": better.mean_ap} | {
        name: float(np.mean([average_precision_of(run, rules) for run in own]))
        for name, own in runs.items()
    }
    return min(aps, key=lambda name: abs(aps[name] - worse.mean_ap))


def _gap(pair: Pair) -> Metric:
    (gap,) = in_all([pair], AP_GAP)
    return gap.metric

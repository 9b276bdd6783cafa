"""Which errors two arms make at the same AP: the better one by a run of another length.

A better detector has other errors just because it is better; a complete schedule of another length
takes that away, but only where its AP is about the other arm's. What gap is left is itself known to
within an interval, and is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.comparing import paired_seeds
from whytransfer.diagnose.error_differences import (
    AP_GAP,
    COSTS,
    IN_HOIEM,
    IN_TIDE,
    Difference,
    Kind,
    Pair,
    Profiles,
    compare,
    corrected,
    others,
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
        tide: Differences in TIDE's main types with that run; empty where it is not near enough.
        shares: The same of Hoiem's types.
        costs: The same of what Hoiem's repairs gain.
    """

    arm: str
    better: str
    variant: str
    tried: bool
    gap: Metric
    gap_left: Metric
    holds: bool
    over_seeds: bool
    tide: tuple[Difference, ...] = ()
    shares: tuple[Difference, ...] = ()
    costs: tuple[Difference, ...] = ()


def at_matched_ap(
    profiles: Profiles,
    variants: Variants,
    reference: str,
    rules: ErrorRules,
    weights: NDArray[np.int64],
    within: float,
) -> list[Matched]:
    """Compares again after exchanging the better arm's runs for those whose AP is nearest.

    Runs of one variant stand in together, the mean of their seeds.

    Args:
        variants: Of each arm that has any.
        within: AP points that the two may be apart, at most. No interval decides this: on few
            images it holds 0 however far apart they are.

    Returns:
        One for each arm; differences only for those that come within reach.
    """
    n = weights.shape[1]
    found: list[tuple[Matched, dict[str, ErrorProfile]]] = []
    for arm, profile in others(profiles, reference):
        base = profiles[reference]
        better, worse = (profile, base) if profile.mean_ap >= base.mean_ap else (base, profile)
        runs = variants.get(better.arm, {})
        nearest = _nearest(better, worse, runs, rules)
        nearer = error_profile(runs[nearest], rules, weights) if nearest else better
        pair = {arm: profile, reference: base} | {better.arm: nearer}
        gap = _gap(profile, base, Pair(arm, reference, n))
        left = _gap(pair[arm], pair[reference], Pair(arm, reference, n, note="matched AP"))
        matched = Matched(
            arm=arm,
            better=better.arm,
            variant=nearest,
            tried=bool(runs),
            gap=gap,
            gap_left=left,
            holds=left.value is not None and abs(left.value) <= within,
            over_seeds=bool(paired_seeds(pair[arm].seeds, pair[reference].seeds)),
        )
        found.append((matched, pair))
    holding = {one.arm: pair for one, pair in found if one.holds}
    tide, shares, costs = (
        _rows(holding, reference, n, kind) for kind in (IN_TIDE, IN_HOIEM, COSTS)
    )
    return [
        replace(
            one,
            tide=tuple(row for row in tide if row.arm == one.arm),
            shares=tuple(row for row in shares if row.arm == one.arm),
            costs=tuple(row for row in costs if row.arm == one.arm),
        )
        for one, _ in found
    ]


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


def _gap(own: ErrorProfile, base: ErrorProfile, pair: Pair) -> Metric:
    (gap,) = compare(own.ap_in_all, base.ap_in_all, AP_GAP, pair)
    return gap.metric


def _rows(holding: Mapping[str, Profiles], reference: str, n: int, kind: Kind) -> list[Difference]:
    """The differences of all matched arms in one kind of number: one family."""
    return corrected(
        row
        for arm, pair in holding.items()
        for row in compare(
            kind.in_all(pair[arm]),
            kind.in_all(pair[reference]),
            kind,
            Pair(arm, reference, n, note="matched AP"),
        )
    )

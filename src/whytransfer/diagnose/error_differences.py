"""Which errors an arm makes more of than the reference does: as they are, and at matched AP.

Each set of comparisons that is read as one is corrected as one, by Holm's method: TIDE's main types
of all arms, Hoiem's types, the classes, the groups, the sizes, and what is compared at matched AP.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.comparing import ALPHA
from whytransfer.diagnose.error_estimates import differences
from whytransfer.diagnose.error_estimates import metric as metric_of
from whytransfer.diagnose.error_profile import (
    ErrorProfile,
    ErrorRules,
    average_precision_of,
    error_profile,
)
from whytransfer.ops import hoiem, tide
from whytransfer.ops.comparisons import holm_of_known
from whytransfer.ops.seeds_and_images import Certainty

Profiles = Mapping[str, ErrorProfile]


@dataclass(frozen=True)
class Difference:
    """How much more an arm loses to one type of error than the reference does.

    Attributes:
        arm: The arm that is compared.
        part: The class, group or size that is looked at; empty for all.
        type: One of TIDE's main types, or of Hoiem's.
        metric: The difference, arm minus reference, with its interval.
        p_value: Of this difference alone; ``None`` where it is undefined.
        corrected_p_value: Of it as one of its family; ``None`` as above.
        shown: Whether the corrected value is below the level.
    """

    arm: str
    part: str
    type: str
    metric: Metric
    p_value: float | None
    corrected_p_value: float | None = None
    shown: bool = False


@dataclass(frozen=True)
class Matched:
    """Two arms at nearly the same AP: the better one by another of its complete runs.

    Attributes:
        arm: The arm that is compared with the reference.
        better: The one of the two that has the higher AP.
        variant: The run of the better one whose AP is nearest; empty where that is its full one.
        gap: AP of the arm minus the reference's, in points, as they are.
        gap_left: The same with that run.
        differences: Of TIDE's main types, with that run.
    """

    arm: str
    better: str
    variant: str
    gap: float
    gap_left: float
    differences: tuple[Difference, ...] = ()


def in_tide(profiles: Profiles, reference: str, n: int) -> list[Difference]:
    """Compares what every other arm loses to each main type, in AP points."""
    main = tide.MAIN_TYPES
    return _corrected(
        Difference(arm, "", kind, _dap(found, kind, f"{arm} - {reference}", n), found.p_value)
        for arm, profile in _others(profiles, reference)
        for kind, found in zip(
            main, differences(profile.dap, profiles[reference].dap)[: len(main)], strict=True
        )
    )


def in_hoiem(profiles: Profiles, reference: str, n: int) -> list[Difference]:
    """Compares the share of each of Hoiem's types, in percentage points."""
    base = profiles[reference].shares
    return _corrected(
        Difference(arm, "", kind, _share(found, kind, f"{arm} - {reference}", n), found.p_value)
        for arm, profile in _others(profiles, reference)
        for kind, found in zip(hoiem.TYPES, differences(profile.shares, base), strict=True)
    )  # fmt: skip


def in_parts(profiles: Profiles, reference: str, n: int, level: str) -> list[Difference]:
    """Compares what is lost within each ``class``, ``group`` or ``size``, in AP points."""
    base = profiles[reference].parts
    return _corrected(
        Difference(
            arm, part, kind, _dap(found, kind, f"{arm} - {reference}, {part}", n),
            found.p_value,
        )
        for arm, profile in _others(profiles, reference)
        for (of, part), measured in profile.parts.items()
        if of == level
        for kind, found in zip(
            tide.MAIN_TYPES, differences(measured, base[of, part], many=True), strict=True
        )
    )  # fmt: skip


def at_matched_ap(
    profiles: Profiles,
    variants: Mapping[str, Mapping[str, Sequence[DetectionRun]]],
    reference: str,
    rules: ErrorRules,
    weights: NDArray[np.int64],
) -> list[Matched]:
    """Compares again after exchanging the better arm's runs for those whose AP is nearest.

    A better detector has other errors just because it is better; a complete schedule of another
    length takes that away. Runs of one variant stand in together, the mean of their seeds.

    Args:
        variants: Of each arm that has any, by name: complete runs of other lengths.

    Returns:
        A comparison for each arm of which the better side has other runs.
    """
    found: list[tuple[Matched, list[Difference]]] = []
    for arm, profile in _others(profiles, reference):
        base = profiles[reference]
        better, worse = (profile, base) if profile.mean_ap >= base.mean_ap else (base, profile)
        others = variants.get(better.arm, {})
        if not others:
            continue
        aps = {"": better.mean_ap} | {
            name: float(np.mean([average_precision_of(run, rules) for run in runs]))
            for name, runs in others.items()
        }
        nearest = min(aps, key=lambda name: abs(aps[name] - worse.mean_ap))
        nearer = error_profile(others[nearest], rules, weights) if nearest else better
        pair = {arm: profile, reference: base} | {better.arm: nearer}
        gap, gap_left = profile.mean_ap - base.mean_ap, pair[arm].mean_ap - pair[reference].mean_ap
        matched = Matched(arm, better.arm, nearest, gap, gap_left)
        found.append((matched, _matched_rows(pair, arm, reference, weights.shape[1])))
    corrected = iter(_corrected(row for _, rows in found for row in rows))
    return [
        replace(matched, differences=tuple(next(corrected) for _ in rows))
        for matched, rows in found
    ]


def _matched_rows(pair: Profiles, arm: str, reference: str, n: int) -> list[Difference]:
    estimates = differences(pair[arm].dap, pair[reference].dap)[: len(tide.MAIN_TYPES)]
    names = f"{arm} - {reference}, matched AP"
    return [
        Difference(arm, "", kind, _dap(found, kind, names, n), found.p_value)
        for kind, found in zip(tide.MAIN_TYPES, estimates, strict=True)
    ]


def _others(profiles: Profiles, reference: str) -> list[tuple[str, ErrorProfile]]:
    return [(arm, profile) for arm, profile in profiles.items() if arm != reference]


def _dap(found: Certainty, kind: str, names: str, n: int) -> Metric:
    return metric_of(found, f"dAP_{kind}[{names}]", "AP points", n)


def _share(found: Certainty, kind: str, names: str, n: int) -> Metric:
    correct = kind == hoiem.TYPES[hoiem.CORRECT]
    return metric_of(found, f"hoiem_{kind}[{names}]", "percentage points", n, better=correct)


def _corrected(family: Iterator[Difference]) -> list[Difference]:
    """Corrects the p-values of one family, of which those without a value are no part."""
    rows = list(family)
    values = holm_of_known([row.p_value for row in rows])
    return [
        replace(row, corrected_p_value=value, shown=value is not None and value < ALPHA)
        for row, value in zip(rows, values, strict=True)
    ]

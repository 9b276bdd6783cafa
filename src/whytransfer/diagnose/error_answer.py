"""The sentence that answers which errors a pretraining makes fewer of, and its headline."""

from collections.abc import Sequence

import numpy as np

from whytransfer.core.records import Metric
from whytransfer.diagnose.comparing import family_of
from whytransfer.diagnose.error_comparison import Compared
from whytransfer.diagnose.error_differences import Difference
from whytransfer.diagnose.error_matching import Matched
from whytransfer.diagnose.error_profile import ErrorProfile
from whytransfer.ops import tide

_NUM_NAMED = 3

Answer = tuple[str, Metric, str]
"""The sentence, the headline, and the type of error that it is about."""


def comparison(found: Compared, reference: str) -> Answer:
    """Says what differs from the reference, and whether it still does at matched AP.

    The headline is the largest difference: of those shown, if any is.

    Args:
        found: With at least one difference in TIDE's main types.
    """
    differences, there = found.plain.tide, found.at_matched.tide
    pairs = {pair.arm: pair for pair in found.matched}
    shown = sorted((d for d in differences if d.shown), key=_size, reverse=True)
    known = [d for d in differences if d.p_value is not None]
    why = family_of(len(known)) if known else f"no interval: {_reason(differences[0].metric)}"
    alone = _at_matched_ap_alone(shown, there)
    if not shown:
        largest = max(differences, key=_size)
        return (
            f"No difference shown to {reference} in any type of error ({why}); the largest is"
            f" {largest.arm}'s in {largest.type}, {points(largest.metric, '+.1f')}.{alone}",
            largest.metric,
            largest.type,
        )
    parts = [
        f"{_loses(one)} ({points(one.metric, '+.1f')}; {_still(one, pairs[one.arm], there)})"
        for one in shown[:_NUM_NAMED]
    ]
    rest = len(shown) - len(parts)
    more = f"; {rest} more in the table" if rest else ""
    return (
        f"Compared with {reference}, " + "; ".join(parts) + f"{more} ({why}).{alone}",
        shown[0].metric,
        shown[0].type,
    )


def costliest(profile: ErrorProfile, metrics: Sequence[Metric]) -> Answer:
    """Says of a single arm what its costliest main type costs.

    Args:
        metrics: What each of TIDE's types costs, first.
    """
    index = int(np.argmax(profile.dap.mean[: len(tide.MAIN_TYPES)]))
    kind, largest = tide.MAIN_TYPES[index], metrics[index]
    return f"{profile.arm} loses most to {kind} errors: {points(largest, '.1f')}.", largest, kind


def points(metric: Metric, style: str) -> str:
    """Writes AP points with their interval, if there is one."""
    if metric.value is None:
        return "undefined"
    if metric.low is None or metric.high is None:
        return f"{metric.value:{style}} AP points, no interval"
    interval = f"[{metric.low:{style}}, {metric.high:{style}}]"
    return f"{metric.value:{style}} AP points {interval}"


def _size(difference: Difference) -> float:
    return abs(difference.metric.value or 0.0)


def _reason(metric: Metric) -> str:
    """Why a metric has no interval: what stands in brackets behind its "none"."""
    return metric.interval.removeprefix("none").strip(" ()") or "undefined"


def _loses(difference: Difference) -> str:
    verb = "less" if (difference.metric.value or 0.0) < 0 else "more"
    return f"{difference.arm} loses {verb} to {difference.type} errors"


def _still(difference: Difference, pair: Matched, at_matched: Sequence[Difference]) -> str:
    """Says of a difference that is shown whether it still is at matched AP."""
    if not pair.holds:
        if not pair.tried:
            return "not compared at matched AP"
        left = points(pair.gap_left, "+.1f")
        return f"at matched AP nothing is known, no run of {pair.better} comes nearer than {left}"
    same = difference.arm, difference.type
    (there,) = (one for one in at_matched if (one.arm, one.type) == same)
    before, after = difference.metric.value or 0.0, there.metric.value or 0.0
    words = "not shown"
    if there.shown:
        words = "still shown" if before * after > 0 else "the other way round"
    return f"{words} at matched AP, {points(there.metric, '+.1f')}"


def _at_matched_ap_alone(shown: Sequence[Difference], at_matched: Sequence[Difference]) -> str:
    """A sentence on what is shown at matched AP alone; empty where nothing is."""
    already = {(one.arm, one.type) for one in shown}
    alone = [one for one in at_matched if one.shown and (one.arm, one.type) not in already]
    if not alone:
        return ""
    largest = sorted(alone, key=_size, reverse=True)[:_NUM_NAMED]
    parts = [f"{_loses(one)} ({points(one.metric, '+.1f')})" for one in largest]
    rest = len(alone) - len(parts)
    return (
        " At matched AP alone, "
        + "; ".join(parts)
        + (f"; {rest} more in the table." if rest else ".")
    )

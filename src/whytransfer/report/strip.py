"""The first screen's strips: how far each arm lies from the best one, on one line with zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whytransfer.report.verdict import Standing, Verdict

_MARGIN = 0.04


@dataclass(frozen=True)
class StripRow:
    """One arm of a strip.

    Attributes:
        gap: The difference from the best arm with its interval, in words.
        dot, low, high: Places on the strip in percent of its width; ``None`` where unknown.
    """

    arm: str
    value: str
    gap: str
    state: Literal["best", "shown", "not shown", "not compared"]
    dot: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Strip:
    """All arms of a task against the best; ``zero`` is the best arm's own place in percent."""

    rows: tuple[StripRow, ...]
    zero: float


def strip_of(verdict: Verdict) -> Strip | None:
    """Returns the strip of a task; ``None`` where fewer than two arms have a result."""
    if len(verdict.standings) < 2:
        return None
    start, width = _domain(verdict.standings)

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - start) / width, 2)

    rows = []
    for index, standing in enumerate(verdict.standings):
        value = verdict.scale.value(standing.value)
        gap = standing.to_best
        if gap is None:
            state: Literal["best", "not compared"] = "best" if index == 0 else "not compared"
            text = "best" if index == 0 else "not compared"
            rows.append(
                StripRow(standing.arm, value, text, state, place(0.0 if index == 0 else None))
            )
            continue
        text = f"{verdict.scale.signed(gap.difference)} {verdict.scale.interval(gap.low, gap.high)}"
        rows.append(
            StripRow(
                standing.arm, value, text.strip(), "shown" if gap.shown else "not shown",
                place(gap.difference), place(gap.low), place(gap.high),
            )
        )  # fmt: skip
    return Strip(tuple(rows), place(0.0) or 0.0)


def _domain(standings: Sequence[Standing]) -> tuple[float, float]:
    """Returns where the strip starts and how wide it is, in the metric's unit."""
    ends = [0.0]
    for gap in (standing.to_best for standing in standings):
        if gap is not None:
            ends += [end for end in (gap.difference, gap.low, gap.high) if end is not None]
    width = (max(ends) - min(ends)) or 1.0
    return min(ends) - _MARGIN * width, width * (1 + 2 * _MARGIN)

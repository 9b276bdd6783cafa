"""All comparisons of a detection error diagnosis, and their tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whytransfer.core.records import Table
from whytransfer.diagnose.error_differences import (
    COSTS,
    IN_HOIEM,
    IN_TIDE,
    Difference,
    Profiles,
    in_all,
    in_parts,
)
from whytransfer.diagnose.error_matching import Matched

Row = dict[str, str | int | float | None]

_LEVELS = ("group", "size", "class")
_SHARE_LEVELS = ("group", "class")

_TEST = ("low", "high", "p", "corrected p", "shown")
_COLUMNS = ("arm", "type", "difference", *_TEST)
_NEAR = (
    "arm", "better arm", "its nearest run", "AP gap as they are", "AP gap left", "low", "high",
    "matched",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """All comparisons of a finding; empty where there is one arm.

    Attributes:
        tide: Of TIDE's main types.
        hoiem: Of Hoiem's types.
        costs: Of normalised AP, and of what each of Hoiem's repairs gains in it.
        sizes: Of normalised AP by size.
        parts: Level (``class``, ``group``, ``size``) → the comparisons of TIDE's main types there.
        share_parts: Level (``class``, ``group``) → the comparisons of Hoiem's types there.
        matched: Of every arm, how near the two come in AP, and the same there.
    """

    tide: Sequence[Difference] = ()
    hoiem: Sequence[Difference] = ()
    costs: Sequence[Difference] = ()
    sizes: Sequence[Difference] = ()
    parts: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    share_parts: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    matched: Sequence[Matched] = ()


def compared(profiles: Profiles, reference: str, n: int, matched: Sequence[Matched]) -> Compared:
    """Compares every other arm with the reference, in all that profiles hold."""
    return Compared(
        tide=in_all(profiles, reference, n, IN_TIDE),
        hoiem=in_all(profiles, reference, n, IN_HOIEM),
        costs=in_all(profiles, reference, n, COSTS),
        sizes=in_parts(profiles, reference, n, "size", COSTS),
        parts={level: in_parts(profiles, reference, n, level, IN_TIDE) for level in _LEVELS},
        share_parts={
            level: in_parts(profiles, reference, n, level, IN_HOIEM) for level in _SHARE_LEVELS
        },
        matched=matched,
    )


def difference_tables(found: Compared) -> list[Table]:
    """Returns the tables of differences, the answering ones first; some may be empty."""
    shares, costs = "Hoiem, percentage points", "Hoiem, points of normalised AP"
    tables = [
        _plain("Differences to the reference (TIDE, AP points; p corrected by Holm's method)",
               found.tide),
        *_matched_tables(found),
        _plain(f"Differences in the types of the best detections ({shares})", found.hoiem),
        _plain(f"Differences in what each type costs ({costs})", found.costs),
        _by("size", f"Differences in AP by size of object ({costs})", found.sizes),
    ]  # fmt: skip
    for level, rows in found.parts.items():
        title = f"Differences by {level} (TIDE, AP points; corrected among themselves)"
        tables.append(_by(level, title, rows))
    for level, rows in found.share_parts.items():
        title = f"Types of the best detections, differences by {level} ({shares})"
        tables.append(_by(level, title, rows))
    return tables


def _matched_tables(found: Compared) -> Iterator[Table]:
    near = [pair for pair in found.matched if pair.tried or pair.holds]
    yield Table(
        title="How near the arms come in AP", columns=_NEAR, rows=tuple(map(_near_row, near))
    )
    for title, before, rows in (
        ("The same at matched AP (TIDE, AP points)", found.tide,
         [row for pair in near for row in pair.tide]),
        ("Types of the best detections at matched AP (Hoiem, percentage points)", found.hoiem,
         [row for pair in near for row in pair.shares]),
        ("What each type costs at matched AP (Hoiem, points of normalised AP)", found.costs,
         [row for pair in near for row in pair.costs]),
    ):  # fmt: skip
        as_they_are = {(d.arm, d.type): d.metric.value for d in before}
        yield Table(
            title=title,
            columns=("arm", "type", "as they are", "difference", *_TEST),
            rows=tuple(
                {**_row(row), "as they are": as_they_are[row.arm, row.type]} for row in rows
            ),
        )


def _near_row(pair: Matched) -> Row:
    return {
        "arm": pair.arm,
        "better arm": pair.better,
        "its nearest run": pair.variant or "in full",
        "AP gap as they are": pair.gap.value,
        "AP gap left": pair.gap_left.value,
        "low": pair.gap_left.low,
        "high": pair.gap_left.high,
        "matched": "yes" if pair.holds else "no",
    }


def _plain(title: str, rows: Sequence[Difference]) -> Table:
    return Table(title=title, columns=_COLUMNS, rows=tuple(map(_row, rows)))


def _by(level: str, title: str, rows: Sequence[Difference]) -> Table:
    return Table(
        title=title,
        columns=("arm", level, *_COLUMNS[1:]),
        rows=tuple({level: row.part, **_row(row)} for row in rows),
    )


def _row(difference: Difference) -> Row:
    return {
        "arm": difference.arm,
        "type": difference.type,
        "difference": difference.metric.value,
        "low": difference.metric.low,
        "high": difference.metric.high,
        "p": difference.p_value,
        "corrected p": difference.corrected_p_value,
        "shown": "yes" if difference.shown else "no",
    }

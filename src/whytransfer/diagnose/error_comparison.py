"""All comparisons of a detection error diagnosis, and their tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whytransfer.core.records import Table
from whytransfer.diagnose.error_differences import (
    COSTS,
    IN_HOIEM,
    IN_TIDE,
    Difference,
    Pair,
    Profiles,
    as_they_are,
    in_all,
    in_parts,
)
from whytransfer.diagnose.error_matching import Matched
from whytransfer.diagnose.error_profile import COUNTING

Row = dict[str, str | int | float | None]

_LEVELS = ("group", "size", "class")
_SHARE_LEVELS = ("group", "class", COUNTING)

_SHARES, _COSTS = "Hoiem, percentage points", "Hoiem, points of normalised AP"
_TEST = ("low", "high", "p", "corrected p", "shown")
_COLUMNS = ("arm", "type", "difference", *_TEST)
_NEAR = (
    "arm", "better arm", "its nearest run", "AP gap as they are", "AP gap left", "low", "high",
    "matched",
)  # fmt: skip


@dataclass(frozen=True)
class Differences:
    """What differs between arms and the reference; empty where nothing is compared.

    Attributes:
        tide: In TIDE's main types.
        hoiem: In Hoiem's types.
        costs: In normalised AP, and in what each of Hoiem's repairs gains in it.
        sizes: In normalised AP by size.
        parts: Level (``class``, ``group``, ``size``) → the same in TIDE's main types there.
        share_parts: Level (``class``, ``group``, way of counting) → the same in Hoiem's types.
    """

    tide: Sequence[Difference] = ()
    hoiem: Sequence[Difference] = ()
    costs: Sequence[Difference] = ()
    sizes: Sequence[Difference] = ()
    parts: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    share_parts: Mapping[str, Sequence[Difference]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """All comparisons of a finding; empty where there is one arm.

    Attributes:
        plain: The arms as they are.
        matched: Of every arm, how near it and the reference come in AP.
        at_matched: Of those that come near enough, the same there.
    """

    plain: Differences = Differences()
    matched: Sequence[Matched] = ()
    at_matched: Differences = Differences()


def compared(profiles: Profiles, reference: str, n: int, matched: Sequence[Matched]) -> Compared:
    """Compares every other arm with the reference, in all that profiles hold."""
    return Compared(
        plain=_differences(as_they_are(profiles, reference, n)),
        matched=matched,
        at_matched=_differences([one.pair for one in matched if one.holds]),
    )


def _differences(pairs: Sequence[Pair]) -> Differences:
    return Differences(
        tide=in_all(pairs, IN_TIDE),
        hoiem=in_all(pairs, IN_HOIEM),
        costs=in_all(pairs, COSTS),
        sizes=in_parts(pairs, "size", COSTS),
        parts={level: in_parts(pairs, level, IN_TIDE) for level in _LEVELS},
        share_parts={level: in_parts(pairs, level, IN_HOIEM) for level in _SHARE_LEVELS},
    )


def difference_tables(found: Compared) -> list[Table]:
    """Returns the tables of differences, the answering ones first; some may be empty."""
    plain = found.plain
    return [
        _plain("Differences to the reference (TIDE, AP points; p corrected by Holm's method)",
               plain.tide),
        *_matched_tables(found),
        _plain(f"Differences in the types of the best detections ({_SHARES})", plain.hoiem),
        _plain(f"Differences in what each type costs ({_COSTS})", plain.costs),
        *_tables_by_part(plain, ""),
        *_tables_by_part(found.at_matched, " at matched AP"),
    ]  # fmt: skip


def _tables_by_part(found: Differences, where: str) -> Iterator[Table]:
    yield _by("size", f"Differences in AP by size of object{where} ({_COSTS})", found.sizes)
    for level, rows in found.parts.items():
        title = f"Differences by {level}{where} (TIDE, AP points; corrected among themselves)"
        yield _by(level, title, rows)
    for level, rows in found.share_parts.items():
        title = f"Types of the best detections, differences by {level}{where} ({_SHARES})"
        yield _by(level, title, rows)


def _matched_tables(found: Compared) -> Iterator[Table]:
    near = [pair for pair in found.matched if pair.tried or pair.holds]
    yield Table(
        title="How near the arms come in AP", columns=_NEAR, rows=tuple(map(_near_row, near))
    )
    plain, there = found.plain, found.at_matched
    for title, before, rows in (
        ("The same at matched AP (TIDE, AP points)", plain.tide, there.tide),
        (f"Types of the best detections at matched AP ({_SHARES})",
         plain.hoiem, there.hoiem),
        (f"What each type costs at matched AP ({_COSTS})",
         plain.costs, there.costs),
    ):  # fmt: skip
        as_before = {(d.arm, d.type): d.metric.value for d in before}
        yield Table(
            title=title,
            columns=("arm", "type", "as they are", "difference", *_TEST),
            rows=tuple({**_row(row), "as they are": as_before[row.arm, row.type]} for row in rows),
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

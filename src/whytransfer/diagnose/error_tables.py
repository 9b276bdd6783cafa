"""The tables and charts of a detection error diagnosis, from what was computed of every arm."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from whytransfer.core.records import Table
from whytransfer.diagnose.comparing import number
from whytransfer.diagnose.error_comparison import Compared, Row, difference_tables
from whytransfer.diagnose.error_differences import COSTS, Difference
from whytransfer.diagnose.error_estimates import Measured, estimates
from whytransfer.diagnose.error_profile import ErrorProfile, Floats, Part, shares_of
from whytransfer.ops import hoiem, tide
from whytransfer.ops.hoiem import Rule
from whytransfer.ops.resampling import seed_spread

Groups = Mapping[str, tuple[str, ...]]

_ALL = "all classes"
_COUNTED: Mapping[Rule, str] = {
    "top_npos": "best Npos detections",
    "npos_false": "until Npos false ones",
    "first_100_false": "until 100 false ones",
}


def tables(
    profiles: Mapping[str, ErrorProfile],
    compared: Compared,
    classes: Sequence[str],
    groups: Groups,
    rule: Rule,
) -> tuple[Table, ...]:
    """Returns the tables of the finding; differences and seeds only where there are several.

    Args:
        groups: Those whose classes are all in the truth.
        rule: Which detections Hoiem's shares count.
    """
    arms = list(profiles.values())
    tide_columns = ("arm", "class", "AP", *tide.TYPES)
    share_columns = ("arm", "class", "detections", *hoiem.TYPES)
    rule_columns = ("arm", "counted", *share_columns[1:])
    result = [
        *difference_tables(compared),
        _table("What fixing each type of error would gain (TIDE, AP points)", tide_columns,
               [row for arm in arms for row in _tide_rows(arm, classes)]),
        _table("The same by group of classes and size of object (TIDE, AP points)",
               ("arm", "by", "part", *tide.MAIN_TYPES),
               [row for arm in arms for row in _part_rows(arm)]),
        _table("Types of the best detections (Hoiem, %)", share_columns,
               [row for arm in arms for row in _share_rows(arm, rule, classes, groups)]),
        _table("The same by each way of counting (Hoiem, %)", rule_columns,
               [row for arm in arms for row in _rule_rows(arm, classes, groups)]),
        _table("What each type of error costs (Hoiem, gain in normalised AP)",
               ("arm", "class", "AP", *hoiem.REPAIRS),
               [row for arm in arms for row in _impact_rows(arm, classes)]),
        _table("The same in all classes, with intervals (Hoiem, normalised AP)",
               ("arm", "of", "value", "low", "high"),
               [row for arm in arms for row in _cost_rows(arm)]),
        _table("AP of the objects of each size (Hoiem, normalised AP)",
               ("arm", "size", "AP", "low", "high"),
               [row for arm in arms for row in _size_rows(arm)]),
    ]  # fmt: skip
    if any(len(arm.seeds) > 1 for arm in arms):
        rows = [row for arm in arms for row in _seed_rows(arm)]
        columns = ("arm", "seed", *tide.MAIN_TYPES)
        result.append(_table("The same seed by seed (TIDE, AP points)", columns, rows))
    return tuple(table for table in result if table.rows)


def figures(
    profiles: Mapping[str, ErrorProfile], differences: Sequence[Difference], kind: str
) -> dict[str, tuple[Row, ...]]:
    """Returns the rows of all charts.

    Args:
        differences: Of TIDE's main types.
        kind: The type of error that is charted by size and by group.
    """
    shares: list[Row] = []
    gains: list[Row] = []
    for arm, profile in profiles.items():
        for name, share in zip(hoiem.TYPES, profile.shares.mean, strict=True):
            shares.append({"arm": arm, "type": name, "share": number(share)})
        for name, value in zip(tide.MAIN_TYPES, profile.dap.mean, strict=False):
            gains.append({"arm": arm, "type": name, "dap": number(value)})
    compared: list[Row] = [
        {"arm": d.arm, "group": d.type, "value": d.metric.value, "low": d.metric.low,
         "high": d.metric.high} for d in differences
    ]  # fmt: skip
    index = tide.MAIN_TYPES.index(kind)
    drawn = {
        "hoiem_share": shares,
        "tide_dap": gains,
        "tide_difference": compared,
        f"{kind}_by_size": _dots({arm: p.parts for arm, p in profiles.items()}, "size", index),
        f"{kind}_by_group": _dots({arm: p.parts for arm, p in profiles.items()}, "group", index),
        "normalised_ap_by_size": _dots({arm: p.sizes for arm, p in profiles.items()}, "size", 0),
    }
    return {name: tuple(rows) for name, rows in drawn.items() if rows}


def _dots(arms: Mapping[str, Mapping[Part, Measured]], level: str, index: int) -> list[Row]:
    rows: list[Row] = []
    for arm, parts in arms.items():
        for (of, part), measured in parts.items():
            if of == level:
                found = estimates(measured)[index]
                value, ends = number(found.value), {"low": found.low, "high": found.high}
                rows.append({"arm": arm, "group": part, "value": value, **ends})
    return rows


def _table(title: str, columns: tuple[str, ...], rows: Sequence[Row]) -> Table:
    return Table(title=title, columns=columns, rows=tuple(rows))


def _row(names: Sequence[str], values: Floats) -> Row:
    return {name: number(value) for name, value in zip(names, values, strict=True)}


def _mean(values: Floats) -> float:
    """The mean over the classes that have a value."""
    return float(np.nanmean(values))


def _tide_rows(profile: ErrorProfile, classes: Sequence[str]) -> Iterator[Row]:
    names = ("AP", *tide.TYPES)
    per_class = profile.ap.mean(axis=0)
    in_all = np.append(_mean(per_class), profile.dap.mean)
    yield {"arm": profile.arm, "class": _ALL, **_row(names, in_all)}
    gains = profile.dap_per_class.mean(axis=0)
    for index, name in enumerate(classes):
        values = np.append(per_class[index], gains[:, index])
        yield {"arm": profile.arm, "class": name, **_row(names, values)}


def _part_rows(profile: ErrorProfile) -> Iterator[Row]:
    for (level, part), measured in profile.parts.items():
        if level != "class":
            values = _row(tide.MAIN_TYPES, measured.mean)
            yield {"arm": profile.arm, "by": level, "part": part, **values}


def _share_rows(
    profile: ErrorProfile, rule: Rule, classes: Sequence[str], groups: Groups
) -> Iterator[Row]:
    counts = profile.counts[rule]
    parts = {_ALL: counts} | {
        group: counts[np.isin(classes, members)] for group, members in groups.items()
    }
    parts |= {name: counts[[index]] for index, name in enumerate(classes)}
    for name, own in parts.items():
        total = own.sum(axis=0)
        shares = _row(hoiem.TYPES, shares_of(total))
        yield {"arm": profile.arm, "class": name, "detections": int(total.sum()), **shares}


def _rule_rows(profile: ErrorProfile, classes: Sequence[str], groups: Groups) -> Iterator[Row]:
    for rule, words in _COUNTED.items():
        for row in _share_rows(profile, rule, classes, groups):
            yield {"counted": words, **row}


def _impact_rows(profile: ErrorProfile, classes: Sequence[str]) -> Iterator[Row]:
    before = profile.impact["all"]
    after = np.stack([profile.impact[repair] for repair in hoiem.REPAIRS])
    values = np.concatenate([before[None], after - before])
    names = ("AP", *hoiem.REPAIRS)
    in_all = np.array([_mean(row) for row in values])
    yield {"arm": profile.arm, "class": _ALL, **_row(names, in_all)}
    for index, name in enumerate(classes):
        yield {"arm": profile.arm, "class": name, **_row(names, values[:, index])}


def _cost_rows(profile: ErrorProfile) -> Iterator[Row]:
    for name, found in zip(COSTS.types, estimates(profile.costs), strict=True):
        value, ends = number(found.value), {"low": found.low, "high": found.high}
        yield {"arm": profile.arm, "of": name, "value": value, **ends}


def _size_rows(profile: ErrorProfile) -> Iterator[Row]:
    for (_, size), measured in profile.sizes.items():
        (found,) = estimates(measured)
        value, ends = number(found.value), {"low": found.low, "high": found.high}
        yield {"arm": profile.arm, "size": size, "AP": value, **ends}


def _seed_rows(profile: ErrorProfile) -> Iterator[Row]:
    """The points, and their standard deviation where there are enough seeds for one."""
    main = profile.dap.values[:, : len(tide.MAIN_TYPES)]
    for seed, values in zip(profile.seeds, main, strict=True):
        yield {"arm": profile.arm, "seed": seed, **_row(tide.MAIN_TYPES, values)}
    spreads = [seed_spread(column.tolist()) for column in main.T]
    if all(spread.interval is not None for spread in spreads):
        deviations = np.array([spread.deviation for spread in spreads], dtype=np.float64)
        yield {"arm": profile.arm, "seed": "sd", **_row(tide.MAIN_TYPES, deviations)}

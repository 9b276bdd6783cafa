"""The tables and charts of a detection error diagnosis, from what was computed of every arm."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from whytransfer.core.records import Metric, Table
from whytransfer.diagnose.error_profile import ErrorProfile, Floats
from whytransfer.ops import hoiem, tide
from whytransfer.ops.resampling import seed_spread

Row = dict[str, str | int | float | None]

_REPAIRS = ("localisation", "localisation_fixed", "similar", "background")
_ALL = "all classes"


@dataclass(frozen=True)
class Difference:
    """How much more an arm loses to one type of error than the reference does.

    Attributes:
        arm: The arm that is compared.
        type: One of TIDE's main types.
        metric: The difference in AP points, arm minus reference, with its interval.
        p_value: Of this difference alone.
        corrected_p_value: Of it as one of its family.
        shown: Whether the corrected value is below the level.
    """

    arm: str
    type: str
    metric: Metric
    p_value: float
    corrected_p_value: float
    shown: bool


def number(value: float) -> float | None:
    """Returns a plain number, ``None`` where it is undefined (NaN)."""
    return None if np.isnan(value) else float(value)


def shares_of(counts: Floats) -> Floats:
    """Returns counts (..., N) in percent of their sum; NaN where nothing was counted."""
    total = counts.sum(axis=-1, keepdims=True)
    undefined = np.full(counts.shape, np.nan)
    shares: Floats = np.divide(100.0 * counts, total, out=undefined, where=total > 0)
    return shares


def tables(
    profiles: Mapping[str, ErrorProfile],
    differences: Sequence[Difference],
    classes: Sequence[str],
) -> tuple[Table, ...]:
    """Returns the tables of the finding; differences and seeds only where there are several."""
    arms = list(profiles.values())
    tide_columns = ("arm", "class", "AP", *tide.TYPES)
    share_columns = ("arm", "class", "detections", *hoiem.TYPES)
    result = [
        _table("What fixing each type of error would gain (TIDE, AP points)", tide_columns,
               [row for arm in arms for row in _tide_rows(arm, classes)]),
        _table("Types of the best detections (Hoiem, %)", share_columns,
               [row for arm in arms for row in _share_rows(arm, classes)]),
        _table("What each type of error costs (Hoiem, gain in normalised AP)",
               ("arm", "class", "AP", *_REPAIRS),
               [row for arm in arms for row in _impact_rows(arm, classes)]),
    ]  # fmt: skip
    if differences:
        title = "Differences to the reference (TIDE, AP points; p corrected by Holm's method)"
        columns = ("arm", "type", "difference", "low", "high", "p", "corrected p", "shown")
        result.insert(0, _table(title, columns, [_difference_row(d) for d in differences]))
    if any(len(arm.seeds) > 1 for arm in arms):
        columns = ("arm", "seed", *tide.MAIN_TYPES)
        rows = [row for arm in arms for row in _seed_rows(arm)]
        result.append(_table("The same seed by seed (TIDE, AP points)", columns, rows))
    return tuple(result)


def figures(profiles: Mapping[str, ErrorProfile]) -> dict[str, tuple[Row, ...]]:
    """Returns the rows of both charts: Hoiem's shares in percent, TIDE's gains in AP points."""
    shares: list[Row] = []
    gains: list[Row] = []
    for arm, profile in profiles.items():
        for kind, share in zip(hoiem.TYPES, shares_of(profile.counts.sum(axis=0)), strict=True):
            shares.append({"arm": arm, "type": kind, "share": number(share)})
        gain = profile.dap.mean(axis=0)[: len(tide.MAIN_TYPES)]
        for kind, value in zip(tide.MAIN_TYPES, gain, strict=True):
            gains.append({"arm": arm, "type": kind, "dap": number(value)})
    return {"hoiem_share": tuple(shares), "tide_dap": tuple(gains)}


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
    in_all = np.append(_mean(per_class), profile.dap.mean(axis=0))
    yield {"arm": profile.arm, "class": _ALL, **_row(names, in_all)}
    gains = profile.dap_per_class.mean(axis=0)
    for index, name in enumerate(classes):
        values = np.append(per_class[index], gains[:, index])
        yield {"arm": profile.arm, "class": name, **_row(names, values)}


def _share_rows(profile: ErrorProfile, classes: Sequence[str]) -> Iterator[Row]:
    groups = {_ALL: profile.counts}
    for group, members in hoiem.VOC_GROUPS.items():
        if set(members) <= set(classes):
            groups[group] = profile.counts[np.isin(classes, members)]
    groups |= {name: profile.counts[[index]] for index, name in enumerate(classes)}
    for name, counts in groups.items():
        total = counts.sum(axis=0)
        shares = _row(hoiem.TYPES, shares_of(total))
        yield {"arm": profile.arm, "class": name, "detections": int(total.sum()), **shares}


def _impact_rows(profile: ErrorProfile, classes: Sequence[str]) -> Iterator[Row]:
    before = profile.impact["all"]
    after = np.stack([profile.impact[repair] for repair in _REPAIRS])
    values = np.concatenate([before[None], after - before])
    names = ("AP", *_REPAIRS)
    in_all = np.array([_mean(row) for row in values])
    yield {"arm": profile.arm, "class": _ALL, **_row(names, in_all)}
    for index, name in enumerate(classes):
        yield {"arm": profile.arm, "class": name, **_row(names, values[:, index])}


def _difference_row(difference: Difference) -> Row:
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


def _seed_rows(profile: ErrorProfile) -> Iterator[Row]:
    """The points, and their standard deviation where there are enough seeds for one."""
    main = profile.dap[:, : len(tide.MAIN_TYPES)]
    for seed, values in zip(profile.seeds, main, strict=True):
        yield {"arm": profile.arm, "seed": seed, **_row(tide.MAIN_TYPES, values)}
    spreads = [seed_spread(column.tolist()) for column in main.T]
    if all(spread.interval is not None for spread in spreads):
        deviations = np.array([spread.deviation for spread in spreads], dtype=np.float64)
        yield {"arm": profile.arm, "seed": "sd", **_row(tide.MAIN_TYPES, deviations)}

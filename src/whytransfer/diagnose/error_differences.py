"""Which errors an arm makes more of than the reference does, in all and by part.

Each set of comparisons that is read as one is corrected as one, by Holm's method: TIDE's main types
of all arms, Hoiem's types, what they cost, AP by size, and for either taxonomy the classes, the
groups and the sizes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from whytransfer.core.records import Metric
from whytransfer.diagnose.comparing import ALPHA
from whytransfer.diagnose.error_estimates import Measured, differences
from whytransfer.diagnose.error_estimates import metric as metric_of
from whytransfer.diagnose.error_profile import ErrorProfile, Part
from whytransfer.ops import hoiem, tide
from whytransfer.ops.comparisons import holm_of_known

Profiles = Mapping[str, ErrorProfile]


@dataclass(frozen=True)
class Difference:
    """How much more an arm loses to one type of error than the reference does.

    Attributes:
        arm: The arm that is compared.
        part: The class, group or size that is looked at; empty for all.
        type: One of TIDE's main types, of Hoiem's, or of what repairs them; ``AP`` for AP itself.
        metric: The difference, arm minus reference, with its interval.
        p_value: Of this difference alone; ``None`` where it is undefined or has no interval.
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
class Kind:
    """A set of numbers of which every arm has one each.

    Attributes:
        types: What each is of, in order; a profile may hold more after them.
        name: How a metric is called, of a type.
        unit: Of all of them.
        in_all: Where a profile has them.
        by_part: Where it has them of classes, groups or sizes; by default nowhere.
        better: The types of which more is better.
    """

    types: tuple[str, ...]
    name: str
    unit: str
    in_all: Callable[[ErrorProfile], Measured]
    by_part: Callable[[ErrorProfile], Mapping[Part, Measured]] = lambda profile: {}
    better: frozenset[str] = frozenset()


AP = "AP"
_NORMALISED = "points of normalised AP"
IN_TIDE = Kind(
    tide.MAIN_TYPES, "dAP_{}", "AP points", lambda own: own.dap, lambda own: own.parts
)  # fmt: skip
IN_HOIEM = Kind(
    hoiem.TYPES,
    "hoiem_{}",
    "percentage points",
    lambda own: own.shares,
    lambda own: own.share_parts,
    frozenset([hoiem.TYPES[hoiem.CORRECT]]),
)
COSTS = Kind(
    (AP, *hoiem.REPAIRS),
    "normalised_{}",
    _NORMALISED,
    lambda own: own.costs,
    lambda own: own.sizes,
    frozenset([AP]),
)
AP_GAP = Kind((AP,), "{}", "AP points", lambda own: own.ap_in_all, better=frozenset([AP]))


@dataclass(frozen=True)
class Pair:
    """An arm and the reference, as they are compared.

    Attributes:
        own: The arm's.
        base: The reference's.
        n: Images of the test set.
        note: What else a name of a metric has to say.
    """

    own: ErrorProfile
    base: ErrorProfile
    n: int
    note: str = ""


def as_they_are(profiles: Profiles, reference: str, n: int) -> list[Pair]:
    """Pairs every other arm with the reference."""
    return [Pair(own, profiles[reference], n) for arm, own in profiles.items() if arm != reference]


def in_all(pairs: Sequence[Pair], kind: Kind) -> list[Difference]:
    """Compares all pairs in all numbers of one kind; they are one family."""
    return _corrected(
        row
        for pair in pairs
        for row in _compare(kind.in_all(pair.own), kind.in_all(pair.base), kind, pair)
    )


def in_parts(pairs: Sequence[Pair], level: str, kind: Kind) -> list[Difference]:
    """Compares the same within each part of a level, such as ``class``; they are one family."""
    return _corrected(
        row
        for pair in pairs
        for (of, part), own in kind.by_part(pair.own).items()
        if of == level
        for row in _compare(own, kind.by_part(pair.base)[of, part], kind, pair, part)
    )


def _compare(
    own: Measured, base: Measured, kind: Kind, pair: Pair, part: str = ""
) -> list[Difference]:
    """Compares an arm with the reference in all numbers of one kind; not yet corrected.

    Args:
        part: The class, group or size that is looked at, of which there are many; empty for all.
    """
    arm = pair.own.arm
    names = ", ".join(words for words in (f"{arm} - {pair.base.arm}", part, pair.note) if words)
    rows = []
    for name, found in zip(kind.types, differences(own, base, many=bool(part)), strict=False):
        metric_name = f"{kind.name.format(name)}[{names}]"
        metric = metric_of(found, metric_name, kind.unit, pair.n, name in kind.better)
        rows.append(Difference(arm, part, name, metric, found.p_value))
    return rows


def _corrected(family: Iterable[Difference]) -> list[Difference]:
    """Corrects the p-values of one family, of which those without a value are no part."""
    rows = list(family)
    values = holm_of_known([row.p_value for row in rows])
    return [
        replace(row, corrected_p_value=value, shown=value is not None and value < ALPHA)
        for row, value in zip(rows, values, strict=True)
    ]

"""Which errors an arm makes more of than the reference does, in all and by part.

Each set of comparisons that is read as one is corrected as one, by Holm's method: TIDE's main types
of all arms, Hoiem's types, what they cost, AP by size, and for either taxonomy the classes, the
groups and the sizes.
"""

from collections.abc import Callable, Iterable, Mapping
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
    """The two arms that are compared, and on what.

    Attributes:
        arm: Minus the reference.
        reference: The other one.
        n: Images of the test set.
        part: The class, group or size that is looked at; empty for all.
        note: What else a name of a metric has to say.
    """

    arm: str
    reference: str
    n: int
    part: str = ""
    note: str = ""


def compare(
    own: Measured, base: Measured, kind: Kind, pair: Pair, *, many: bool = False
) -> list[Difference]:
    """Compares an arm with the reference in all numbers of one kind; not yet corrected.

    Args:
        many: As for :func:`whytransfer.diagnose.error_estimates.differences`.
    """
    names = f"{pair.arm} - {pair.reference}" + "".join(
        f", {words}" for words in (pair.part, pair.note) if words
    )
    rows = []
    for name, found in zip(kind.types, differences(own, base, many=many), strict=False):
        metric_name = f"{kind.name.format(name)}[{names}]"
        metric = metric_of(found, metric_name, kind.unit, pair.n, name in kind.better)
        rows.append(Difference(pair.arm, pair.part, name, metric, found.p_value))
    return rows


def in_all(profiles: Profiles, reference: str, n: int, kind: Kind) -> list[Difference]:
    """Compares every other arm in all numbers of one kind; they are one family."""
    base = kind.in_all(profiles[reference])
    return corrected(
        row
        for arm, profile in others(profiles, reference)
        for row in compare(kind.in_all(profile), base, kind, Pair(arm, reference, n))
    )


def in_parts(
    profiles: Profiles, reference: str, n: int, level: str, kind: Kind
) -> list[Difference]:
    """Compares the same within each ``class``, ``group`` or ``size``; they are one family."""
    base = kind.by_part(profiles[reference])
    return corrected(
        row
        for arm, profile in others(profiles, reference)
        for (of, part), own in kind.by_part(profile).items()
        if of == level
        for row in compare(own, base[of, part], kind, Pair(arm, reference, n, part), many=True)
    )


def others(profiles: Profiles, reference: str) -> list[tuple[str, ErrorProfile]]:
    """Returns the arms that are compared with the reference."""
    return [(arm, profile) for arm, profile in profiles.items() if arm != reference]


def corrected(family: Iterable[Difference]) -> list[Difference]:
    """Corrects the p-values of one family, of which those without a value are no part."""
    rows = list(family)
    values = holm_of_known([row.p_value for row in rows])
    return [
        replace(row, corrected_p_value=value, shown=value is not None and value < ALPHA)
        for row, value in zip(rows, values, strict=True)
    ]

"""The detection errors of one pretraining: each seed's, and how they move with the images.

Letters: S seeds, B draws, K TIDE types, M of them main ones, C classes, Z sizes; Hoiem's types are
always five.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_estimates import Measured
from whytransfer.ops.average_precision import By
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Truth
from whytransfer.ops.hoiem import (
    REPAIRS,
    HoiemTypes,
    Rule,
    ap_by_size,
    counted_rows,
    hoiem_types,
    impact,
    type_counts,
)
from whytransfer.ops.masks import areas as mask_areas
from whytransfer.ops.means import mean_of_known
from whytransfer.ops.object_sizes import Sizes, bands
from whytransfer.ops.tide import (
    MAIN_TYPES,
    TideErrors,
    TideGains,
    among,
    tide_errors,
    tide_gains,
)

Floats = NDArray[np.float64]

RULES: tuple[Rule, ...] = get_args(Rule)

COUNTING = "way of counting"

Part = tuple[str, str]
"""A part of the data: ``class``, ``group`` or ``size``, and its name; or a way to count it all."""


@dataclass(frozen=True)
class ErrorRules:
    """How errors are typed and counted: TIDE's thresholds, Hoiem's similar sets and prefix.

    Attributes:
        groups: Name → classes whose errors are reported together.
        sizes: The bands of size by which errors are told apart; ``None`` for none.
        by: What overlaps for TIDE's types; Hoiem's are of boxes.
    """

    foreground: float
    background: float
    max_per_image: int
    similar: tuple[tuple[str, ...], ...]
    rule: Rule
    groups: Mapping[str, tuple[str, ...]]
    sizes: Sizes | None
    by: By = "boxes"


@dataclass(frozen=True)
class ErrorProfile:
    """What one arm does wrong. APs and gains are in percent, NaN for a class without an object.

    Attributes:
        arm: Its name.
        seeds: (S,) of its runs.
        types: Hoiem's types of every detection, one entry per seed.
        ap: (S, C) AP at the foreground threshold.
        ap_in_all: The mean of that over the classes.
        dap_per_class: (S, K, C) gain of fixing each TIDE type.
        dap: Of the mean over the classes, by TIDE type.
        parts: The same of the main types by part of the data: (``class``, name), (``group``, name)
            or (``size``, name); of a size, what fixing its errors alone gains in all classes.
        shares: Hoiem's types in percent of the counted detections.
        share_parts: The same by class and group, named as in ``parts``, and by way of counting.
        counts: (C, 5) Hoiem's types of the counted detections, summed over the seeds, by rule.
        impact: (C,) mean over the seeds of Hoiem's normalised AP, by repair.
        costs: Of the mean over the classes: normalised AP, then what each of ``REPAIRS`` gains.
        sizes: Normalised AP of the objects of each size, mean over the classes that have some.
    """

    arm: str
    seeds: tuple[int, ...]
    types: tuple[HoiemTypes, ...]
    ap: Floats
    ap_in_all: Measured
    dap_per_class: Floats
    dap: Measured
    parts: dict[Part, Measured]
    shares: Measured
    share_parts: dict[Part, Measured]
    counts: dict[Rule, Floats]
    impact: dict[str, Floats]
    costs: Measured
    sizes: dict[Part, Measured]

    @property
    def mean_ap(self) -> float:
        """AP in percent, the mean over the seeds and the classes that have one."""
        return float(np.nanmean(self.ap))


def error_profile(
    runs: Sequence[DetectionRun], rules: ErrorRules, weights: NDArray[np.int64]
) -> ErrorProfile:
    """Types the errors of the runs of one arm and costs them under every draw.

    Args:
        runs: Of one arm, over one truth.
        weights: (B, I) how often each image counts in each draw.
    """
    draws, seeds = weights.astype(np.float64), tuple(run.seed for run in runs)
    tide = [_tide(run, rules, draws) for run in runs]
    hoiem = [_hoiem(run, rules, draws) for run in runs]
    return ErrorProfile(
        arm=runs[0].arm,
        seeds=seeds,
        types=tuple(one.types for one in hoiem),
        ap=np.stack([one.plain.before for one in tide]),
        ap_in_all=_measured(seeds, [one.ap for one in tide]),
        dap_per_class=np.stack([one.plain.per_class() for one in tide]),
        dap=_measured(seeds, [one.dap for one in tide]),
        parts=_by_part(seeds, [one.parts for one in tide]),
        shares=_measured(seeds, [one.shares for one in hoiem]),
        share_parts=_by_part(seeds, [one.share_parts for one in hoiem]),
        counts={rule: np.sum([one.counts[rule] for one in hoiem], axis=0) for rule in RULES},
        impact={
            name: np.mean([one.impact[name] for one in hoiem], axis=0) for name in hoiem[0].impact
        },
        costs=_measured(seeds, [one.costs for one in hoiem]),
        sizes=_by_part(seeds, [one.sizes for one in hoiem]),
    )


def average_precision_of(run: DetectionRun, rules: ErrorRules) -> float:
    """Returns the mean AP of one run in percent at the foreground threshold."""
    return float(np.nanmean(tide_gains(_errors(run, rules)).before))


def shares_of(counts: Floats) -> Floats:
    """Returns counts (..., N) in percent of their sum; NaN where nothing was counted."""
    total = counts.sum(axis=-1, keepdims=True)
    undefined = np.full(counts.shape, np.nan)
    shares: Floats = np.divide(100.0 * counts, total, out=undefined, where=total > 0)
    return shares


@dataclass(frozen=True)
class _Drawn:
    """Quantities of one run: (K,) plain, (B, K) under each draw, and images that hold something."""

    plain: Floats
    drawn: Floats
    num_images: int


@dataclass(frozen=True)
class _Tide:
    plain: TideGains
    ap: _Drawn
    dap: _Drawn
    parts: dict[Part, _Drawn]


@dataclass(frozen=True)
class _Hoiem:
    types: HoiemTypes
    counts: dict[Rule, Floats]
    shares: _Drawn
    share_parts: dict[Part, _Drawn]
    impact: dict[str, Floats]
    costs: _Drawn
    sizes: dict[Part, _Drawn]


def _measured(seeds: tuple[int, ...], runs: Sequence[_Drawn]) -> Measured:
    return Measured(
        seeds,
        np.stack([one.plain for one in runs]),
        np.stack([one.drawn for one in runs]),
        min(one.num_images for one in runs),
    )


Name = TypeVar("Name")


def _by_part(seeds: tuple[int, ...], runs: Sequence[Mapping[Name, _Drawn]]) -> dict[Name, Measured]:
    return {part: _measured(seeds, [one[part] for one in runs]) for part in runs[0]}


def _images_with(truth: Truth, chosen: NDArray[np.bool_] | None = None) -> int:
    """How many images have an object that counts, of the chosen ones (G,) if any are chosen."""
    normal = ~(truth.difficult | truth.crowd)
    return len(np.unique(truth.image[normal if chosen is None else normal & chosen]))


def _errors(run: DetectionRun, rules: ErrorRules) -> TideErrors:
    return tide_errors(
        run.detections,
        run.truth,
        foreground=rules.foreground,
        background=rules.background,
        max_per_image=rules.max_per_image,
        by=rules.by,
    )


def _tide(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Tide:
    errors, truth = _errors(run, rules), run.truth
    plain, drawn = tide_gains(errors), tide_gains(errors, draws)
    parts: dict[Part, _Drawn] = {}
    for part, members in _members(truth.classes, rules.groups):
        images = _images_with(truth, members[truth.label])
        parts[part] = _Drawn(_main(plain.in_all(members)), _main(drawn.in_all(members)), images)
    for name, of_size, images in _by_size(run, errors, rules):
        parts["size", name] = _Drawn(
            _main(tide_gains(of_size).in_all()), _main(tide_gains(of_size, draws).in_all()), images
        )
    images = _images_with(truth)
    ap = mean_of_known(plain.before)[None], mean_of_known(drawn.before)[:, None]
    return _Tide(plain, _Drawn(*ap, images), _Drawn(plain.in_all(), drawn.in_all(), images), parts)


def _main(gains: Floats) -> Floats:
    return gains[..., : len(MAIN_TYPES)]


def _members(
    classes: Sequence[str], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[Part, NDArray[np.bool_]]]:
    """Yields every group and every class with its members among the classes."""
    for group, names in groups.items():
        yield ("group", group), np.isin(classes, names)
    for index, name in enumerate(classes):
        yield ("class", name), np.arange(len(classes)) == index


def _by_size(
    run: DetectionRun, errors: TideErrors, rules: ErrorRules
) -> Iterator[tuple[str, TideErrors, int]]:
    """Yields each band with the errors on its objects, and how many images have such objects.

    An error that is about an object has that object's size, any other the detection's own.
    """
    if rules.sizes is None:
        return
    truth, found = run.truth, run.detections
    scale = bands(truth, rules.sizes)
    masks = found.masks if rules.by == "masks" and rules.sizes == "coco" else None
    own = area_xyxy(found.boxes_xyxy) if masks is None else mask_areas(masks)
    size = scale.of(own[errors.row], errors.label)
    about = errors.target >= 0
    size[about] = scale.objects[errors.target[about]]
    for band, name in enumerate(scale.names):
        of_band = scale.objects == band
        yield name, among(errors, truth, size == band, of_band), _images_with(truth, of_band)


def _hoiem(run: DetectionRun, rules: ErrorRules, draws: Floats) -> _Hoiem:
    found, truth = replace(run.detections, masks=None), run.truth
    types = hoiem_types(found, truth, rules.similar)
    rows = {rule: counted_rows(types, found, truth, rule) for rule in RULES}
    counts = {rule: type_counts(types, found, truth, rows=rows[rule]) for rule in RULES}
    drawn = {
        rule: type_counts(types, found, truth, rows=rows[rule], weights=draws) for rule in RULES
    }

    def shares(members: NDArray[np.bool_], rule: Rule = rules.rule) -> _Drawn:
        images = found.image[rows[rule] & members[found.label]]
        return _Drawn(
            shares_of(counts[rule][members].sum(axis=0)),
            shares_of(drawn[rule][:, members].sum(axis=1)),
            min(len(np.unique(images)), _images_with(truth, members[truth.label])),
        )

    weights = np.concatenate([np.ones((1, draws.shape[1])), draws])
    after = impact(types, found, truth, weights=weights)
    in_all = {name: mean_of_known(values) for name, values in after.items()}
    gains = [in_all[repair] - in_all["all"] for repair in REPAIRS]
    costs = np.stack([in_all["all"], *gains], axis=-1)
    everything = np.ones(len(truth.classes), dtype=bool)
    members = _members(truth.classes, rules.groups)
    share_parts: dict[Part, _Drawn] = {part: shares(own) for part, own in members}
    share_parts |= {(COUNTING, rule): shares(everything, rule) for rule in RULES}
    return _Hoiem(
        types=types,
        counts=counts,
        shares=shares(everything),
        share_parts=share_parts,
        impact={name: values[0] for name, values in after.items()},
        costs=_Drawn(costs[0], costs[1:], _images_with(truth)),
        sizes=dict(_ap_by_size(run, types, rules, weights)),
    )


def _ap_by_size(
    run: DetectionRun, types: HoiemTypes, rules: ErrorRules, weights: Floats
) -> Iterator[tuple[Part, _Drawn]]:
    """Yields each band with the normalised AP of its objects; the first weights are plain."""
    if rules.sizes is None:
        return
    scale = bands(run.truth, rules.sizes)
    found = ap_by_size(types, run.detections, run.truth, scale.objects, len(scale.names), weights)
    for band, name in enumerate(scale.names):
        mean = mean_of_known(found[:, band])[:, None]
        yield (
            ("size", name),
            _Drawn(mean[0], mean[1:], _images_with(run.truth, scale.objects == band)),
        )

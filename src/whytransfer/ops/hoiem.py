"""Hoiem's error types: what kind of mistake each false detection is, and what each kind costs.

Letters: D detections, C classes, I images, B draws. A detection is correct, badly localised,
confused with a similar or another class, or on the background. Two bookkeepings exist side by
side, as in the released analysis: the *counts* give a confused detection to the class that it
overlaps most; the *impact* calls it similar as soon as any similar class is hit, and takes every
other confusion for background.

Overlap is plain IoU of continuous boxes. That is what the original's "+1 pixel" computes on the
1-based inclusive corners of a VOC file: (x₂ - x₁ + 1) is the width either way.

Source: Hoiem, Chodpathumwan, Dai 2012, "Diagnosing Error in Object Detectors", sections 2-4, and
the code released with it (analyzeFalsePositives, analyzeTrueDetections,
matchDetectionsWithGroundTruth, averagePrecisionNormalized).
Differs: detections of equal score keep the order (image, row). A class with fewer detections than
a counting rule asks for is counted whole (the original stops with an error). AP is in percent, and
0 for a class without a true detection (the original: undefined). A crowd region, which VOC does
not have, is treated as a difficult object. By size, all detections are read; the original
first drops those from where normalised precision stays below 0.01.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.average_precision import Matches, average_precision
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.matching import Pairs, claim_in_turn, overlaps, rank_within

TYPES = ("correct", "localisation", "similar", "other", "background")
"""The types in the order in which they are tested; a type code indexes them."""

CORRECT, LOCALISATION, SIMILAR, OTHER, BACKGROUND = range(5)

VOC_SIMILAR: tuple[tuple[str, ...], ...] = (
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("aeroplane", "boat", "bus", "car", "train", "bicycle", "motorbike"),
    ("bicycle", "motorbike"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
"""VOC's sets of similar classes; bottle, pottedplant and tvmonitor are in none."""

VOC_GROUPS: Mapping[str, tuple[str, ...]] = {
    "animals": ("bird", "cat", "cow", "dog", "horse", "sheep"),
    "vehicles": ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    "furniture": ("chair", "diningtable", "sofa"),
}
"""The groups of classes that the original's charts sum over."""

REPAIRS = ("localisation", "localisation_fixed", "similar", "background")
"""What :func:`impact` repairs, beside ``all``, where nothing is."""

Rule = Literal["top_npos", "npos_false", "first_100_false"]
"""Which detections of a class are counted, best first; Npos is its number of normal objects.

``top_npos``: as many detections as Npos (the original's bars and pies). ``npos_false``: the prefix
that holds Npos false ones. ``first_100_false``: the prefix that holds 100 false ones.
"""

NORM_PER_IMAGE = 0.15
"""Objects of a class per image that precision is normalised to."""

_STRONG_IOU, _WEAK_IOU = 0.5, 0.1


@dataclass(frozen=True)
class HoiemTypes:
    """The type of every detection, in the order of the detections.

    Attributes:
        counted: (D,) type code by the class of largest overlap, for counts and pictures.
        impact: (D,) type code for :func:`impact`; never ``OTHER``.
        confused_with: (D,) class that a similar or other confusion overlaps most; else -1.
        match: (D,) at IoU .5: 1 on a normal object, 0 on a difficult one, -1 false.
        claimed: (D,) row of the object that it is matched with at IoU .5; else -1.
        loose_match: (D,) the same at IoU .1, where a duplicate is 0 as well.
    """

    counted: NDArray[np.int8]
    impact: NDArray[np.int8]
    confused_with: NDArray[np.int64]
    match: NDArray[np.int8]
    claimed: NDArray[np.int64]
    loose_match: NDArray[np.int8]


def similar_classes(classes: Sequence[str], sets: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Says which classes are similar: (C, C), true where some set holds both, false on itself.

    >>> similar_classes(["cat", "dog", "car"], [["cat", "dog"]]).sum()
    np.int64(2)
    """
    similar = np.zeros((len(classes), len(classes)), dtype=bool)
    for names in sets:
        members = np.isin(np.asarray(classes, dtype=np.str_), list(names))
        similar |= members[:, None] & members[None, :]
    np.fill_diagonal(similar, False)
    return similar


def hoiem_types(
    detections: Detections, truth: Truth, similar: Sequence[Sequence[str]] = ()
) -> HoiemTypes:
    """Gives every detection its type.

    Within a class, best score first, a detection claims the object of its image that it overlaps
    most among those not claimed yet, at IoU .5 or more. What claims nothing is false: a
    *localisation* error where it reaches an object of its class at IoU .1 (a duplicate does), else
    a confusion where it reaches one of another class, else *background*.

    Args:
        similar: Sets of class names; names that ``truth.classes`` lacks are passed over.
    """
    pairs = overlaps(detections, truth, minimum=_WEAK_IOU, same_label=False)
    own = detections.label[pairs.detection] == truth.label[pairs.truth]
    strong = _reach(pairs.take(own & (pairs.iou >= _STRONG_IOU)), detections, truth)
    weak = _reach(pairs, detections, truth)
    same = weak.label == detections.label[weak.detection]

    match = _labels(strong, truth, len(detections), duplicate=-1)
    loose_match = _labels(weak.take(same), truth, len(detections), duplicate=0)
    kinds = np.full(len(detections), BACKGROUND, dtype=np.int8)
    kinds[loose_match >= 0] = LOCALISATION
    kinds[match >= 0] = CORRECT

    confused = weak.take(~same & (kinds[weak.detection] == BACKGROUND))
    confused = confused.take(np.lexsort((confused.label, -confused.overlap, confused.detection)))
    most = confused.take(np.diff(confused.detection, prepend=-1) > 0)
    confused_with = np.full(len(detections), -1, dtype=np.int64)
    confused_with[most.detection] = most.label

    table = similar_classes(truth.classes, similar)
    counted = kinds.copy()
    is_similar = table[detections.label[most.detection], most.label]
    counted[most.detection] = np.where(is_similar, SIMILAR, OTHER)
    impact_kinds = kinds.copy()
    hits_similar = table[detections.label[confused.detection], confused.label]
    impact_kinds[confused.detection[hits_similar]] = SIMILAR
    claimed = np.full(len(detections), -1, dtype=np.int64)
    claimed[strong.detection] = strong.truth
    return HoiemTypes(counted, impact_kinds, confused_with, match, claimed, loose_match)


def counted_rows(
    types: HoiemTypes, detections: Detections, truth: Truth, rule: Rule = "top_npos"
) -> NDArray[np.bool_]:
    """Says which detections a counting rule takes: (D,), a prefix of each class by score."""
    chosen = np.zeros(len(detections), dtype=bool)
    order = _score_order(detections)
    num_positives = _num_positives(truth)
    for label, wanted in enumerate(num_positives):
        rows = order[detections.label[order] == label]
        if rule == "top_npos":
            chosen[rows[:wanted]] = True
            continue
        limit = 100 if rule == "first_100_false" else wanted
        false = types.match[rows] == -1
        chosen[rows[np.cumsum(false) - false < limit]] = True
    return chosen


def type_counts(
    types: HoiemTypes,
    detections: Detections,
    truth: Truth,
    *,
    rows: NDArray[np.bool_],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Counts the types per class: (C, 5), or (B, C, 5) with weights.

    Args:
        rows: (D,) the detections that count, from :func:`counted_rows`. They stay those of the
            plain data in every draw: a draw weighs images, it does not choose detections anew.
        weights: (B, I) how often each image counts in each draw.
    """
    shape = (len(truth.images), len(truth.classes), len(TYPES))
    counts = np.zeros(shape)
    np.add.at(counts, (detections.image[rows], detections.label[rows], types.counted[rows]), 1.0)
    if weights is None:
        total: NDArray[np.float64] = counts.sum(axis=0)
        return total
    return (weights @ counts.reshape(shape[0], -1)).reshape(-1, *shape[1:])


def impact(
    types: HoiemTypes,
    detections: Detections,
    truth: Truth,
    *,
    weights: NDArray[np.float64] | None = None,
    normalised: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """Says what each type costs: AP of every class in percent after each repair, (C,) or (B, C).

    ``all`` is the AP as it is; ``localisation``, ``similar`` and ``background`` are the AP without
    the false detections of that type; ``localisation_fixed`` the AP with badly localised ones made
    correct and duplicates dropped. NaN for a class without a normal object.

    Args:
        weights: (B, I) how often each image counts in each draw.
        normalised: Scale the correct ones to 0.15 objects per image before taking precision, so
            that rare and frequent classes compare; recall stays as it is.
    """
    left_out = np.int8(0)
    match = types.match
    labels = {
        "all": match,
        "localisation": np.where(types.impact == LOCALISATION, left_out, match),
        "localisation_fixed": types.loose_match,
        "similar": np.where(types.impact == SIMILAR, left_out, match),
        "background": np.where(types.impact == BACKGROUND, left_out, match),
    }
    objects = _objects(truth, _normal(truth))
    positives = np.broadcast_to(objects, (len(labels), *objects.shape))
    table = np.stack(list(labels.values()))
    after = _ap(detections, table, positives, weights, NORM_PER_IMAGE if normalised else None)
    return dict(zip(labels, np.moveaxis(after, -1, 0), strict=True))


def ap_by_size(
    types: HoiemTypes,
    detections: Detections,
    truth: Truth,
    band: NDArray[np.int64],
    num_bands: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Says how well objects of each size are found: normalised AP in percent, (..., Z, C).

    In each of the Z bands the correct detections of objects of other bands are left out, and all
    false ones stay. So what is false costs every band, the smaller ones more as they have fewer
    objects, which the normalisation evens out. NaN for a class without a normal object there.

    Args:
        band: (G,) of each object, in [0, Z).
        num_bands: Z.
        weights: (B, I) how often each image counts in each draw.
    """
    own = np.append(band, -1)[types.claimed]
    elsewhere = (types.match == 1) & (own != np.arange(num_bands)[:, None])
    labels = np.where(elsewhere, np.int8(0), types.match)
    normal = _normal(truth)
    positives = np.stack([_objects(truth, normal & (band == one)) for one in range(num_bands)])
    ap = _ap(detections, labels, positives, weights, NORM_PER_IMAGE)
    return np.swapaxes(ap, -1, -2)


def _ap(
    detections: Detections,
    labels: NDArray[np.int8],
    positives: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    per_image: float | None,
) -> NDArray[np.float64]:
    """Returns fully interpolated AP in percent under each of T sets of labels: (..., C, T).

    Args:
        labels: (T, D) 1 for a true detection, -1 for a false one, 0 for one that is left out.
        positives: (T, I, C) number of objects that count.
    """
    order = np.lexsort((detections.image, -detections.score, detections.label))
    own = labels[:, order]
    matches = Matches(
        row=order,
        image=detections.image[order],
        label=detections.label[order],
        score=detections.score[order],
        tp=own == 1,
        ignored=own == 0,
        positives=positives,
        thresholds=np.full(len(labels), _STRONG_IOU),
    )
    return 100.0 * average_precision(matches, weights, metric="voc12", per_image=per_image)


@dataclass(frozen=True)
class _Reach:
    """One row per detection and class of which it reaches an object.

    Attributes:
        detection: (N,) row of the detection.
        label: (N,) class of the objects.
        truth: (N,) row of the object it claims; -1 where all it reaches were claimed before.
        overlap: (N,) IoU with the claimed object; with the nearest one where it claims none.
    """

    detection: NDArray[np.int64]
    label: NDArray[np.int64]
    truth: NDArray[np.int64]
    overlap: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Reach":
        return _Reach(self.detection[rows], self.label[rows], self.truth[rows], self.overlap[rows])


def _reach(pairs: Pairs, detections: Detections, truth: Truth) -> _Reach:
    """Lets detections claim objects, each class of detections and of objects for itself.

    An object that a detected cat claims is still free for a detected dog. So a chooser is a
    (detection, class of objects), and what is claimed is an (own class, object).
    """
    label = truth.label[pairs.truth]
    order = np.lexsort((pairs.truth, -pairs.iou, label, pairs.detection))
    pairs, label = pairs.take(order), label[order]
    is_first = np.diff(pairs.detection * len(truth.classes) + label, prepend=-1) != 0
    chooser = np.cumsum(is_first) - 1
    nearest = pairs.take(is_first)

    own_label = detections.label[pairs.detection]
    choices = Pairs(chooser, own_label * len(truth) + pairs.truth, pairs.iou)
    claimed = claim_in_turn(
        choices,
        eligible=np.ones((1, len(chooser)), dtype=bool),
        turn=_turns(detections, len(truth.classes))[nearest.detection],
        reusable=np.zeros(len(truth.classes) * len(truth), dtype=bool),
    )[0]
    chosen = claimed[chooser] == choices.truth
    overlap = nearest.iou.copy()
    overlap[chooser[chosen]] = pairs.iou[chosen]
    objects = np.where(claimed >= 0, claimed % max(len(truth), 1), -1)
    return _Reach(nearest.detection, label[is_first], objects, overlap)


def _score_order(detections: Detections) -> NDArray[np.int64]:
    return np.lexsort((detections.image, -detections.score))


def _turns(detections: Detections, num_classes: int) -> NDArray[np.int64]:
    """How many detections of its image and class are better than each one."""
    order = _score_order(detections)
    turns = np.empty(len(detections), dtype=np.int64)
    turns[order] = rank_within((detections.image * num_classes + detections.label)[order])
    return turns


def _labels(reach: _Reach, truth: Truth, count: int, duplicate: int) -> NDArray[np.int8]:
    """1 on a normal object, 0 on a difficult one, ``duplicate`` on a claimed one, else -1."""
    labels = np.full(count, -1, dtype=np.int8)
    claimed = np.where((truth.difficult | truth.crowd)[reach.truth], 0, 1)
    labels[reach.detection] = np.where(reach.truth >= 0, claimed, duplicate)
    return labels


def _normal(truth: Truth) -> NDArray[np.bool_]:
    return ~(truth.difficult | truth.crowd)


def _num_positives(truth: Truth) -> NDArray[np.int64]:
    return np.bincount(truth.label[_normal(truth)], minlength=len(truth.classes))


def _objects(truth: Truth, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of chosen objects of each image and class: (I, C)."""
    shape = (len(truth.images), len(truth.classes))
    cell = truth.image[chosen] * shape[1] + truth.label[chosen]
    return np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)

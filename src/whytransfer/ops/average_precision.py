"""How good are these detections? Average precision by the rules of VOC and of COCO.

Matching and averaging are apart: detections are matched once, and the average is then taken for
any number of weightings of the images, which is what a bootstrap over images needs.

Letters in shapes: D detections, I images, C classes, T thresholds, B weightings ("draws").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import areas as mask_areas
from whytransfer.ops.matching import Pairs, claim_in_turn, mask_overlaps, overlaps, rank_within
from whytransfer.ops.means import mean_of_known

Metric = Literal["voc07", "voc12", "coco101", "tidecv101"]
Area = Literal["all", "small", "medium", "large"]
By = Literal["boxes", "masks"]

# Written as the evaluators compute them: their last bit decides whether 3 of 10 found reach 0.3.
_VOC_THRESHOLDS = np.arange(50, 100, 5) / 100.0
_COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = {
    "voc07": np.arange(0.0, 1.1, 0.1),
    "coco101": np.linspace(0.0, 1.0, 101),
    "tidecv101": np.arange(101) / 100,
}

_COCO_LIMIT = 100
_COCO_AREAS: dict[Area, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}

_NEAR_HALF = 1e-4  # a product's own error is below 1e-8 where pixels and scores are
_NEAR_LEVEL = 1e-6
_CHUNK = 1 << 19  # entries of a block of sums: 4 MiB of 64-bit floats


@dataclass(frozen=True)
class Matches:
    """What became of every detection under one set of rules, and how many objects count.

    The columns are sorted by label, then falling score, then image, then row.

    Attributes:
        row: (D,) row in the ``Detections`` they came from; rows beyond a limit are left out.
        image: (D,) index of the image.
        label: (D,) index of the class.
        score: (D,) the score that was sorted by.
        tp: (T, D) whether it found an object.
        ignored: (T, D) whether it counts neither as found nor as false.
        positives: (I, C) number of objects that count; (T, I, C) where it differs by threshold.
        thresholds: (T,) overlaps at which it was matched, in [0, 1].
    """

    row: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    tp: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    positives: NDArray[np.int64]
    thresholds: NDArray[np.float64]


def voc_matches(detections: Detections, truth: Truth) -> Matches:
    """Matches by the rules of the VOC devkit as detectron2 applies them, at .50, .55, ..., .95.

    Scores are rounded to 3 decimals and coordinates to 1, as in the devkit's text files, after
    the shift to 1-based inclusive pixels. Class by class in the order of scores, a detection looks
    at the object it overlaps most, claimed or not. Not more than the threshold: false. Else a
    difficult one: ignored; an unclaimed one: found; a claimed one: false. Objects flagged as crowd
    are treated as difficult.

    Differs: equal scores, which the rounding makes common, are ordered by image, then row; the
    original leaves their order to an unstable sort. The 1-pixel shift is made in 64-bit floats.

    Source: Everingham et al. 2010, section 3.4, and detectron2 pascal_voc_evaluation.py @197db55.
    """
    ordered, row = _by_score(_through_text(detections))
    uncounted = truth.difficult | truth.crowd
    best, iou = _best_object(ordered, _one_based(truth))
    close = iou > _VOC_THRESHOLDS[:, None]
    ignored = close & np.append(uncounted, False)[best]
    tp = np.zeros_like(close)
    for found, claim in zip(tp, close & ~ignored, strict=True):
        claiming = np.flatnonzero(claim)
        _, first = np.unique(best[claiming], return_index=True)
        found[claiming[first]] = True
    return Matches(
        row=row,
        image=ordered.image,
        label=ordered.label,
        score=ordered.score,
        tp=tp,
        ignored=ignored,
        positives=_count(truth, ~uncounted),
        thresholds=_VOC_THRESHOLDS,
    )


def coco_matches(
    detections: Detections, truth: Truth, *, area: Area = "all", by: By = "boxes"
) -> Matches:
    """Matches by the rules of COCO for one range of areas; see :func:`coco_family`."""
    return coco_family(detections, truth, (area,), by=by)[area]


def coco_family(
    detections: Detections,
    truth: Truth,
    areas: Sequence[Area] = tuple(_COCO_AREAS),
    *,
    by: By = "boxes",
) -> dict[Area, Matches]:
    """Matches by the rules of COCO, at .50, .55, ..., .95, equal to pycocotools; by range of areas.

    The 100 best detections of each image and class choose in the order of scores: the unclaimed
    object they overlap most, at least by the threshold; without one, an ignored object. Ignored
    are crowds, which any number of detections may share, and objects outside the area range; so
    are the detections that chose them, and unmatched ones whose own area is outside.

    Differs: an object flagged as difficult, which COCO does not know, is treated like one outside
    the area range. An inverted detection is false; its area there is negative, so ignored.

    Args:
        detections: What was found.
        truth: What is there.
        areas: Ranges of the annotation's area, and of the detection's own: its box's or its
            mask's.
        by: What overlaps, boxes or masks (then both have some).

    Source: Lin et al. 2014 and pycocotools 2.0 cocoeval.py, ``evaluateImg``.
    """
    ordered, row = _by_score(detections)
    turn = rank_within(ordered.image * len(truth.classes) + ordered.label)
    kept = turn < _COCO_LIMIT
    ordered, row, turn = _take(ordered, kept), row[kept], turn[kept]
    if by == "boxes":
        own_area = area_xyxy(ordered.boxes_xyxy)
        pairs = overlaps(ordered, truth, minimum=_COCO_THRESHOLDS[0], crowd_by_detection=True)
    else:
        assert ordered.masks is not None
        own_area = mask_areas(ordered.masks)
        pairs = mask_overlaps(ordered, truth, minimum=_COCO_THRESHOLDS[0])
    return {
        area: _claimed_in_area(ordered, row, turn, truth, pairs, own_area, _COCO_AREAS[area])
        for area in areas
    }


def _claimed_in_area(
    ordered: Detections,
    row: NDArray[np.int64],
    turn: NDArray[np.int64],
    truth: Truth,
    pairs: Pairs,
    own_area: NDArray[np.float64],
    limits: tuple[float, float],
) -> Matches:
    smallest, largest = limits
    uncounted = truth.crowd | truth.difficult | (truth.area < smallest) | (truth.area > largest)
    preference = np.lexsort((-pairs.truth, -pairs.iou, uncounted[pairs.truth], pairs.detection))
    pairs = pairs.take(preference)
    eligible = pairs.iou >= _COCO_THRESHOLDS[:, None]
    claimed = claim_in_turn(pairs, eligible, turn, truth.crowd)
    outside = (own_area < smallest) | (own_area > largest)
    matched = claimed >= 0
    ignored = np.where(matched, np.append(uncounted, False)[claimed], outside)
    return Matches(
        row=row,
        image=ordered.image,
        label=ordered.label,
        score=ordered.score,
        tp=matched & ~ignored,
        ignored=ignored,
        positives=_count(truth, ~uncounted),
        thresholds=_COCO_THRESHOLDS,
    )


def average_precision(
    matches: Matches,
    weights: NDArray[np.generic] | None = None,
    *,
    metric: Metric,
    per_image: float | None = None,
) -> NDArray[np.float64]:
    """Returns the average precision in [0, 1] of every class and threshold, shape (C, T).

    NaN where no object of a class counts. With integer weights the value is that of a set in
    which each image stands as often as its weight says.

    Args:
        matches: Every detection's outcome.
        weights: How often each image counts, at least 0: (I,), or (B, I) for an answer of shape
            (B, C, T); one each where left out.
        metric: ``voc07``: mean over recall 0, .1, ..., 1 of the best precision at that recall or
            more. ``coco101``: the same over 0, .01, ..., 1. ``tidecv101``: the same over 0/100,
            1/100, ..., 100/100, of which ten are a last bit below COCO's. ``voc12``: the area under
            that curve.
        per_image: Objects of a class per image to which those found are scaled before precision is
            taken, so that rare and frequent classes compare; recall stays as it is. ``None`` takes
            precision as it is.

    Raises:
        ValueError: The weights are not as many as the images.
    """
    num_images, num_classes = matches.positives.shape[-2:]
    rows = np.ones(num_images) if weights is None else np.asarray(weights, dtype=np.float64)
    if rows.shape[-1] != num_images or rows.ndim > 2:
        raise ValueError(f"weights have shape {rows.shape}, expected ({num_images},) or (B, same)")
    draws = np.ascontiguousarray(np.atleast_2d(rows).T)
    result = np.full((draws.shape[1], num_classes, len(matches.thresholds)), np.nan)
    edges = np.searchsorted(matches.label, np.arange(num_classes + 1))
    for label in range(num_classes):
        outcomes = _outcomes(matches, label, slice(edges[label], edges[label + 1]))
        for start in range(0, draws.shape[1], outcomes.draws_at_once):
            block = slice(start, start + outcomes.draws_at_once)
            own = np.ascontiguousarray(draws[:, block])
            result[block, label] = _class_precision(outcomes, own, metric, per_image)
    return result if rows.ndim == 2 else result[0]


def summary(precision: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns AP, AP50 and AP75 in percent, each the mean over the classes that have a value.

    A class without countable objects (NaN) is left out of that draw's mean; without any class the
    mean is NaN. AP is the mean over all thresholds, too.

    Args:
        precision: (..., C, 10) in [0, 1], at .50, .55, ..., .95; each answer has shape (...).
    """
    means = 100.0 * mean_of_known(precision, axis=-2)
    return {"AP": means.mean(axis=-1), "AP50": means[..., 0], "AP75": means[..., 5]}


def coco_summary(
    family: Mapping[Area, Matches], weights: NDArray[np.generic] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Returns what COCO reports, in percent: AP, AP50, AP75, then APs, APm, APl where asked for.

    Args:
        family: Of :func:`coco_family`.
        weights: How often each image counts, as for :func:`average_precision`.
    """
    found = {
        area: summary(average_precision(matches, weights, metric="coco101"))
        for area, matches in family.items()
    }
    small = {f"AP{area[0]}": values["AP"] for area, values in found.items() if area != "all"}
    return {**found.get("all", {}), **small}


@dataclass(frozen=True)
class _Outcomes:
    """One class of ``Matches``, folded to the places where precision can be highest.

    Precision is highest just after a detection that finds something at some threshold: an *event*,
    of which there are about as many as objects. What lies between two events matters by its sum
    alone, taken apart for each *pattern*, the set of thresholds at which a detection is ignored.

    Attributes:
        image: (E,) of each event.
        tp: (T, E) whether it finds something.
        sums: Sparse (P * E, I): from the weights of the images to those of the detections of each
            pattern since the event before.
        ignored: (T, P) whether a pattern is ignored.
        positives: (T, I) number of objects that count.
    """

    image: NDArray[np.int64]
    tp: NDArray[np.bool_]
    sums: Any
    ignored: NDArray[np.bool_]
    positives: NDArray[np.int64]

    @property
    def draws_at_once(self) -> int:
        """How many draws are counted in one block, so that it stays in the cache."""
        num_sums: int = self.ignored.shape[1] * len(self.image)
        return max(1, _CHUNK // max(1, num_sums))


def _outcomes(matches: Matches, label: int, columns: slice) -> _Outcomes:
    """Folds the detections of one class, which are ``columns``."""
    from scipy.sparse import csr_array  # here, since it takes a moment to import

    tp, ignored = matches.tp[:, columns], matches.ignored[:, columns]
    image = matches.image[columns]
    events = np.flatnonzero(tp.any(axis=0))
    # Those after the last event matter to no precision that is kept.
    until = events[-1] + 1 if len(events) else 0
    codes = (1 << np.arange(len(tp))) @ ignored[:, :until]
    patterns, pattern = np.unique(codes, return_inverse=True)
    row = pattern * len(events) + np.searchsorted(events, np.arange(until))
    shape = (len(patterns) * len(events), matches.positives.shape[-2])
    positives = matches.positives[..., label]
    return _Outcomes(
        image=image[events],
        tp=tp[:, events],
        sums=csr_array((np.ones(until), (row, image[:until])), shape=shape),
        ignored=patterns >> np.arange(len(tp))[:, None] & 1 == 1,
        positives=np.broadcast_to(positives, (len(tp), positives.shape[-1])),
    )


def _class_precision(
    outcomes: _Outcomes,
    weights: NDArray[np.float64],
    metric: Metric,
    per_image: float | None,
) -> NDArray[np.float64]:
    """Returns (B, T) average precisions of one class under weights (I, B)."""
    num_draws, num_patterns = weights.shape[1], outcomes.ignored.shape[1]
    shape = (num_patterns, len(outcomes.image), num_draws)
    marked = (outcomes.sums @ weights).reshape(shape).cumsum(axis=1)
    seen, own = marked.sum(axis=0), weights[outcomes.image]
    answer = np.full((num_draws, len(outcomes.tp)), np.nan)
    for threshold, (tp, ignored) in enumerate(zip(outcomes.tp, outcomes.ignored, strict=True)):
        positives = outcomes.positives[threshold] @ weights
        counted = seen[tp]
        for pattern in np.flatnonzero(ignored):
            counted -= marked[pattern, tp]
        found = scaled = own[tp].cumsum(axis=0)
        if per_image is not None:
            scaled = found * (per_image * weights.sum(axis=0) / np.where(positives, positives, 1))
            counted += scaled - found
        precision = np.divide(scaled, counted, out=np.zeros_like(found), where=counted > 0)
        recall = np.divide(found, positives, out=found, where=positives > 0)
        means = _mean_precision(recall, precision, metric)
        answer[:, threshold] = np.where(positives > 0, means, np.nan)
    return answer


def _mean_precision(
    recall: NDArray[np.float64], precision: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """Returns (B,) from curves (K, B) along rising recall; overwrites the precision."""
    best = np.maximum.accumulate(precision[::-1], axis=0, out=precision[::-1])[::-1]
    if metric == "voc12":
        reached, total = recall, 1.0
    else:
        levels = _RECALLS[metric]
        reached, total = _levels_reached(recall, levels), float(len(levels))
    # A level's best precision is that at the first event which reaches it.
    means: NDArray[np.float64] = (np.diff(reached, axis=0, prepend=0.0) * best).sum(axis=0) / total
    return means


def _levels_reached(
    recall: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns how many of some evenly spaced levels from 0 to 1 each recall reaches.

    Multiplying tells all but those next to a level, which are looked up.
    """
    scaled = recall * (len(levels) - 1)
    near = np.abs(scaled - np.rint(scaled)) < _NEAR_LEVEL
    reached: NDArray[np.float64] = np.floor(scaled, out=scaled)
    reached += 1.0
    reached[near] = np.searchsorted(levels, recall[near], side="right")
    return reached


def _take(detections: Detections, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Detections:
    return Detections(
        detections.image[rows],
        detections.label[rows],
        detections.score[rows],
        detections.boxes_xyxy[rows],
        None if detections.masks is None else detections.masks[rows],
    )


def _by_score(detections: Detections) -> tuple[Detections, NDArray[np.int64]]:
    """Returns the detections by label, falling score, image and row; and their rows."""
    row = np.lexsort((detections.image, -detections.score, detections.label))
    return _take(detections, row), row


def _through_text(detections: Detections) -> Detections:
    """Returns what a VOC results file keeps: 1-based corners, a few decimals."""
    shifted = detections.boxes_xyxy + np.array([1.0, 1.0, 0.0, 0.0])
    return replace(detections, score=_rounded(detections.score, 3), boxes_xyxy=_rounded(shifted, 1))


def _rounded(values: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    """Rounds as printing does: 0.35 is a little less than 7/20, so it is 0.3 and not 0.4.

    Multiplying first loses that, so values whose product lies next to a half go the slow way.
    """
    scale = 10.0**decimals
    scaled = values * scale
    near = np.abs(scaled - np.floor(scaled) - 0.5) < _NEAR_HALF
    rounded: NDArray[np.float64] = np.rint(scaled) / scale
    rounded[near] = [round(value, decimals) for value in values[near].tolist()]
    return rounded


def _one_based(truth: Truth) -> Truth:
    return replace(truth, boxes_xyxy=truth.boxes_xyxy + np.array([1.0, 1.0, 0.0, 0.0]))


def _best_object(
    detections: Detections, truth: Truth
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns (D,) the row of the object of the same class overlapped most, or -1, and by how much.

    Only overlaps that the lowest threshold may accept are looked for.
    """
    pairs = overlaps(detections, truth, minimum=_VOC_THRESHOLDS[0], pixel=1.0)
    pairs = pairs.take(np.lexsort((pairs.truth, -pairs.iou, pairs.detection)))
    top = pairs.take(np.diff(pairs.detection, prepend=-1) > 0)
    best = np.full(len(detections), -1, dtype=np.int64)
    iou = np.zeros(len(detections))
    best[top.detection], iou[top.detection] = top.truth, top.iou
    return best, iou


def _count(truth: Truth, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns (I, C) how many of the marked objects each image has of each class."""
    num_images, num_classes = len(truth.images), len(truth.classes)
    cell = truth.image[counted] * num_classes + truth.label[counted]
    return np.bincount(cell, minlength=num_images * num_classes).reshape(num_images, num_classes)

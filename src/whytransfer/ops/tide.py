"""TIDE: one error type per false detection and missed object, and the AP that each type costs.

Letters: R detections that take part, G objects, C classes, I images, B draws, K types. The types
are found once; their cost, ``dAP``, is recomputed for any weighting of the images from the same
table, so that a bootstrap never matches again.

Source: Bolya, Foley, Hays, Hoffman 2020, "TIDE: A General Toolbox for Identifying Object Detection
Errors", sections 2-3, and tidecv @49a5d2a (quantify.py, errors/, ap.py).
Differs: AP reads recall at pycocotools' 101 points, so that it equals COCO's AP50; tidecv's points
are a last bit lower at ten of them, and are read where they are asked for. Detections of equal
score keep the order (image, row) before and after a fix (tidecv puts the false ones first after
one). The classes of the mean are those
with an object, before and after a fix (tidecv counts a class with detections alone as 0, until a
fix empties it). A difficult object is ignored by plain IoU; tidecv knows crowd regions alone.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.average_precision import By, Matches, Metric, average_precision
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.matching import Pairs, claim_in_turn, mask_overlaps, overlaps, rank_within
from whytransfer.ops.means import mean_of_known

MAIN_TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
"""Wrong class, badly placed, both, duplicate, on the background, missed object."""

SPECIAL_TYPES = ("FalsePos", "FalseNeg")
"""All false detections ranked last; all objects that nothing hits left out of the count."""

TYPES = MAIN_TYPES + SPECIAL_TYPES

Recalls = Literal["coco", "tidecv"]
"""The points of recall that AP is read at: pycocotools' or tidecv's, a last bit apart at ten."""

HIT, CLS, LOC, BOTH, DUPE, BKG = range(-1, 5)
"""What a detection is; from ``CLS`` on, an index into ``TYPES``."""


_BEYOND = -2
"""The kind of a false detection that no fix reaches."""


@dataclass(frozen=True)
class TideErrors:
    """What every detection that takes part and every object is, matched once.

    Attributes:
        row: (R,) row in the detections, from the highest score down.
        image: (R,) its image.
        label: (R,) its class.
        score: (R,) its score.
        kind: (R,) ``HIT``, or the index of its error in ``TYPES``.
        target: (R,) row of the object that it hits or, for Cls and Loc, would hit; else -1.
        target_label: (R,) class of ``target``; else -1.
        repairs: (R,) is the best-scored Cls or Loc error on an object that nothing hits.
        ignored: (R,) lies on a difficult object or crowd: has a type, but no part in AP.
        missed: (G,) objects that nothing hits and no Cls or Loc error could repair.
        objects: (I, C) number of normal objects.
        objects_hit: (I, C) number of those that a detection hits.
        objects_missed: (I, C) number of ``missed``.
    """

    row: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    kind: NDArray[np.int8]
    target: NDArray[np.int64]
    target_label: NDArray[np.int64]
    repairs: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    objects: NDArray[np.int64]
    objects_hit: NDArray[np.int64]
    objects_missed: NDArray[np.int64]


@dataclass(frozen=True)
class TideGains:
    """AP in percent as it is and after each fix; NaN where a class has no object.

    Attributes:
        before: (..., C) AP at the foreground threshold.
        after: (..., K, C) AP once the errors of one type, in the order of ``TYPES``, are fixed.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def per_class(self) -> NDArray[np.float64]:
        """Returns dAP of each type and class in points: (..., K, C), 0 or more."""
        gain: NDArray[np.float64] = np.maximum(self.after - self.before[..., None, :], 0.0)
        return gain

    def in_all(self, members: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Returns dAP of each type, taken of the mean over classes, in points: (..., K).

        Args:
            members: (C,) the classes of the mean; all where left out.
        """
        gain = self.after - self.before[..., None, :]
        gain = gain if members is None else gain[..., members]
        floored: NDArray[np.float64] = np.maximum(mean_of_known(gain), 0.0)
        return floored


def tide_errors(
    detections: Detections,
    truth: Truth,
    *,
    foreground: float = 0.5,
    background: float = 0.1,
    max_per_image: int = 100,
    by: By = "boxes",
) -> TideErrors:
    """Gives every detection and object its type.

    Within a class, best score first, a detection hits the free object of largest IoU if that is
    ``foreground`` or more. Any other gets the first type that fits: *Loc*, IoU with its class in
    [background, foreground]; *Cls*, IoU with another class of foreground or more; *Dupe*,
    foreground or more with an object that is taken; *Bkg*, background or less with everything;
    *Both*, the rest.

    Args:
        max_per_image: The best of each image take part, all classes together.
        by: What overlaps, boxes or masks (then both have some).
    """
    dets, row = _best_per_image(detections, max_per_image)
    normal = ~(truth.difficult | truth.crowd)
    if by == "boxes":
        pairs = overlaps(dets, truth, minimum=background, same_label=False, crowd_by_detection=True)
    else:
        pairs = mask_overlaps(dets, truth, minimum=background, same_label=False)
    own = dets.label[pairs.detection] == truth.label[pairs.truth]
    on_ignored = own & ~normal[pairs.truth] & (pairs.iou > foreground)
    ignored = np.isin(np.arange(len(dets)), pairs.detection[on_ignored])
    same = _nearest_first(pairs, own & normal[pairs.truth])
    other = _nearest_first(pairs, ~own & normal[pairs.truth])

    hits = claim_in_turn(
        same,
        eligible=same.iou[None] >= foreground,
        turn=rank_within(dets.image * len(truth.classes) + dets.label),
        reusable=np.zeros(len(truth), dtype=bool),
    )[0]
    hit = np.isin(np.arange(len(truth)), hits)
    kind, target = _kinds(same, other, hit, (foreground, background), len(dets))
    kind = np.where(hits >= 0, HIT, kind)
    target = np.where(hits >= 0, hits, target)

    repairable = np.flatnonzero((kind != HIT) & (target >= 0) & ~np.append(hit, True)[target])
    repaired, first = np.unique(target[repairable], return_index=True)
    missed = normal & ~hit & ~np.isin(np.arange(len(truth)), repaired)
    return TideErrors(
        row=row,
        image=dets.image,
        label=dets.label,
        score=dets.score,
        kind=kind.astype(np.int8),
        target=target,
        target_label=np.append(truth.label, -1)[target],
        repairs=np.isin(np.arange(len(dets)), repairable[first]),
        ignored=ignored & (kind != HIT),
        missed=missed,
        objects=_per_image(truth, normal),
        objects_hit=_per_image(truth, hit),
        objects_missed=_per_image(truth, missed),
    )


def tide_gains(
    errors: TideErrors, weights: NDArray[np.float64] | None = None, *, recalls: Recalls = "coco"
) -> TideGains:
    """Returns the AP before and after each fix, of the plain data or of weighted images.

    A fix of Cls or Loc makes the error that ``repairs`` an object true, at its own score, and
    removes the others of that type; of Both, Dupe and Bkg removes them; of Miss leaves the missed
    objects out of the count. A class of which a fix leaves no object has AP 0: nothing hit it.

    Args:
        weights: (B, I) how often each image counts in each draw; without it, the results lack B.
        recalls: Whose 101 recall points precision is read at.
    """
    metric: Metric = "coco101" if recalls == "coco" else "tidecv101"
    precision = average_precision(_outcomes(errors), weights, metric=metric)
    ap = 100.0 * np.moveaxis(precision, -1, -2)
    before, after = ap[..., 0, :], ap[..., 1:, :]
    emptied = np.isnan(after) & ~np.isnan(before)[..., None, :]
    return TideGains(before, np.where(emptied, 0.0, after))


def among(
    errors: TideErrors, truth: Truth, rows: NDArray[np.bool_], objects: NDArray[np.bool_]
) -> TideErrors:
    """Returns the errors of which the fixes reach only some; the others are false as before.

    The two special fixes don't tell errors apart: they stay those of all.

    Args:
        truth: Of the objects.
        rows: (R,) the false detections that a fix may reach.
        objects: (G,) the missed objects that it may reach.

    Source: tidecv @49a5d2a, errors/qualifiers.py, ``Qualifier``.
    """
    missed = errors.missed & objects
    return replace(
        errors,
        kind=np.where(rows | (errors.kind == HIT), errors.kind, _BEYOND).astype(np.int8),
        missed=missed,
        objects_missed=_per_image(truth, missed),
    )


def _outcomes(errors: TideErrors) -> Matches:
    """The outcomes as they are and after each fix, in the order of ``TYPES``, as "thresholds".

    The rows of Cls errors that change class stand a second time, under their new class; they are
    ignored everywhere but after that fix.
    """
    arrives = np.flatnonzero(errors.repairs & (errors.kind == CLS))
    source = np.concatenate([np.arange(len(errors.row)), arrives])
    is_copy = np.arange(len(source)) >= len(errors.row)
    label = np.where(is_copy, errors.target_label[source], errors.label[source])
    order = np.lexsort((source, label))
    source, is_copy, label = source[order], is_copy[order], label[order]

    kind, repairs = errors.kind[source], errors.repairs[source]
    hit = (kind == HIT) & ~is_copy
    ignored = errors.ignored[source] | is_copy
    made_true = {CLS: is_copy, LOC: repairs & (kind == LOC)}
    nothing = np.zeros(len(source), dtype=bool)
    as_is = (hit, ignored)
    outcomes = [as_is]
    for code in (CLS, LOC, BOTH, DUPE, BKG):
        true = made_true.get(code, nothing)
        outcomes.append((hit | true, (ignored | (kind == code)) & ~true))
    # Ranked last, a false detection can't lower the precision at any recall that is reached.
    outcomes += [as_is, (hit, ~hit), as_is]
    objects = [errors.objects] * len(outcomes)
    objects[1 + TYPES.index("Miss")] = errors.objects - errors.objects_missed
    objects[1 + TYPES.index("FalseNeg")] = errors.objects_hit
    return Matches(
        row=errors.row[source],
        image=errors.image[source],
        label=label,
        score=errors.score[source],
        tp=np.stack([true for true, _ in outcomes]),
        ignored=np.stack([left_out for _, left_out in outcomes]),
        positives=np.stack(objects),
        thresholds=np.arange(len(outcomes), dtype=np.float64),
    )


def _kinds(
    same: Pairs,
    other: Pairs,
    hit: NDArray[np.bool_],
    thresholds: tuple[float, float],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first type that fits each detection, were it false, and the object to repair or -1."""
    foreground, background = thresholds
    same_truth, same_iou = _nearest(same, count)
    other_truth, other_iou = _nearest(other, count)
    _, taken_iou = _nearest(same.take(hit[same.truth]), count)
    is_loc = (same_iou >= background) & (same_iou <= foreground)
    is_cls = ~is_loc & (other_iou >= foreground)
    on_nothing = np.maximum(same_iou, other_iou) <= background
    kind = np.select(
        [is_loc, is_cls, taken_iou >= foreground, on_nothing], [LOC, CLS, DUPE, BKG], BOTH
    )
    return kind, np.select([is_loc, is_cls], [same_truth, other_truth], -1)


def _nearest_first(pairs: Pairs, keep: NDArray[np.bool_]) -> Pairs:
    kept = pairs.take(keep)
    return kept.take(np.lexsort((kept.truth, -kept.iou, kept.detection)))


def _nearest(pairs: Pairs, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The object of largest IoU of each detection, or -1, and that IoU; of pairs, nearest first."""
    top = pairs.take(np.diff(pairs.detection, prepend=-1) > 0)
    truth = np.full(count, -1, dtype=np.int64)
    iou = np.zeros(count)
    truth[top.detection], iou[top.detection] = top.truth, top.iou
    return truth, iou


def _best_per_image(detections: Detections, limit: int) -> tuple[Detections, NDArray[np.int64]]:
    """The best ``limit`` of each image from the highest score down, and their rows."""
    order = np.lexsort((detections.image, -detections.score))
    row = order[rank_within(detections.image[order]) < limit]
    kept = Detections(
        detections.image[row],
        detections.label[row],
        detections.score[row],
        detections.boxes_xyxy[row],
        None if detections.masks is None else detections.masks[row],
    )
    return kept, row


def _per_image(truth: Truth, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of chosen objects of each image and class: (I, C)."""
    counts = np.zeros((len(truth.images), len(truth.classes)), dtype=np.int64)
    np.add.at(counts, (truth.image[chosen], truth.label[chosen]), 1)
    return counts

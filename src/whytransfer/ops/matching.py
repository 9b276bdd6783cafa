"""Which detections overlap which objects, and who claims whom: flat columns, computed once.

Letters in shapes: D detections, G objects of the truth, P pairs of one of each, T thresholds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.boxes import area_xyxy, intersection_xyxy, paired_iou_xyxy
from whytransfer.ops.detections import Detections, Truth


@dataclass(frozen=True)
class Pairs:
    """One row per detection and object of one image, in the order of detections, then objects.

    Attributes:
        detection: (P,) row of the detection.
        truth: (P,) row of the object.
        iou: (P,) their overlap in [0, 1].
    """

    detection: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Pairs":
        """Returns the pairs of those rows, in their order."""
        return Pairs(self.detection[rows], self.truth[rows], self.iou[rows])


def overlaps(
    detections: Detections,
    truth: Truth,
    *,
    minimum: float = 0.0,
    pixel: float = 0.0,
    same_label: bool = True,
    crowd_by_detection: bool = False,
) -> Pairs:
    """Returns every detection and object of one image that overlap by at least ``minimum``.

    Args:
        detections: The detections.
        truth: The objects.
        minimum: The smallest overlap kept; 0 keeps the pairs that don't touch, too.
        pixel: 1 for inclusive pixel coordinates, else 0.
        same_label: Leaves out pairs of different labels.
        crowd_by_detection: Divides by the detection's area where the object is a crowd, so that
            a box within the region overlaps by 1 (COCO's rule).
    """
    detection, row = _join(
        _group(detections.image, detections.label, truth, same_label),
        _group(truth.image, truth.label, truth, same_label),
    )
    found, wanted = detections.boxes_xyxy[detection], truth.boxes_xyxy[row]
    iou = paired_iou_xyxy(found, wanted, pixel=pixel)
    crowd = truth.crowd[row]
    if crowd_by_detection and crowd.any():
        shared = intersection_xyxy(found[crowd], wanted[crowd], pixel=pixel)
        area = area_xyxy(found[crowd], pixel=pixel)
        iou[crowd] = np.divide(shared, area, out=np.zeros_like(area), where=shared > 0)
    return Pairs(detection, row, iou).take(iou >= minimum)


def mask_overlaps(
    detections: Detections, truth: Truth, *, minimum: float, same_label: bool = True
) -> Pairs:
    """Returns every detection and object of one image whose masks overlap enough.

    Where the object is a crowd, the pixels shared are divided by the detection's (COCO's rule).

    Args:
        detections: The detections, with masks.
        truth: The objects, with masks of the same sizes.
        minimum: The smallest overlap kept.
        same_label: Leaves out pairs of different labels.
    """
    from faster_coco_eval.core import mask as coco

    assert detections.masks is not None and truth.masks is not None
    group = _group(detections.image, detections.label, truth, same_label)
    detection, row = _join(group, _group(truth.image, truth.label, truth, same_label))
    # The pairs of a group are the cells of a table, detections by objects, in order.
    order = np.argsort(group[detection], kind="stable")
    edges = np.flatnonzero(np.diff(group[detection][order])) + 1
    iou = np.zeros(len(detection))
    for cells in np.split(order, edges) if len(order) else []:
        num_objects = int((detection[cells] == detection[cells[0]]).sum())
        found = detections.masks[detection[cells[::num_objects]]]
        wanted = row[cells[:num_objects]]
        crowd = truth.crowd[wanted].astype(int).tolist()
        iou[cells] = np.ravel(coco.iou(found.coco(), truth.masks[wanted].coco(), crowd))
    return Pairs(detection, row, iou).take(iou >= minimum)


def claim_in_turn(
    pairs: Pairs,
    eligible: NDArray[np.bool_],
    turn: NDArray[np.int64],
    reusable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Lets detections claim objects one after the other; returns (T, D) object rows, -1 for none.

    A detection takes the first of its pairs that is eligible and whose object nobody claimed yet.

    Args:
        pairs: Those of one detection stand together, the preferred one first.
        eligible: (T, P) whether a pair may be taken at each threshold.
        turn: (D,) when the detection chooses; those of one turn share no object.
        reusable: (G,) objects that may be claimed again and again.
    """
    taken = np.zeros((len(eligible), len(reusable)), dtype=bool)
    claimed = np.full((len(eligible), len(turn)), -1, dtype=np.int64)
    when = turn[pairs.detection]
    by_turn = np.argsort(when, kind="stable")
    ends = np.flatnonzero(np.diff(when[by_turn])) + 1
    for rows in np.split(by_turn, ends) if len(by_turn) else []:
        detection, truth = pairs.detection[rows], pairs.truth[rows]
        free = eligible[:, rows] & ~taken[:, truth]
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        place = np.where(free, np.arange(len(rows)), len(rows))
        threshold, first = _first_places(place, starts, len(rows))
        claimed[threshold, detection[first]] = truth[first]
        taken[threshold, truth[first]] = ~reusable[truth[first]]
    return claimed


def rank_within(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns for each entry how many equal ones stand before it.

    >>> rank_within(np.array([5, 7, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return rank


def _group(
    image: NDArray[np.int64], label: NDArray[np.int64], truth: Truth, same_label: bool
) -> NDArray[np.int64]:
    return image * len(truth.classes) + label if same_label else image


def _join(
    left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows of every equal pair of the two columns."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right[order], left, side="left")
    count = np.searchsorted(right[order], left, side="right") - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(left)), count), order[np.repeat(first, count) + within]


def _first_places(
    place: NDArray[np.int64], starts: NDArray[np.int64], none: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns threshold and smallest place of each segment that has one below ``none``."""
    first = np.minimum.reduceat(place, starts, axis=1)
    threshold, segment = np.nonzero(first < none)
    return threshold, first[threshold, segment]

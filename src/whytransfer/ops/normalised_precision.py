"""Average precision as if every class had as many objects: Hoiem's, of plain or weighted images.

Letters: D detections, T variants of what is true, I images, C classes, B draws, E events.

Precision falls where objects are rare. So the true detections are scaled to 0.15 objects per image
before precision is taken; recall stays as it is. AP is fully interpolated: the mean over all
objects of the best precision at their recall or more, 0 for those not found.

Source: Hoiem, Chodpathumwan, Dai 2012, section 3.2, and averagePrecisionNormalized of its code.
Differs: AP is in percent, and 0 for a class without a true detection (the original: undefined).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.detections import Detections

NORM_PER_IMAGE = 0.15
"""Objects of a class per image that precision is normalised to."""

_CHUNK = 1 << 19  # entries of a block of sums: 4 MiB of 64-bit floats


def normalised_ap(
    detections: Detections,
    labels: NDArray[np.int8],
    positives: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
    *,
    normalised: bool = True,
) -> NDArray[np.float64]:
    """Returns AP in percent of every variant and class: (T, C), or (B, T, C) with weights.

    NaN where a class has no object. With whole weights the value is that of a set in which each
    image stands as often as its weight says.

    Args:
        labels: (T, D) 1 for a true detection, -1 for a false one, 0 for one that is left out.
        positives: (T, I, C) number of objects that count.
        weights: (B, I) how often each image counts in each draw.
        normalised: Else precision is taken as it is.
    """
    num_images, num_classes = positives.shape[1:]
    rows = np.ones((1, num_images)) if weights is None else weights
    draws = np.ascontiguousarray(rows.T)
    norm = NORM_PER_IMAGE * draws.sum(axis=0) if normalised else None
    order = np.lexsort((detections.image, -detections.score, detections.label))
    edges = np.searchsorted(detections.label[order], np.arange(num_classes + 1))
    result = np.full((len(rows), len(labels), num_classes), np.nan)
    for label in np.flatnonzero(positives.any(axis=(0, 1))):
        own = order[edges[label] : edges[label + 1]]
        outcomes = _outcomes(labels[:, own], detections.image[own], positives[:, :, label])
        for start in range(0, len(rows), outcomes.draws_at_once):
            block = slice(start, start + outcomes.draws_at_once)
            part = np.ascontiguousarray(draws[:, block])
            result[block, :, label] = outcomes.ap(part, None if norm is None else norm[block])
    return result[0] if weights is None else result


@dataclass(frozen=True)
class _Outcomes:
    """One class, folded to its *events*: the detections that are true in some variant.

    Precision is highest there. What is false between two of them matters by its sum alone, taken
    apart for each *pattern*, the set of variants in which a detection is false.

    Attributes:
        image: (E,) of each event.
        true: (T, E) whether it is true.
        sums: Sparse (P * E, I): from the weights of the images to those of the false detections
            of each pattern since the event before.
        false: (T, P) whether a pattern is false.
        positives: (T, I) number of objects that count.
    """

    image: NDArray[np.int64]
    true: NDArray[np.bool_]
    sums: Any
    false: NDArray[np.bool_]
    positives: NDArray[np.int64]

    @property
    def draws_at_once(self) -> int:
        """How many draws are counted in one block, so that it stays in the cache."""
        num_sums: int = self.false.shape[1] * len(self.image)
        return max(1, _CHUNK // max(1, num_sums))

    def ap(
        self, weights: NDArray[np.float64], norm: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Returns AP in percent (B, T) under weights (I, B) of the images."""
        shape = (self.false.shape[1], len(self.image), weights.shape[1])
        false = (self.sums @ weights).reshape(shape).cumsum(axis=1)
        own, positives = weights[self.image], self.positives @ weights
        result = np.full((shape[2], len(self.true)), np.nan)
        for variant, chosen in enumerate(self.true):
            total, weight = positives[variant], own[chosen]
            scale = np.ones(shape[2]) if norm is None else norm / np.maximum(total, 1e-9)
            true = weight.cumsum(axis=0) * scale
            counted = true.copy()
            for pattern in np.flatnonzero(self.false[variant]):
                counted += false[pattern, chosen]
            precision = np.divide(true, counted, out=np.zeros_like(true), where=counted > 0)
            best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            known = total > 0
            area = 100.0 * (weight * best).sum(axis=0)
            result[known, variant] = area[known] / total[known]
        return result


def _outcomes(
    labels: NDArray[np.int8], image: NDArray[np.int64], positives: NDArray[np.int64]
) -> _Outcomes:
    """Folds the detections of one class, in the order of their scores."""
    from scipy.sparse import csr_array  # here, since it takes a moment to import

    true = labels == 1
    events = np.flatnonzero(true.any(axis=0))
    # Those after the last event matter to no precision that is kept.
    until = events[-1] + 1 if len(events) else 0
    codes = (1 << np.arange(len(labels))) @ (labels[:, :until] == -1)
    false = np.flatnonzero(codes)
    patterns, pattern = np.unique(codes[false], return_inverse=True)
    row = pattern * len(events) + np.searchsorted(events, false)
    shape = (len(patterns) * len(events), len(positives[0]))
    return _Outcomes(
        image=image[events],
        true=true[:, events],
        sums=csr_array((np.ones(len(false)), (row, image[false])), shape=shape),
        false=patterns >> np.arange(len(labels))[:, None] & 1 == 1,
        positives=positives,
    )

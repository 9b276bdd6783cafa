"""How well do predicted pixels agree with the true ones? Intersection over union, class by class.

Each image is counted once; scores are sums over images, under any weights of them, so that the
bootstrap over images costs a matrix product.

Letters in shapes: I images, C classes, B draws.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.means import mean_of_known

IGNORED = 255
"""The label of a pixel that does not count; as a prediction it is no class, and so never right."""


@dataclass(frozen=True)
class PixelCounts:
    """Per image and class (I, C), over the pixels whose truth is not ignored.

    Attributes:
        hits: Pixels of the class that were predicted as it.
        predicted: Pixels predicted as the class.
        true: Pixels of the class.
    """

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]


def count_pixels(
    pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], num_classes: int
) -> PixelCounts:
    """Counts the pixels of each image.

    Args:
        pairs: Per image the predicted and the true labels, (H, W) each: below C, or ``IGNORED``.
        num_classes: C, at most 255.

    Raises:
        ValueError: Two maps differ in size, or a label is neither a class nor ``IGNORED``.
    """
    rows = [_count(predicted, true, num_classes) for predicted, true in pairs]
    stacked = np.array(rows, dtype=np.int64).reshape(-1, 3, num_classes)
    return PixelCounts(stacked[:, 0], stacked[:, 1], stacked[:, 2])


def class_iou(counts: PixelCounts, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Returns each class's intersection over union in [0, 1]: (C,), or (B, C) of weights (B, I).

    NaN for a class that occurs neither in the truth nor in a prediction.

    Source: Everingham et al. 2015, section 4.1; mean over the classes that have a value as in
        cityscapesScripts evalPixelLevelSemanticLabeling.py ``getIouScoreForLabel``.
    """
    hits, predicted, true = (
        _over_images(x, weights) for x in (counts.hits, counts.predicted, counts.true)
    )
    union = predicted + true - hits
    with np.errstate(invalid="ignore"):
        iou: NDArray[np.float64] = np.where(union > 0, hits / union, np.nan)
    return iou


def mean_iou(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean over the classes (..., C) that have a value; NaN where none has.

    >>> float(mean_iou(np.array([0.5, np.nan, 1.0])))
    0.75
    """
    return mean_of_known(iou)


def pixel_accuracy(
    counts: PixelCounts, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Returns the share of the pixels, in [0, 1], that are right: (), or (B,) of weights (B, I)."""
    right = _over_images(counts.hits, weights).sum(axis=-1)
    total = _over_images(counts.true, weights).sum(axis=-1)
    share: NDArray[np.float64] = np.where(total > 0, right / np.maximum(total, 1.0), np.nan)
    return share


def _count(
    predicted: NDArray[np.uint8], true: NDArray[np.uint8], num_classes: int
) -> NDArray[np.int64]:
    """Returns the (3, C) counts of one image."""
    if predicted.shape != true.shape:
        raise ValueError(f"the prediction is {predicted.shape}, the truth {true.shape}")
    counted = true != IGNORED
    predicted, true = predicted[counted], true[counted]
    predicted_counts = np.bincount(predicted, minlength=IGNORED + 1)
    true_counts = np.bincount(true, minlength=IGNORED + 1)
    strange = np.flatnonzero((predicted_counts + true_counts)[num_classes:IGNORED])
    if len(strange):
        raise ValueError(f"label {num_classes + strange[0]}, and there are {num_classes} classes")
    hits = np.bincount(true[predicted == true], minlength=IGNORED + 1)
    return np.stack([hits, predicted_counts, true_counts])[:, :num_classes]


def _over_images(
    counts: NDArray[np.int64], weights: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    # Sums of pixels stay below 2**53, where floats are exact, and only floats multiply fast.
    values = counts.astype(np.float64)
    total: NDArray[np.float64] = (
        values.sum(axis=0) if weights is None else weights.astype(np.float64) @ values
    )
    return total

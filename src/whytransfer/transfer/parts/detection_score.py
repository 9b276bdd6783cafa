"""What do these detections score? AP by the rules of VOC and of COCO, with intervals."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.core.streams import Stream
from whytransfer.data.predictions import read_detections, read_truth
from whytransfer.ops.average_precision import (
    Matches,
    average_precision,
    coco_matches,
    summary,
    voc_matches,
)
from whytransfer.ops.average_precision import Metric as Rule
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.resampling import image_weights
from whytransfer.transfer.parts.metric import percent
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def score_folder(folder: Path, *, voc_rule: Rule, num_draws: int) -> tuple[Metric, ...]:
    """Scores a folder's prediction file against its truth file; see :func:`score_detections`.

    Raises:
        InputError: A file is missing, not readable, or does not belong to the other.
    """
    truth = read_truth(folder / TRUTH)
    detections = read_detections(folder / PREDICTIONS, truth)
    return score_detections(detections, truth, voc_rule=voc_rule, num_draws=num_draws)


def score_detections(
    detections: Detections, truth: Truth, *, voc_rule: Rule, num_draws: int
) -> tuple[Metric, ...]:
    """Returns AP, AP50, AP75 (VOC rules), the same as coco_AP ... (COCO rules), and AP[class].

    All in percent, with a 95 % interval over resampled images of this one, fixed model. A class
    without any countable object has no value; it is left out of the means.

    Args:
        detections: What was found.
        truth: What is there.
        voc_rule: ``voc07`` for a test set of 2007, ``voc12`` for the later ones.
        num_draws: Resamplings of the images.
    """
    num_images = len(truth.images)
    weights = image_weights(Stream(0, "bootstrap"), num_images, num_draws)
    voc, voc_draws = _precision(voc_matches(detections, truth), weights, voc_rule)
    coco, coco_draws = _precision(coco_matches(detections, truth), weights, "coco101")
    values = {
        **_prefixed("", summary(voc), summary(voc_draws)),
        **_prefixed("coco_", summary(coco), summary(coco_draws)),
    }
    for label, name in enumerate(truth.classes):
        own = 100.0 * voc[label].mean(), 100.0 * voc_draws[:, label].mean(axis=-1)
        values[f"AP[{name}]"] = own
    return tuple(
        percent(name, float(value), draws, num_images) for name, (value, draws) in values.items()
    )


def _precision(
    matches: Matches, weights: NDArray[np.int64], rule: Rule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns AP of the images as they are (C, T), and of every draw (B, C, T)."""
    return (
        average_precision(matches, metric=rule),
        average_precision(matches, weights, metric=rule),
    )


def _prefixed(
    prefix: str, values: dict[str, NDArray[np.float64]], draws: dict[str, NDArray[np.float64]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return {prefix + name: (value, draws[name]) for name, value in values.items()}

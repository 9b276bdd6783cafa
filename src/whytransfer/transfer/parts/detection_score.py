"""What do these detections score? AP by the rules of VOC and of COCO."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.predictions import read_detections, read_truth
from whytransfer.ops.average_precision import (
    Metric,
    average_precision,
    coco_matches,
    summary,
    voc_matches,
)
from whytransfer.ops.detections import Detections, Truth
from whytransfer.transfer.measure import Measure, Values
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def measure_folder(folder: Path, voc_rule: Metric) -> Measure:
    """Measures a folder's prediction file against its truth file.

    Raises:
        InputError: A file is missing, not readable, or does not belong to the other.
    """
    truth = read_truth(folder / TRUTH)
    return measure_detections(read_detections(folder / PREDICTIONS, truth), truth, voc_rule)


def measure_detections(detections: Detections, truth: Truth, voc_rule: Metric) -> Measure:
    """Measures AP, AP50, AP75 (VOC rules), the same as coco_AP ... (COCO rules), and AP[class].

    All in percent. A class without any countable object has no value (NaN); it is left out of the
    means.

    Args:
        detections: What was found.
        truth: What is there.
        voc_rule: ``voc07`` for a test set of 2007, ``voc12`` for the later ones.
    """
    by_voc, by_coco = voc_matches(detections, truth), coco_matches(detections, truth)

    def at(weights: NDArray[np.int64] | None) -> Values:
        voc = average_precision(by_voc, weights, metric=voc_rule)
        coco = summary(average_precision(by_coco, weights, metric="coco101"))
        own = 100.0 * voc.mean(axis=-1)
        return {
            **summary(voc),
            **{f"coco_{name}": value for name, value in coco.items()},
            **{f"AP[{name}]": own[..., label] for label, name in enumerate(truth.classes)},
        }

    return Measure(len(truth.images), at)

"""What do these label maps score? Mean IoU, each class's, and the share of right pixels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.label_map_pairs import read_pixel_counts
from whytransfer.ops.mean_iou import class_iou, mean_iou, pixel_accuracy
from whytransfer.transfer.measure import Measure, Values
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def measure_folder(folder: Path) -> Measure:
    """Measures a folder's label maps against the true ones, image by image.

    Raises:
        InputError: As :func:`read_pixel_counts`.
    """
    truth, counts = read_pixel_counts(folder / PREDICTIONS, folder / TRUTH)

    def at(weights: NDArray[np.int64] | None) -> Values:
        own = class_iou(counts, weights)
        return {
            "mIoU": 100.0 * mean_iou(own),
            "pixel_accuracy": 100.0 * pixel_accuracy(counts, weights),
            **{f"IoU[{c}]": 100.0 * own[..., label] for label, c in enumerate(truth.classes)},
        }

    return Measure(len(truth.names), at)

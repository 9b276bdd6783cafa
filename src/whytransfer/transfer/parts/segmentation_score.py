"""What do these label maps score? Mean IoU, each class's, and the share of right pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.predictions import LabelMaps, read_label_maps
from whytransfer.ops.mean_iou import class_iou, count_pixels, mean_iou, pixel_accuracy
from whytransfer.transfer.measure import Measure, Values
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def measure_folder(folder: Path) -> Measure:
    """Measures a folder's label maps against the true ones, image by image.

    Raises:
        InputError: A file is missing or not readable, an image has no prediction, or one of
            another size or of unknown classes, or a predicted image is not in the truth.
    """
    truth = read_label_maps(folder / TRUTH)
    predictions = read_label_maps(folder / PREDICTIONS)
    if predictions.classes != truth.classes:
        raise InputError(
            folder / PREDICTIONS, f"has the classes {', '.join(predictions.classes)}",
            f"those of the truth: {', '.join(truth.classes)}", "give the file that belongs to it",
        )  # fmt: skip
    counts = count_pixels(_pairs(predictions, truth), len(truth.classes))

    def at(weights: NDArray[np.int64] | None) -> Values:
        own = class_iou(counts, weights)
        return {
            "mIoU": 100.0 * mean_iou(own),
            "pixel_accuracy": 100.0 * pixel_accuracy(counts, weights),
            **{f"IoU[{c}]": 100.0 * own[..., label] for label, c in enumerate(truth.classes)},
        }

    return Measure(len(truth.names), at)


def _pairs(
    predictions: LabelMaps, truth: LabelMaps
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yields each image's predicted and true labels, in the order of the truth."""
    number_of = {name: number for number, name in enumerate(predictions.names)}
    strange = sorted(set(number_of) - set(truth.names))
    if strange:
        raise InputError(
            predictions.path, f"the image {strange[0]!r} is not in the truth",
            "a label map for every image of the truth and no other", "predict again",
        )  # fmt: skip
    for number, name in enumerate(truth.names):
        if name not in number_of:
            raise InputError(
                predictions.path, f"the image {name!r} has no prediction",
                "a label map for every image of the truth", "predict again",
            )  # fmt: skip
        predicted, true = predictions.read(number_of[name]), truth.read(number)
        if predicted.shape != true.shape:
            raise InputError(
                predictions.files[number_of[name]], f"is {predicted.shape}, the truth {true.shape}",
                "labels at the image's own size", "predict again",
            )  # fmt: skip
        yield predicted, true

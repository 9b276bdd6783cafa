"""Predicted label maps and the true ones, held against each other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.predictions import LabelMaps, read_label_maps
from whytransfer.ops.mean_iou import PixelCounts, count_pixels


def read_pixel_counts(predictions: Path, truth: Path) -> tuple[LabelMaps, PixelCounts]:
    """Returns the true maps, and what of their pixels was predicted as what, image by image.

    Args:
        predictions: The list of predicted maps, as ``write_label_maps`` writes it.
        truth: That of the true ones.

    Raises:
        InputError: A file is missing or not readable, an image has no prediction, or one of
            another size or of unknown classes, or a predicted image is not in the truth.
    """
    true, predicted = read_label_maps(truth), read_label_maps(predictions)
    if predicted.classes != true.classes:
        raise InputError(
            predictions, f"has the classes {', '.join(predicted.classes)}",
            f"those of the truth: {', '.join(true.classes)}", "give the file that belongs to it",
        )  # fmt: skip
    return true, count_pixels(_pairs(predicted, true), len(true.classes))


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

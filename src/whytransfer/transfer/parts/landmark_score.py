"""What do these landmarks score? Inter-ocular error, failure rate, and every landmark's error."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.landmark_files import read_errors
from whytransfer.ops.landmark_error import failures
from whytransfer.transfer.measure import Measure, Values
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def measure_folder(folder: Path, eyes: tuple[int, int], failure_percent: float) -> Measure:
    """Measures a folder's predicted landmarks against the true ones, in percent; low is good.

    ``inter_ocular_error`` is the mean over points, then over images; ``failure_rate`` the share of
    the images whose error is above ``failure_percent``; ``error[...]`` is one landmark's.

    Args:
        folder: With both files.
        eyes: Which landmarks are the eyes; errors are in percent of the distance between them.
        failure_percent: Above which error an image counts as a failure.

    Raises:
        InputError: As :func:`read_errors`.
    """
    truth, errors = read_errors(folder / PREDICTIONS, folder / TRUTH, eyes)
    columns = {
        "inter_ocular_error": errors.mean(axis=1),
        "failure_rate": 100.0 * failures(errors, failure_percent),
        **{f"error[{name}]": errors[:, at] for at, name in enumerate(truth.landmarks)},
    }
    num_images = len(truth.images)

    def at(weights: NDArray[np.int64] | None) -> Values:
        counts = np.ones(num_images) if weights is None else weights.astype(np.float64)
        return {name: counts @ values / num_images for name, values in columns.items()}

    return Measure(num_images, at, lower_is_better=frozenset(columns))

"""How far are predicted landmarks from the true ones, measured in distances between the eyes?

The error of a point is its distance from the true one, divided by the distance between the two true
eyes of the same image. An image's error is the mean over its points, a score the mean over images.
A moved, turned or scaled image has the same errors, so they can be taken in any view of it.

Letters in shapes: I images, L landmarks.

Source: DVE model/metric.py ``inter_ocular_error``; imm scripts/test.py.
"""

import numpy as np
from numpy.typing import NDArray


def eye_distances(true: NDArray[np.float64], eyes: tuple[int, int]) -> NDArray[np.float64]:
    """Returns the distance (I,) between two of the landmarks (I, L, 2)."""
    apart: NDArray[np.float64] = np.linalg.norm(true[:, eyes[0]] - true[:, eyes[1]], axis=1)
    return apart


def point_errors(
    predicted: NDArray[np.float64], true: NDArray[np.float64], eyes: tuple[int, int] = (0, 1)
) -> NDArray[np.float64]:
    """Returns the error (I, L) of every point, in distances between the eyes.

    >>> true = np.array([[[0.0, 0.0], [10.0, 0.0], [5.0, 5.0]]])
    >>> point_errors(true + [3.0, 4.0], true).tolist()
    [[0.5, 0.5, 0.5]]

    Args:
        predicted: (I, L, 2) as (x, y), in whatever unit.
        true: (I, L, 2) in the same unit.
        eyes: Which landmarks are the eyes.

    Raises:
        ValueError: The shapes differ, a number is not finite, or both eyes are at one place.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"the prediction is {predicted.shape}, the truth {true.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("a coordinate is not finite")
    apart = eye_distances(true, eyes)
    if not apart.all():
        raise ValueError(f"both eyes of image {int(np.argmin(apart))} are at one place")
    errors: NDArray[np.float64] = np.linalg.norm(predicted - true, axis=2) / apart[:, None]
    return errors


def failures(errors: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Says of each image whether the mean of its points' errors (I, L) is above a threshold."""
    failed: NDArray[np.bool_] = errors.mean(axis=1) > threshold
    return failed

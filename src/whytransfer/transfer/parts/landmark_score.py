"""What do these landmarks score? Inter-ocular error, failure rate, and every landmark's error."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.landmark_files import Landmarks, read_landmarks
from whytransfer.ops.landmark_error import eye_distances, failures, point_errors
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
        InputError: A file is missing or malformed, the two have other landmarks or images, or an
            image has both eyes at one place.
    """
    truth, predictions = (read_landmarks(folder / name) for name in (TRUTH, PREDICTIONS))
    if predictions.landmarks != truth.landmarks:
        raise InputError(
            folder / PREDICTIONS, f"has the landmarks {', '.join(predictions.landmarks)}",
            f"those of the truth: {', '.join(truth.landmarks)}",
            "give the file that belongs to it",
        )  # fmt: skip
    require_eyes(truth, eyes, str(folder / TRUTH))
    errors = 100.0 * point_errors(_matched(predictions, truth, folder), truth.points_xy, eyes)
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


def require_eyes(truth: Landmarks, eyes: tuple[int, int], where: str) -> None:
    """Checks that errors can be measured by the distance between the eyes.

    Raises:
        InputError: There is no image, no such landmark, or an image has both eyes at one place.
    """
    if not truth.images:
        raise InputError(where, "holds no image", "the landmarks of at least one")
    if max(eyes) >= len(truth.landmarks):
        raise InputError(
            "eyes", f"are the landmarks {eyes[0]} and {eyes[1]}; {where} has "
            f"{len(truth.landmarks)}", "numbers of two of them, from 0", "set eyes to the two eyes",
        )  # fmt: skip
    apart = eye_distances(truth.points_xy, eyes)
    if not apart.all():
        at = int(np.flatnonzero(apart == 0)[0])
        raise InputError(
            where, f"{truth.images[at]} has both eyes at {truth.points_xy[at, eyes[0]].tolist()}",
            "two places: errors are measured by the distance between them",
            "correct the landmarks, or leave the image out",
        )  # fmt: skip


def _matched(predictions: Landmarks, truth: Landmarks, folder: Path) -> NDArray[np.float64]:
    """Returns the predicted points in the order of the truth's images."""
    place = {name: number for number, name in enumerate(predictions.images)}
    missing = [name for name in truth.images if name not in place]
    strange = set(place) - set(truth.images)
    if missing or strange:
        found = (
            f"the image {missing[0]!r} has no prediction"
            if missing
            else f"the image {min(strange)!r} is not in the truth"
        )
        raise InputError(
            folder / PREDICTIONS, found, "points for every image of the truth and no other",
            "predict again",
        )  # fmt: skip
    return predictions.points_xy[[place[name] for name in truth.images]]

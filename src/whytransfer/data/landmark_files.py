"""Landmarks as files, predicted and true ones alike, so that a score needs no model.

A row is an image with its points, in the order of the list ``landmarks``, in continuous 0-based
pixels of the image as it is stored: the first pixel's centre is (0.5, 0.5).

    {"kind": "landmarks", "version": 1, "landmarks": ["left_eye", "right_eye", ...], "rows": [
    {"image": "000001.jpg", "points_xy": [[69.5, 109.5], [106.5, 113.5], ...]}]}
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.row_files import names_of, read_content, rows_of, text_of, write_rows
from whytransfer.ops.landmark_error import eye_distances, point_errors

_KIND = "landmarks"


@dataclass(frozen=True)
class Landmarks:
    """The points of some images.

    Attributes:
        images: (N,) image names.
        landmarks: (L,) names of the points.
        points_xy: (N, L, 2) float64.
    """

    images: tuple[str, ...]
    landmarks: tuple[str, ...]
    points_xy: NDArray[np.float64]


def write_landmarks(path: Path, found: Landmarks) -> None:
    """Writes points, one image per line; :func:`read_landmarks` gives the same bits again.

    Raises:
        InputError: A coordinate is not finite.
    """
    strange = np.flatnonzero(~np.isfinite(found.points_xy).all(axis=(1, 2)))
    if len(strange):
        first = int(strange[0])
        raise InputError(
            path, f"{len(strange)} of {len(found.images)} images have points that are not finite, "
            f"{found.images[first]} the first of them: {found.points_xy[first].tolist()}",
            "finite numbers", "the model diverged: lower its learning rate",
        )  # fmt: skip
    rows = (
        {"image": image, "points_xy": points}
        for image, points in zip(found.images, found.points_xy.tolist(), strict=True)
    )
    write_rows(path, _KIND, {"landmarks": list(found.landmarks)}, {"rows": rows})


def read_landmarks(path: Path) -> Landmarks:
    """Reads what :func:`write_landmarks` wrote, or anybody's points in that form.

    Raises:
        InputError: The file is missing or malformed, an image stands twice, has another number of
            points than the list names, or a coordinate is not finite.
    """
    content = read_content(path, _KIND)
    landmarks = names_of(path, content, "landmarks")
    images: list[str] = []
    points = []
    for row, where in rows_of(path, content, "rows"):
        images.append(text_of(row, "image", where))
        points.append(_points(row.get("points_xy"), len(landmarks), where))
    _refuse_repeated(path, images)
    stacked = np.array(points, dtype=np.float64).reshape(-1, len(landmarks), 2)
    return Landmarks(tuple(images), landmarks, stacked)


def read_errors(
    predictions: Path, truth: Path, eyes: tuple[int, int]
) -> tuple[Landmarks, NDArray[np.float64]]:
    """Returns the true landmarks, and how far from each the predicted one is.

    Args:
        predictions: A file that :func:`write_landmarks` wrote.
        truth: That of the true ones.
        eyes: Which landmarks are the eyes.

    Returns:
        The truth, and (I, L) errors in percent of the distance between the eyes.

    Raises:
        InputError: A file is missing or malformed, the two have other landmarks or images, or an
            image has both eyes at one place.
    """
    true, predicted = read_landmarks(truth), read_landmarks(predictions)
    if predicted.landmarks != true.landmarks:
        raise InputError(
            predictions, f"has the landmarks {', '.join(predicted.landmarks)}",
            f"those of the truth: {', '.join(true.landmarks)}",
            "give the file that belongs to it",
        )  # fmt: skip
    require_eyes(true, eyes, str(truth))
    points_xy = _matched(predicted, true, predictions)
    return true, 100.0 * point_errors(points_xy, true.points_xy, eyes)


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


def _matched(predictions: Landmarks, truth: Landmarks, path: Path) -> NDArray[np.float64]:
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
            path, found, "points for every image of the truth and no other",
            "predict again",
        )  # fmt: skip
    return predictions.points_xy[[place[name] for name in truth.images]]


def _points(value: object, count: int, where: str) -> NDArray[np.float64]:
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != (count, 2) or not np.isfinite(found).all():
        raise InputError(
            where, f"points_xy is {str(value)[:80]}", f"{count} pairs of finite numbers",
            "correct the file",
        )  # fmt: skip
    return found


def _refuse_repeated(path: Path, images: Sequence[str]) -> None:
    twice = [name for name, count in Counter(images).items() if count > 1]
    if twice:
        raise InputError(path, f"the image {twice[0]!r} stands twice", "every image once")

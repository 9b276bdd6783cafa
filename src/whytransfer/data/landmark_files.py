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
    strange = np.asarray(~np.isfinite(found.points_xy).all(axis=(1, 2)))
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        raise InputError(
            path, f"{int(strange.sum())} of {len(strange)} images have points that are not finite, "
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

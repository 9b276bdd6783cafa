"""A finding's pictures, embedded once each, with their boxes and the tags to filter them by."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whytransfer.core.errors import InputError
from whytransfer.core.records import Box, Picture
from whytransfer.report.content import FindingResult

ROLES = {
    "truth": "annotated object",
    "detection": "detection counted as right",
    "wrong": "detection counted as wrong",
}
_LONGEST_PX = 640
_LARGEST_PLAIN = 4_000_000
"""Pixels of a picture without boxes, such as a sheet of many: 8 rows of 7 at 224 px are 3 million.
Of a larger one every side shrinks alike."""

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Tag:
    """A way to filter: its name, and its values in the order of their first appearance."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of one finding.

    Attributes:
        images: Id → data address of every distinct picture file.
        pictures: Each picture with the id of its file.
        roles: Box role → what it means, for the roles that occur.
    """

    id: str
    images: dict[str, str]
    pictures: tuple[tuple[Picture, str], ...]
    tags: tuple[Tag, ...]
    roles: dict[str, str]


def gallery_of(result: FindingResult, gallery_id: str) -> Gallery | None:
    """Collects and embeds the pictures of a finding; ``None`` where it has none.

    Raises:
        InputError: A picture file is missing or no image; names it.
    """
    pictures = result.finding.pictures
    if not pictures:
        return None
    files = list(dict.fromkeys(picture.file for picture in pictures))
    ids = {file: f"{gallery_id}-picture-{i}" for i, file in enumerate(files, start=1)}
    boxed = {picture.file for picture in pictures if picture.boxes}
    images = {ids[file]: _data_address(result.folder / file, file in boxed) for file in files}
    roles = dict.fromkeys(box.role for picture in pictures for box in picture.boxes)
    return Gallery(
        gallery_id,
        images,
        tuple((picture, ids[picture.file]) for picture in pictures),
        _tags(pictures),
        {role: ROLES.get(role, role) for role in roles},
    )


def role_class(box: Box) -> str:
    """Returns the style of a box: its role where the page knows it, else ``other``."""
    return box.role if box.role in ROLES else "other"


def is_sheet(picture: Picture) -> bool:
    """Whether a picture is one to read at its own size: large, and without boxes."""
    return not picture.boxes and max(picture.width, picture.height) > _LONGEST_PX


def _tags(pictures: Sequence[Picture]) -> tuple[Tag, ...]:
    """Returns the tags with something to choose between."""
    names = dict.fromkeys(name for picture in pictures for name in picture.tags)
    tags = [
        Tag(name, tuple(dict.fromkeys(p.tags[name] for p in pictures if name in p.tags)))
        for name in names
    ]
    return tuple(tag for tag in tags if len(tag.values) > 1)


def _data_address(path: Path, boxed: bool) -> str:
    """Reads an image and returns it as an embedded JPEG.

    A photograph under boxes has at most 640 px on its long side. Boxes are in stored pixels, so an
    EXIF rotation is left out here and thereby in the browser.
    """
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    raw = np.frombuffer(path.read_bytes() if path.is_file() else b"", dtype=np.uint8)
    image = cv2.imdecode(raw, flags) if raw.size else None
    if image is None:
        raise InputError(
            path, "missing, or not an image that can be read", "a picture of a finding",
            "remove the finding's folder and run the study again",
        )  # fmt: skip
    height, width = image.shape[:2]
    largest = _LONGEST_PX / max(height, width)
    scale = largest if boxed else math.sqrt(_LARGEST_PLAIN / (height * width))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # full colour resolution: the usual halving smears pictures of few pixels
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    flags_out = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, *sampling]
    _, encoded = cv2.imencode(".jpg", image, flags_out)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")

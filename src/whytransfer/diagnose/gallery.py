"""The pictures of a finding: photographs of a convenient size, and the boxes that belong on them.

Nothing is drawn into a photograph; its boxes travel beside it and the report draws them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.records import Box, Picture
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops.hoiem import CORRECT, TYPES, HoiemTypes

_LONG_SIDE_PX = 360
_LARGEST_UPSCALE = 3
_JPEG_QUALITY = 88


def test_images(data: Dataset | None) -> dict[str, Path]:
    """Returns the file of each test image by its name; of no dataset, none."""
    if data is None:
        return {}
    source = data.open("test")
    return {source.name(index): source.path(index) for index in range(len(source))}


@dataclass(frozen=True)
class Photograph:
    """A photograph as it was written: the name of its file, and its size in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Collects pictures in a folder; a photograph that several pictures show is written once.

    Attributes:
        folder: Where the JPEGs go; exists.
        files: Name of an image → its file, where it is here.
    """

    folder: Path
    files: Mapping[str, Path]
    _written: dict[int, Photograph | None] = field(default_factory=dict)

    def detections(self, run: DetectionRun, types: HoiemTypes, limit: int) -> list[Picture]:
        """Returns the surest detections of each of Hoiem's types, at most one per image and type.

        Images without a file are passed over.

        Args:
            limit: The most pictures of one type.

        Raises:
            InputError: A file is there, but is not readable as an image.
        """
        pictures = []
        for code, name in enumerate(TYPES):
            for row in _surest(run, types.counted == code, limit):
                picture = self._picture(run, types, row, name)
                if picture is not None:
                    pictures.append(picture)
        return pictures

    def _picture(self, run: DetectionRun, types: HoiemTypes, row: int, name: str) -> Picture | None:
        image = int(run.detections.image[row])
        photograph = self._photograph(run, image)
        if photograph is None:
            return None
        classes, truth = run.truth.classes, run.truth
        height, width = truth.sizes[image].tolist()
        scale = np.tile([photograph.width / width, photograph.height / height], 2)
        said = f"{classes[run.detections.label[row]]} {run.detections.score[row]:.2f}"
        what = name
        if types.confused_with[row] >= 0:
            what = f"on {classes[types.confused_with[row]]} ({name} class)"
        caption = f"{run.arm}: {said}, {what}"
        role = "detection" if types.counted[row] == CORRECT else "wrong"
        boxes = [
            _box(truth.boxes_xyxy[g] * scale, "truth", classes[truth.label[g]])
            for g in np.flatnonzero(truth.image == image)
        ]
        boxes.append(_box(run.detections.boxes_xyxy[row] * scale, role, said))
        return Picture(
            file=photograph.file,
            width=photograph.width,
            height=photograph.height,
            caption=caption,
            tags={"arm": run.arm, "type": name},
            boxes=tuple(boxes),
        )

    def _photograph(self, run: DetectionRun, image: int) -> Photograph | None:
        if image not in self._written:
            source = self.files.get(run.truth.images[image])
            target = self.folder / f"image_{image:06d}.jpg"
            self._written[image] = None if source is None else _write(source, target)
        return self._written[image]


def _surest(run: DetectionRun, chosen: NDArray[np.bool_], limit: int) -> list[int]:
    """Rows of the chosen detections, surest first, at most one per image."""
    order = np.lexsort((run.detections.image, -run.detections.score))
    order = order[chosen[order]]
    _, first = np.unique(run.detections.image[order], return_index=True)
    rows: list[int] = order[np.sort(first)[:limit]].tolist()
    return rows


def _box(box_xyxy: NDArray[np.float64], role: str, label: str) -> Box:
    left, top, right, bottom = (round(side, 1) for side in box_xyxy.tolist())
    return Box(xyxy=(left, top, right, bottom), role=role, label=label)


def _write(source: Path, target: Path) -> Photograph:
    """Writes a photograph with its long side near 360 px; small ones grow by a whole factor."""
    pixels = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError(source, "not readable as an image", "a JPEG or PNG", "check the data")
    return write_photograph(np.asarray(pixels, dtype=np.uint8), target)


def write_photograph(pixels: NDArray[np.uint8], target: Path) -> Photograph:
    """Writes (H, W, 3) BGR pixels with their long side near 360 px, as a JPEG.

    Raises:
        InputError: They can't be written.
    """
    height, width = pixels.shape[:2]
    ratio = _LONG_SIDE_PX / max(height, width)
    if ratio >= 1:
        ratio = min(int(ratio), _LARGEST_UPSCALE)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, size, interpolation=method)
    done, encoded = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise InputError(target, "can't be written as JPEG", "an 8-bit colour image")
    target.write_bytes(encoded.tobytes())
    return Photograph(target.name, size[0], size[1])

"""What an augmentation does to images, to be looked at: one row per rung, two views per image.

Also what was drawn, to be read by programs: one row per view, written as JSON lines.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.store import writing
from whytransfer.data.augmentation import MOCO_V1, Augmentation, ladder, sample_view, view_stream
from whytransfer.data.sample import Source
from whytransfer.data.views import apply_view, center_view

NUM_VIEWS = 2

_CAPTIONS = {
    "f": ("f", "flip"),
    "fr": ("fr", "+ random crop"),
    "frc": ("frc", "+ colour jitter"),
    "frcg": ("frcg", "+ greyscale"),
    "frcgb": ("frcgb", "+ blur: the whole"),
    "v1": ("MoCo v1", "grey, then jitter"),
}
_SMALLEST_PX = 96
_GAP_PX = 4
_MARGIN_PX = 176
_HEAD_PX = 28
_BACKGROUND, _INK, _FAINT = 255, (20, 20, 20), (110, 110, 110)


def contact_sheet(
    source: Source, augmentation: Augmentation, *, num_images: int = 4, seed: int = 0
) -> NDArray[np.uint8]:
    """Draws a sheet, (H, W, 3) RGB: the images as they are, then a row for each rung of the ladder.

    Every row sees the same draws, so what differs between two rows is what the lower one adds.

    Args:
        source: Its images, evenly spaced from the first to the last, are shown.
        augmentation: The top rung; the others leave parts of it out.
        num_images: How many, at most.
        seed: Of the views.

    Raises:
        InputError: There is no image, or one can't be read.
    """
    if not len(source):
        raise InputError("contact sheet", "the data have no images", "at least one")
    count = min(num_images, len(source))
    indices = np.linspace(0, len(source) - 1, count).round().astype(int).tolist()
    samples = [source[index] for index in indices]
    crop_px = augmentation.crop_px
    rows = [("as it is", "middle square"), *_CAPTIONS.values()]
    canvas = _Canvas(len(rows), count, crop_px)
    for place, sample in enumerate(samples):
        canvas.head(place, sample.name)
        canvas.tile(0, place, 0, center_view(sample.image, crop_px, crop_px))
    for row, caption in enumerate(rows):
        canvas.caption(row, *caption)
    for row, rung in enumerate(_rungs(augmentation).values(), start=1):
        for place, (index, sample) in enumerate(zip(indices, samples, strict=True)):
            for view in range(NUM_VIEWS):
                stream = view_stream(seed, 0, index, view)
                drawn = sample_view(rung, stream, *sample.image.shape[:2])
                canvas.tile(row, place, view, apply_view(sample.image, drawn, crop_px))
    return canvas.pixels


def _rungs(full: Augmentation) -> dict[str, Augmentation]:
    """Returns the ladder, and MoCo v1 with the geometry of the same augmentation."""
    geometry = {name: getattr(full, name) for name in ("crop_px", "crop_scale", "crop_ratio")}
    return {**ladder(full), "v1": MOCO_V1.model_copy(update=geometry)}


class _Canvas:
    """A white sheet with a margin for captions; small tiles are enlarged by a whole factor."""

    def __init__(self, num_rows: int, num_images: int, crop_px: int) -> None:
        self._scale = -(-_SMALLEST_PX // crop_px)
        self._tile_px = crop_px * self._scale
        height = _HEAD_PX + num_rows * (self._tile_px + _GAP_PX)
        width = _MARGIN_PX + num_images * self._image_px
        self.pixels = np.full((height, width, 3), _BACKGROUND, np.uint8)

    @property
    def _image_px(self) -> int:
        return NUM_VIEWS * (self._tile_px + _GAP_PX) + 2 * _GAP_PX

    def tile(self, row: int, image: int, view: int, pixels: NDArray[np.uint8]) -> None:
        """Puts a view in its place."""
        large = pixels.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        top = self._top(row)
        left = _MARGIN_PX + image * self._image_px + view * (self._tile_px + _GAP_PX)
        self.pixels[top : top + self._tile_px, left : left + self._tile_px] = large

    def caption(self, row: int, name: str, meaning: str) -> None:
        """Writes in the margin what a row shows."""
        middle = self._top(row) + self._tile_px // 2
        self._write(name, 8, middle - 4, _INK, 0.55)
        self._write(meaning, 8, middle + 16, _FAINT, 0.45)

    def head(self, image: int, name: str) -> None:
        """Writes above a column which image it shows, as much of the name's end as fits."""
        room = self._image_px // 8
        shown = name if len(name) <= room else "..." + name[3 - room :]
        self._write(shown, _MARGIN_PX + image * self._image_px, 19, _FAINT, 0.42)

    def _top(self, row: int) -> int:
        return _HEAD_PX + row * (self._tile_px + _GAP_PX)

    def _write(self, text: str, x: int, y: int, colour: tuple[int, int, int], size: float) -> None:
        # OpenCV's letters are ASCII; others in a file's name become question marks.
        plain = text.encode("ascii", "replace").decode()
        font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1
        cv2.putText(self.pixels, plain, (x, y), font, size, colour, thickness, cv2.LINE_AA)


def write_sheet(pixels: NDArray[np.uint8], path: Path) -> None:
    """Writes a sheet as the kind of image that the file's name says.

    Raises:
        InputError: The name is of no known kind, or the file can't be written.
    """
    try:
        done, encoded = cv2.imencode(path.suffix or "?", pixels[:, :, ::-1])
    except cv2.error:
        done = False
    if not done:
        raise InputError(path, "no kind of image has such a name", "a name that ends in .png")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())


def parameter_rows(
    source: Source, augmentation: Augmentation, *, seed: int, num_epochs: int
) -> Iterator[dict[str, Any]]:
    """Yields what a run of that seed draws: a row per epoch, image and view; reads no pixels.

    Args:
        source: The images, of which only the sizes are read.
        augmentation: How a view is made.
        seed: Of the run.
        num_epochs: How many passes over the data, from the first on.

    Raises:
        InputError: The size of an image can't be read.
    """
    for epoch in range(num_epochs):
        for index in range(len(source)):
            height, width = source.size(index)
            for view in range(NUM_VIEWS):
                drawn = sample_view(
                    augmentation, view_stream(seed, epoch, index, view), height, width
                )
                place = {"epoch": epoch, "index": index, "name": source.name(index), "view": view}
                yield {**place, **dataclasses.asdict(drawn)}


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes rows as JSON lines.

    Raises:
        InputError: The file can't be written.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

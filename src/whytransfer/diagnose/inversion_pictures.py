"""Inverted pictures as people look at them: beside the original, and all on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Picture

Image = NDArray[np.uint8]

ORIGINAL = "original"

_SMALLEST_PX = 96
_GAP_PX, _HEAD_PX = 4, 26
_WHITE, _INK = 255, (40, 40, 40)


@dataclass(frozen=True)
class Row:
    """One image: its original and what each arm's features gave.

    Attributes:
        name: Of the image.
        tiles: Heading → picture (S, S, 3), the original first, then the arms.
        said: Heading → what the caption says of the picture; of the original, nothing.
    """

    name: str
    tiles: dict[str, Image]
    said: dict[str, str]


def write_rows(folder: Path, level: str, rows: Sequence[Row]) -> list[Picture]:
    """Writes the contact sheet of a level, image by arm, then every image's row by itself.

    Args:
        folder: Where the PNGs go; exists.
        level: Whose features were inverted.
        rows: With the same headings; none gives no picture.
    """
    if not rows:
        return []
    strips = [_strip(list(row.tiles.values())) for row in rows]
    head = _head(list(rows[0].tiles), strips[0].shape[1])
    order = ", ".join(rows[0].tiles)
    sheet = np.concatenate([head, *strips])
    caption = f"Contact sheet of {level}: a row for each image; {order}"
    tags = {"level": level, "image": "contact sheet"}
    found = [_write(folder / f"sheet_{level}.png", sheet, caption, tags)]
    for number, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        said = "; ".join(f"{name} {row.said[name]}" for name in row.tiles if name in row.said)
        caption = f"{row.name} from {level}: {ORIGINAL}; {said}"
        tags = {"level": level, "image": row.name}
        path = folder / f"image_{number:04d}_{level}.png"
        found.append(_write(path, np.concatenate([head, strip]), caption, tags))
    return found


def _strip(tiles: Sequence[Image]) -> Image:
    """Sets pictures side by side; small ones grow by a whole factor."""
    scale = -(-_SMALLEST_PX // tiles[0].shape[0])
    parts = []
    for tile in tiles:
        large = tile.repeat(scale, axis=0).repeat(scale, axis=1)
        parts.append(np.pad(large, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=_WHITE))
    return np.concatenate(parts, axis=1)


def _head(names: Sequence[str], width: int) -> Image:
    """Writes a heading above each tile, as much of it as fits."""
    head = np.full((_HEAD_PX, width, 3), _WHITE, np.uint8)
    tile = width // len(names)
    for place, name in enumerate(names):
        # OpenCV's letters are ASCII; others in an arm's name become question marks.
        plain = name.encode("ascii", "replace").decode()[: tile // 8]
        at, font = (place * tile + 2, 17), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(head, plain, at, font, 0.42, _INK, 1, cv2.LINE_AA)
    return head


def _write(path: Path, pixels: Image, caption: str, tags: dict[str, str]) -> Picture:
    _, encoded = cv2.imencode(".png", pixels[:, :, ::-1])
    path.write_bytes(encoded.tobytes())
    height, width = pixels.shape[:2]
    return Picture(file=path.name, width=width, height=height, caption=caption, tags=tags)

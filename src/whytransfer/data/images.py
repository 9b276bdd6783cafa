"""Image files as arrays: whatever the name says, RGB of 8 bits, or one clear error.

The first bytes of a file decide its format, not its name, so a PNG called ``.jpg`` simply works; so
do grey, palette, CMYK and 16-bit images, and transparency is dropped. EXIF orientation is ignored:
annotations speak of the pixels as they are stored, and torchvision's ``ImageFolder``, which the
reference code trains on, ignores it as well.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core.environment import num_cores
from whytransfer.core.errors import InputError, UnreadableImage

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
"""Names that readers take for image files, compared in lower case."""

ItemT = TypeVar("ItemT")

_REMEDY = "replace or remove the file; `whytransfer data check` lists all such files"
_COLOUR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def is_image(name: str) -> bool:
    """Says whether a file's name ends as an image's does."""
    return name.lower().endswith(SUFFIXES)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decodes an image file to (H, W, 3) uint8, RGB.

    Raises:
        UnreadableImage: The file is missing, empty, truncated or no image; names it.
    """
    return decode_image(_read_bytes(path), path)


def decode_image(data: bytes | NDArray[np.uint8], where: object) -> NDArray[np.uint8]:
    """Decodes an image's bytes, wherever they were read, to (H, W, 3) uint8, RGB.

    Args:
        data: The whole encoded image.
        where: What a message names: the file, or the shard and its member.

    Raises:
        UnreadableImage: The bytes are none, cut short or no image.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    if not array.size:
        raise UnreadableImage(where, "the file is empty (0 bytes)", "an image", _REMEDY)
    image = _decode(array)
    return _decode_with_pillow(array, where) if image is None else image


def read_stored(path: Path, bits: int, channels: int, todo: str) -> NDArray[Any]:
    """Decodes a PNG of numbers as they are stored, nothing converted.

    Args:
        path: The file.
        bits: Of a value, 8 or 16.
        channels: One gives (H, W); three (H, W, 3) in OpenCV's order, the first channel last.
        todo: What a message says is to be done.

    Raises:
        InputError: The file is missing, no image, or has other bits or channels.
    """
    expected = f"a {bits}-bit PNG"
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise InputError(path, "no such file", expected, todo) from None
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise InputError(path, "can't be decoded", expected, todo)
    found = pixels.dtype.itemsize * 8, 1 if pixels.ndim == 2 else pixels.shape[2]
    if found != (bits, channels):
        raise InputError(path, f"has {_depth(*found)}", _depth(bits, channels), todo)
    return np.asarray(pixels)


def _depth(bits: int, channels: int) -> str:
    number = {1: "one", 3: "three", 4: "four"}.get(channels, str(channels))
    return f"{bits} bits and {number} channel{'s'[: channels > 1]}"


def image_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) from an image file's header, without decoding it.

    Raises:
        UnreadableImage: The file is missing, empty or no image; names it.
    """
    try:
        with path.open("rb") as file:
            return size_of(file, path)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def size_of(file: IO[bytes], where: object) -> tuple[int, int]:
    """Returns (height, width) from an image's header; ``where`` is what a message names.

    Raises:
        UnreadableImage: The file is empty or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        if not file.seek(0, os.SEEK_END):
            empty = "the file is empty (0 bytes)"
            raise UnreadableImage(where, empty, "an image", _REMEDY) from None
        raise _unreadable(where, error) from None
    return height, width


def unreadable(paths: Iterable[Path]) -> Iterator[InputError]:
    """Decodes every file and yields one error for each that can't be, in the order of the paths."""
    return failures(read_image, paths)


def failures(read: Callable[[ItemT], object], items: Iterable[ItemT]) -> Iterator[InputError]:
    """Reads every item, several at a time, and yields the errors in the order of the items."""

    def attempt(item: ItemT) -> InputError | None:
        try:
            read(item)
        except InputError as error:
            return error
        return None

    with ThreadPoolExecutor(num_cores()) as pool:
        yield from (error for error in pool.map(attempt, items) if error)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise UnreadableImage(path, f"can't be read ({os.strerror(error.errno or 0)})") from None
    return data


def _decode(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    with contextlib.suppress(cv2.error):  # raised for sizes beyond OpenCV's limit
        image = cv2.imdecode(data, _COLOUR)
        return None if image is None else np.asarray(image, dtype=np.uint8)
    return None


def _decode_with_pillow(data: NDArray[np.uint8], where: object) -> NDArray[np.uint8]:
    """Decodes what OpenCV can't; a file that is cut short is an error here, too."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except (
        UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise _unreadable(where, error) from None


def _missing(path: Path) -> UnreadableImage:
    return UnreadableImage(path, "no such file", "an image", "check the path")


def _unreadable(where: object, error: Exception) -> UnreadableImage:
    reason = re.sub(r" <_io\.\w+[^>]*>", "", str(error))
    return UnreadableImage(where, f"can't be decoded ({reason})", "a whole image", _REMEDY)

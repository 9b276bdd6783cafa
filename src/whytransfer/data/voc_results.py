"""VOC's files of results, one per class, to score what others found.

    results/comp4_det_test_dog.txt:
    000004 0.702732 89 112 516 466
    000006 0.870849 373 168 488 229

A line is image, score, and the box's corners in pixels counted from 1, the last one included, so
(x1, y1, x2, y2) becomes (x1 - 1, y1 - 1, x2, y2) in continuous 0-based pixels. Every class has its
file, an empty one where nothing was found.

Source: the VOC2007 development kit, section 6.2.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from whytransfer.core.errors import InputError, nearest
from whytransfer.ops.detections import Detections, Truth

PATTERN = "comp*_det_*.txt"
"""What the files of results are called: comp4_det_SET_CLASS.txt."""

_FORM = "image score x1 y1 x2 y2"
_SHOWN = 5


def read_voc_results(folder: Path, truth: Truth) -> Detections:
    """Reads the results of all classes against the truth they are of.

    Images of a split that joins several years (``2007/000005``) may go by their own name.

    Raises:
        InputError: There are no such files, they are not those of the truth's classes, a class has
            two, or a line is malformed, without a score, or names an image that the truth lacks.
    """
    files = _by_class(folder, truth.classes)
    images = _numbers(truth.images)
    found: list[tuple[int, int, list[float]]] = []
    for label, name in enumerate(truth.classes):
        for number, line in enumerate(_lines(files[name]), start=1):
            if words := line.split():
                image, values = _read(words, images, f"{files[name]}, line {number}")
                found.append((image, label, values))
    rows = np.array([values for _, _, values in found], dtype=np.float64).reshape(-1, 5)
    return Detections(
        image=np.array([image for image, _, _ in found], dtype=np.int64),
        label=np.array([label for _, label, _ in found], dtype=np.int64),
        score=rows[:, 0],
        boxes_xyxy=rows[:, 1:] - np.array([1.0, 1.0, 0.0, 0.0]),
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, f"can't be read as text ({error})", f"lines {_FORM}") from None


def voc_result_files(folder: Path) -> list[Path]:
    """Lists the files of results in a folder, by name."""
    return sorted(folder.glob(PATTERN))


def _by_class(folder: Path, classes: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    found = voc_result_files(folder)
    if not found:
        raise InputError(folder, "holds no VOC results", f"files named {PATTERN}", "check the path")
    for file in found:
        named = file.stem.partition("_det_")[2]
        # The set and the class are joined by what both may hold, so the longest class is meant.
        own = max((name for name in classes if named.endswith(f"_{name}")), key=len, default=None)
        if own is None:
            word = named.rpartition("_")[2]
            raise InputError(
                file, f"the class {word!r} is not in the truth", f"one of {', '.join(classes)}",
                nearest(word, classes) or "give the data that the results are of",
            )  # fmt: skip
        if own in files:
            raise InputError(
                file, f"the class {own!r} has {files[own].name}, too", "one file per class",
                "give each set of results a folder of its own",
            )  # fmt: skip
        files[own] = file
    missing = [name for name in classes if name not in files]
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise InputError(
            folder, f"has no file of {', '.join(missing[:_SHOWN])}{more}",
            f"one for each of the {len(classes)} classes",
            "add an empty file where nothing was found, or give the data that the results are of",
        )  # fmt: skip
    return files


def _numbers(images: Sequence[str]) -> dict[str, int]:
    """The number of each image by its name, and by its name alone where that is unique."""
    own: dict[str, list[int]] = {}
    for number, name in enumerate(images):
        own.setdefault(name.rpartition("/")[2], []).append(number)
    unique = {name: numbers[0] for name, numbers in own.items() if len(numbers) == 1}
    return unique | {name: number for number, name in enumerate(images)}


def _read(words: Sequence[str], images: Mapping[str, int], where: str) -> tuple[int, list[float]]:
    if len(words) != 6:
        found = f"found {len(words)} values: {' '.join(words)[:60]!r}"
        raise InputError(where, found, _FORM, "correct the file; every detection needs its score")
    name, *numbers = words
    if name not in images:
        hint = nearest(name, images) or "give the data that the results are of"
        raise InputError(where, f"the image {name!r} is not in the truth", "", hint)
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise InputError(where, f"found {' '.join(words)[:60]!r}", f"numbers: {_FORM}")
    return images[name], values

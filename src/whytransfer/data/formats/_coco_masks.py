"""What COCO's files say in ``segmentation``: polygons, or run lengths as numbers or as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.masks import Polygons, RunLengths, Shape, Size
from whytransfer.ops.masks import malformed, of_counts, plain_counts

_FEWEST_NUMBERS = 6
_FORMS = "polygons [[x, y, x, y, ...], ...] or run lengths {size, counts}"
_ADVICE = "correct the file"


def read_shape(segmentation: object, size: Size, where: str) -> Shape | None:
    """Reads an object's mask; ``None`` where it has none.

    Polygons of fewer than three points are left out. Text of run lengths is taken as it is:
    :func:`wrong_run_lengths` looks at all of them at once.

    Args:
        segmentation: The field's value.
        size: Of the image.
        where: The annotation, for the messages.

    Raises:
        InputError: It has neither form, a number is not finite, or the size is another one.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        parts = [_points(part, where) for part in segmentation]
        return Polygons(tuple(part for part in parts if 2 * len(part) >= _FEWEST_NUMBERS))
    if not isinstance(segmentation, dict):
        raise InputError(where, f"segmentation is {_short(segmentation)}", _FORMS, _ADVICE)
    return _run_lengths(segmentation, size, where)


def wrong_run_lengths(shapes: Sequence[tuple[str, RunLengths]]) -> list[InputError]:
    """Returns one problem for each text of run lengths that is not that of its size.

    Args:
        shapes: With the words that name each.
    """
    columns = of_counts([shape.text for _, shape in shapes], [shape.size for _, shape in shapes])
    return [
        InputError(
            shapes[row][0], f"counts are not run lengths: {_short(shapes[row][1].text)}",
            "those of all {} × {} pixels".format(*shapes[row][1].size), _ADVICE,
        )
        for row in np.flatnonzero(malformed(columns)).tolist()
    ]  # fmt: skip


def _points(part: object, where: str) -> NDArray[np.float64]:
    try:
        numbers = np.array(part)
    except ValueError:  # rows of unequal length
        numbers = np.array("")
    good = numbers.ndim == 1 and (numbers.dtype.kind in "iuf" or not numbers.size)
    if not good or len(numbers) % 2 or not np.isfinite(numbers.astype(np.float64)).all():
        raise InputError(
            where, f"segmentation has a polygon {_short(part)}", "x, y, x, y, ...", _ADVICE
        )
    return numbers.astype(np.float64).reshape(-1, 2)


def _run_lengths(segmentation: dict[str, Any], size: Size, where: str) -> RunLengths:
    own, counts = segmentation.get("size"), segmentation.get("counts")
    if own != list(size):
        raise InputError(
            where, f"the mask's size is {own!r}", f"the image's, {list(size)}", _ADVICE
        )
    if isinstance(counts, str) and counts.isascii():
        return RunLengths(size, counts.encode())
    runs = counts if isinstance(counts, list) else []
    if not all(type(n) is int and n >= 0 for n in runs) or sum(runs) != size[0] * size[1]:
        raise InputError(
            where, f"counts are {_short(counts)}",
            "run lengths of all {} × {} pixels, as numbers or as text".format(*size), _ADVICE,
        )  # fmt: skip
    return RunLengths(size, plain_counts(runs, *size))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Masks in files of predictions and truth: in a row's ``mask``, in COCO's own form as text.

    {"image": "000001", ..., "mask": {"size": [375, 500], "counts": "PPYo0..."}}

Either every row of a file has one or none has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.ops.masks import Masks, malformed, of_counts

_FORM = 'run lengths {"size": [height, width], "counts": "..."}'
_ADVICE = "correct the file"


def mask_fields(masks: Masks | None, count: int, key: str = "mask") -> list[dict[str, Any]]:
    """Returns what each of ``count`` rows says of its mask; nothing where there are none."""
    if masks is None:
        return [{} for _ in range(count)]
    rows = masks.coco()
    return [{key: {**row, "counts": row["counts"].decode("ascii")}} for row in rows]


def read_masks(
    rows: Sequence[tuple[Mapping[str, Any], str]], sizes: NDArray[np.int64], key: str = "mask"
) -> Masks | None:
    """Reads the masks of some rows; ``None`` where no row has one.

    Args:
        rows: With the words that name each in a message.
        sizes: (N, 2) height and width of each row's image.
        key: The field.

    Raises:
        InputError: Some rows have a mask and some have none, or one is not of its image's pixels.
    """
    has = [row.get(key) is not None for row, _ in rows]
    if not any(has):
        return None
    if not all(has):
        bare, other = rows[has.index(False)][1], rows[has.index(True)][1]
        raise InputError(
            bare, f"has no {key}, but {other} has one", "one in every row, or in none", _ADVICE
        )
    found = of_counts(
        [_counts(row[key], size, where) for (row, where), size in zip(rows, sizes, strict=True)],
        sizes.tolist(),
    )
    wrong = np.flatnonzero(malformed(found))
    if len(wrong):
        row, where = rows[wrong[0]]
        height, width = sizes[wrong[0]].tolist()
        text = str(row[key]["counts"])[:40]
        raise InputError(
            where, f"counts of the {key} are not run lengths: {text!r}",
            f"those of all {height} × {width} pixels", _ADVICE,
        )  # fmt: skip
    return found


def _counts(mask: Any, size: NDArray[np.int64], where: str) -> bytes:
    counts = mask.get("counts") if isinstance(mask, dict) else None
    if not isinstance(counts, str) or not counts.isascii():
        raise InputError(where, f"the mask is {str(mask)[:60]!r}", _FORM, _ADVICE)
    if mask.get("size") != size.tolist():
        raise InputError(
            where,
            f"the mask's size is {mask.get('size')!r}",
            f"the image's, {size.tolist()}",
            _ADVICE,
        )
    return counts.encode()

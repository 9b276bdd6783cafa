"""Masks as COCO's run lengths: pixels by the million in a few bytes, compared without decoding.

A mask's runs go down its columns, the first run is of zeros. COCO writes them as text: five bits
to a character, and from the fourth run on only the difference to the run before the last.

Letters in shapes: N masks, H and W rows and columns of pixels, R runs of all masks.

Source: Lin et al. 2014; pycocotools 2.0 common/maskApi.c, ``rleToString``, ``rleFrString``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.integer[Any]] | NDArray[np.bool_]

_FIRST, _LAST = 48, 48 + 63  # the characters that stand for six bits
_LONGEST = 7  # characters of a run: 35 bits hold any picture's number of pixels


@dataclass(frozen=True)
class Masks:
    """One mask per row, as compressed run lengths; indexed like an array.

    Attributes:
        sizes: (N, 2) height and width in pixels.
        counts: (N,) bytes of each mask, in an array of objects.
    """

    sizes: NDArray[np.int64]
    counts: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: Rows) -> "Masks":
        return Masks(self.sizes[rows], self.counts[rows])

    def __eq__(self, other: object) -> bool:
        """Says whether sizes and bytes are the same."""
        return (
            isinstance(other, Masks)
            and np.array_equal(self.sizes, other.sizes)
            and self.counts.tolist() == other.counts.tolist()
        )

    __hash__ = None  # type: ignore[assignment]

    def coco(self) -> list[dict[str, Any]]:
        """Returns the form that COCO's programs take."""
        rows = zip(self.sizes.tolist(), self.counts.tolist(), strict=True)
        return [{"size": size, "counts": counts} for size, counts in rows]


def of_counts(counts: Sequence[bytes], sizes: Sequence[Sequence[int]]) -> Masks:
    """Makes columns of single masks."""
    column = np.empty(len(counts), dtype=np.object_)
    column[:] = list(counts)
    return Masks(np.array(sizes, dtype=np.int64).reshape(-1, 2), column)


def joined(parts: Sequence[Masks]) -> Masks:
    """Puts masks one after the other."""
    sizes = [np.zeros((0, 2), dtype=np.int64), *(part.sizes for part in parts)]
    counts = [np.empty(0, dtype=np.object_), *(part.counts for part in parts)]
    return Masks(np.concatenate(sizes), np.concatenate(counts))


def encode(pixels: NDArray[np.bool_]) -> Masks:
    """Encodes masks (N, H, W).

    >>> encode(np.array([[[False, True], [True, True]]])).counts.tolist()
    [b'13']
    """
    from faster_coco_eval.core import mask as coco

    num_masks, height, width = pixels.shape
    if not pixels.size:
        return of_counts([b"0"] * num_masks if num_masks else [], [(height, width)] * num_masks)
    columns = np.ascontiguousarray(pixels.transpose(0, 2, 1), dtype=np.uint8)
    found = coco.encode(columns.transpose(2, 1, 0))
    return of_counts([rle["counts"] for rle in found], [(height, width)] * num_masks)


def decode(masks: Masks) -> NDArray[np.bool_]:
    """Returns the pixels of masks that have one size, (N, H, W)."""
    from faster_coco_eval.core import mask as coco

    if not len(masks):
        return np.zeros((0, 0, 0), dtype=np.bool_)
    pixels: NDArray[np.bool_] = np.asarray(coco.decode(masks.coco())).transpose(2, 0, 1) > 0
    return pixels


def polygon_counts(parts: Sequence[NDArray[np.float64]], height: int, width: int) -> bytes:
    """Returns the run lengths of the pixels that any of some polygons (K, 2) covers.

    Points are (x, y) in continuous pixels; a polygon without three points covers nothing.
    """
    from faster_coco_eval.core import mask as coco

    outlines = [part.ravel().tolist() for part in parts if len(part) > 2]
    if not outlines:
        return empty_counts(height, width)
    found: bytes = coco.merge(coco.frPyObjects(outlines, height, width))["counts"]
    return found


def plain_counts(runs: Sequence[int], height: int, width: int) -> bytes:
    """Returns the compressed form of plain run lengths."""
    from faster_coco_eval.core import mask as coco

    plain = {"size": [height, width], "counts": list(runs)}
    found: bytes = coco.frPyObjects(plain, height, width)["counts"]
    return found


def empty_counts(height: int, width: int) -> bytes:
    """Returns the run lengths of a mask without a pixel."""
    return plain_counts([height * width], height, width)


def areas(masks: Masks) -> NDArray[np.float64]:
    """Returns the number of pixels of each mask."""
    runs, owner, place = _runs(masks.counts)
    inside = place % 2 == 1
    found: NDArray[np.float64] = np.bincount(
        owner[inside], weights=runs[inside].astype(np.float64), minlength=len(masks)
    ).astype(np.float64)
    return found


def boxes_xyxy(masks: Masks) -> NDArray[np.float64]:
    """Returns the smallest box around each mask, (N, 4); that of an empty one has no area."""
    from faster_coco_eval.core import mask as coco

    boxes = np.array(coco.toBbox(masks.coco()), dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def malformed(masks: Masks) -> NDArray[np.bool_]:
    """Says of each mask whether its bytes are no run lengths of just its size; (N,)."""
    joined_bytes = np.frombuffer(b"".join(masks.counts.tolist()), dtype=np.uint8)
    lengths = np.array([len(counts) for counts in masks.counts], dtype=np.int64)
    owner = np.repeat(np.arange(len(masks)), lengths)
    wrong = (joined_bytes < _FIRST) | (joined_bytes > _LAST)
    bad = np.bincount(owner[wrong], minlength=len(masks)) > 0
    more = ((joined_bytes - _FIRST) & 0x20) > 0
    ends = np.cumsum(lengths)[lengths > 0] - 1
    bad[owner[ends[more[ends]]]] = True
    bad |= lengths == 0
    good = np.flatnonzero(~bad)
    bad[good[_too_long(masks.counts[good])]] = True
    good = np.flatnonzero(~bad)
    runs, owner, _ = _runs(masks.counts[good])
    total = np.bincount(owner, weights=runs, minlength=len(good))
    negative = np.bincount(owner[runs < 0], minlength=len(good)) > 0
    bad[good] = negative | (total != masks.sizes[good].prod(axis=1))
    return bad


def _too_long(counts: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Says of each mask whether one of its runs has too many characters to be a number; (N,)."""
    owner, _, within = _characters(counts)
    return np.bincount(owner[within >= _LONGEST], minlength=len(counts)) > 0


def _characters(
    counts: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns of every character: its mask, its six bits, its place within its run."""
    bits = np.frombuffer(b"".join(counts.tolist()), dtype=np.uint8).astype(np.int64) - _FIRST
    lengths = np.array([len(one) for one in counts], dtype=np.int64)
    owner = np.repeat(np.arange(len(counts)), lengths)
    ends = (bits & 0x20) == 0
    starts = np.ones(len(bits), dtype=np.bool_)
    starts[1:] = ends[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(bits)), 0))
    return owner, bits, np.arange(len(bits)) - first


def _runs(
    counts: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Decodes well-formed masks: the length of every run, its mask, its number in the mask."""
    owner, bits, within = _characters(counts)
    starts = np.flatnonzero(within == 0)
    if not len(starts):
        return (np.zeros(0, dtype=np.int64),) * 3
    value = np.add.reduceat((bits & 0x1F) << (5 * within), starts)
    last = np.append(starts[1:], len(bits)) - 1
    value -= np.where(bits[last] & 0x10, np.int64(1) << (5 * (within[last] + 1)), 0)
    mask = owner[starts]
    number = np.arange(len(starts)) - np.searchsorted(mask, mask)
    # Runs 1, 3, 5, ... are each the sum of the differences so far, and so are 2, 4, 6, ...
    chain = 3 * mask + np.where(number == 0, 0, 1 + number % 2)
    order = np.argsort(chain, kind="stable")
    total = value[order].cumsum()
    chained = chain[order]
    begins = np.searchsorted(chained, chained)
    runs = np.empty_like(value)
    runs[order] = total - np.where(begins > 0, total[begins - 1], 0)
    return runs, mask, number

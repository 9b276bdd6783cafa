"""COCO's file of results, to give predictions away and to score those that others made.

    [{"image_id": 42, "category_id": 18, "bbox": [x, y, width, height], "score": 0.9,
      "segmentation": {"size": [height, width], "counts": "..."}}, ...]

The ids are those of a file of annotations, the truth. Boxes alone have no ``segmentation``, masks
alone no ``bbox``; its box is then the mask's.

Source: the results format of the COCO site; pycocotools 2.0 coco.py, ``loadRes``.
Differs: a category that the truth does not have is an error; there, such results are left out.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError, nearest
from whytransfer.core.store import write_text
from whytransfer.data.formats._coco_masks import read_shape, wrong_run_lengths
from whytransfer.data.formats.coco import read_annotations
from whytransfer.data.mask_rows import mask_fields
from whytransfer.data.masks import Polygons, RunLengths, Shape, Size, columns
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import Masks, boxes_xyxy

_ADVICE = "correct the file"
_FORM = "a list of {image_id, category_id, bbox, score} or with segmentation"


@dataclass(frozen=True)
class CocoTruth:
    """A file of annotations as columns, with the ids that results name.

    Attributes:
        path: The file.
        truth: Its images, by their file names, its categories, by id, and its objects.
        image_ids: (I,) the id of each image.
        category_ids: (C,) the id of each class.
    """

    path: Path
    truth: Truth
    image_ids: tuple[Any, ...]
    category_ids: tuple[Any, ...]


def read_coco_truth(path: Path) -> CocoTruth:
    """Reads the truth as pycocotools does: boxes as they are, those without area included.

    Raises:
        InputError: The file is missing, not of COCO's form, or an annotation names an unknown
            image or category.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "COCO annotations", "check the path")
    content = read_annotations(path)
    images = content["images"]
    categories = sorted(content["categories"], key=lambda category: category["id"])
    ids = tuple(i["id"] for i in images), tuple(c["id"] for c in categories)
    sizes = [(int(image["height"]), int(image["width"])) for image in images]
    rows = [(row, _where(path, row, n)) for n, row in enumerate(content["annotations"])]
    image, label = _numbers(rows, *ids, path)
    boxes = _boxes([_numbers_of(row, "bbox", 4, where) for row, where in rows])
    own_area = [_numbers_of(row, "area", 1, w)[0] if "area" in row else math.nan for row, w in rows]
    area = np.array(own_area, dtype=np.float64)
    truth = Truth(
        images=tuple(str(row["file_name"]) for row in images),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        classes=tuple(str(row["name"]) for row in categories),
        image=image,
        label=label,
        boxes_xyxy=boxes,
        difficult=np.zeros(len(rows), dtype=np.bool_),
        crowd=np.array([bool(row.get("iscrowd", 0)) for row, _ in rows], dtype=np.bool_),
        area=np.where(np.isnan(area), area_xyxy(boxes), area),
        masks=_masks(rows, [sizes[number] for number in image], complete=False),
    )
    return CocoTruth(path, truth, *ids)


def read_coco_results(path: Path, coco: CocoTruth) -> Detections:
    """Reads results against the truth they are of.

    Raises:
        InputError: The file is missing or not of this form, an image or a category is not in the
            truth, a score is missing or not finite, a row has neither box nor mask, or some rows
            have masks and some none.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(path, "no such file", "COCO results", "check the path") from None
    except ValueError as error:
        raise InputError(path, f"not readable as JSON ({error})", "COCO results") from None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        found = "a list" if isinstance(content, list) else "an object"
        raise InputError(path, f"holds {found} of something else", _FORM, "give the results' file")
    rows = [(row, f"{path}, row {number}") for number, row in enumerate(content)]
    image, label = _numbers(rows, coco.image_ids, coco.category_ids, coco.path)
    score = [_numbers_of(row, "score", 1, where)[0] for row, where in rows]
    sizes = [tuple(size) for size in coco.truth.sizes[image].tolist()]
    masks = _masks(rows, sizes, complete=True)
    if masks is None or any("bbox" in row for row, _ in rows):
        boxes = _boxes([_numbers_of(row, "bbox", 4, where) for row, where in rows])
    else:
        boxes = boxes_xyxy(masks)
    return Detections(image, label, np.array(score, dtype=np.float64), boxes, masks)


def write_coco_results(path: Path, detections: Detections, truth: Truth, coco: CocoTruth) -> None:
    """Writes results, one per line.

    Args:
        path: The file to write.
        detections: What was found.
        truth: Names their images and classes.
        coco: Has the ids of these names.

    Raises:
        InputError: An image or a class with detections is not in the file of annotations, or a
            number is not finite.
    """
    images = _ids(truth.images, coco.truth.images, coco.image_ids, "image", coco.path)
    classes = _ids(truth.classes, coco.truth.classes, coco.category_ids, "class", coco.path)
    boxes = detections.boxes_xyxy.copy()
    boxes[:, 2:] -= boxes[:, :2]
    if not (np.isfinite(boxes).all() and np.isfinite(detections.score).all()):
        raise InputError(path, "a box or a score is not finite", "finite numbers")
    values = zip(
        detections.image.tolist(),
        detections.label.tolist(),
        boxes.tolist(),
        detections.score.tolist(),
        mask_fields(detections.masks, len(detections), "segmentation"),
        strict=True,
    )
    lines = [
        json.dumps(
            {
                "image_id": images[image],
                "category_id": classes[label],
                "bbox": box,
                "score": score,
                **mask,
            }
        )
        for image, label, box, score, mask in values
    ]
    write_text(path, "[\n" + ",\n".join(lines) + "]\n")


def _ids(
    names: Sequence[str], known: Sequence[str], ids: Sequence[Any], what: str, path: Path
) -> list[Any]:
    found = dict(zip(known, ids, strict=True))
    for name in names:
        if name not in found:
            raise InputError(path, f"has no {what} {name!r}", "", nearest(name, known))
    return [found[name] for name in names]


def _where(path: Path, row: Mapping[str, Any], number: int) -> str:
    return f"{path}, annotation {row.get('id', f'in row {number}')}"


def _numbers(
    rows: Sequence[tuple[Mapping[str, Any], str]],
    image_ids: Sequence[Any],
    category_ids: Sequence[Any],
    path: Path,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the number of each row's image and of its class."""
    found = []
    for key, ids in (("image_id", image_ids), ("category_id", category_ids)):
        number = {value: place for place, value in enumerate(ids)}
        for row, where in rows:
            value = row.get(key)
            if not isinstance(value, int | str) or value not in number:
                expected = f"one of the {len(ids)} in {path}"
                raise InputError(where, f"{key} is {value!r}", expected, _ADVICE)
        found.append(np.array([number[row[key]] for row, _ in rows], dtype=np.int64))
    return found[0], found[1]


def _numbers_of(row: Mapping[str, Any], key: str, count: int, where: str) -> list[float]:
    if key not in row:
        raise InputError(where, f"has no {key}", "", _ADVICE)
    value = row[key]
    numbers: list[Any] = value if isinstance(value, list) else [value]
    good = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
    if not good or len(numbers) != count:
        words = "a finite number" if count == 1 else "finite numbers [x, y, width, height]"
        raise InputError(where, f"{key} is {value!r}", words, _ADVICE)
    return [float(number) for number in numbers]


def _boxes(rows: list[list[float]]) -> NDArray[np.float64]:
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _masks(
    rows: Sequence[tuple[Mapping[str, Any], str]], sizes: Sequence[Size], *, complete: bool
) -> Masks | None:
    """Reads the masks of all rows; ``None`` where no row has one.

    Args:
        rows: With the words that name each.
        sizes: Of their images.
        complete: Refuse a row without a mask where others have one; else its mask is empty.
    """
    pairs = zip(rows, sizes, strict=True)
    shapes = [read_shape(row.get("segmentation"), size, where) for (row, where), size in pairs]
    if all(shape is None for shape in shapes):
        return None
    for (_, where), shape in zip(rows, shapes, strict=True):
        if complete and shape is None:
            raise InputError(where, "has no segmentation, but others have", "one in every row")
    named = zip((where for _, where in rows), shapes, strict=True)
    problems = wrong_run_lengths([(w, s) for w, s in named if isinstance(s, RunLengths)])
    if problems:
        raise problems[0]
    whole: list[Shape] = [Polygons(()) if shape is None else shape for shape in shapes]
    return columns(zip(whole, sizes, strict=True))

"""Predictions and truth as files, so that scores and diagnoses need no model, now or years later.

Detections (``predictions.json``) are COCO-result-like rows that name what they mean: image, class,
box in continuous 0-based pixels, score. Numbers keep all their digits. Anybody's predictions in
this form can be scored and diagnosed:

    {"kind": "detections", "version": 1, "rows": [
    {"image": "000001", "class": "dog", "box_xyxy": [4.5, 10, 60, 80], "score": 0.93}]}

Where masks were found, each row has one, too; see :mod:`whytransfer.data.mask_rows`.

Label maps are grey PNGs beside a list of them; a pixel's value is the number of its class in the
list ``classes``, or 255 for none:

    {"kind": "label_maps", "version": 1, "classes": ["road", "car"], "rows": [
    {"image": "000001", "map": "predictions/000000.png"}]}
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError, nearest
from whytransfer.core.store import writing
from whytransfer.data.mask_rows import mask_fields, read_masks
from whytransfer.data.masks import columns
from whytransfer.data.row_files import finite_of as _finite
from whytransfer.data.row_files import names_of as _names
from whytransfer.data.row_files import read_content as _read
from whytransfer.data.row_files import rows_of as _rows
from whytransfer.data.row_files import text_of as _text
from whytransfer.data.row_files import write_rows as _write
from whytransfer.data.sample import IGNORED, Objects, Source
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import Masks


@dataclass(frozen=True)
class ClassPredictions:
    """What a classifier says of each image, with the truth.

    Attributes:
        names: (N,) image names.
        classes: Class names; labels index them.
        labels: (N,) int64, the true class.
        topk: (N, K) int64, the K most likely classes, the likeliest first.
        further: What other readouts of the same run say, by name; arrays as ``topk``.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    topk: NDArray[np.int64]
    further: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def correct(self, k: int = 1, readout: str | None = None) -> NDArray[np.bool_]:
        """Says of each image whether its class is among the first ``k``, of a further readout's."""
        topk = self.topk if readout is None else self.further[readout]
        found: NDArray[np.bool_] = (topk[:, :k] == self.labels[:, None]).any(axis=1)
        return found


@dataclass(frozen=True)
class LabelMaps:
    """The class of every pixel of some images, as it was predicted or as it is true.

    Attributes:
        path: The list.
        names: (N,) image names.
        classes: Class names; a pixel's value indexes them.
        files: (N,) the maps.
    """

    path: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[Path, ...]

    def read(self, number: int) -> NDArray[np.uint8]:
        """Reads one map: (H, W), values below the number of classes, or ``IGNORED``.

        Raises:
            InputError: It is missing, no grey PNG of 8 bits, or has a value that is no class.
        """
        file, expected = self.files[number], "a grey PNG of 8 bits"
        if not file.is_file():
            raise InputError(file, "no such file", expected, "check the path")
        found = cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.ndim != 2 or found.dtype != np.uint8:
            raise InputError(file, "can't be read as a label map", expected)
        labels = np.asarray(found, dtype=np.uint8)
        strange = labels[(labels >= len(self.classes)) & (labels != IGNORED)]
        if strange.size:
            raise InputError(
                file, f"has a pixel of value {strange[0]}",
                f"numbers of the {len(self.classes)} classes, or {IGNORED}", "correct the file",
            )  # fmt: skip
        return labels


def truth_of(source: Source, *, masks: bool = False) -> Truth:
    """Collects the objects of all images of a source; decodes no image.

    Args:
        source: The images.
        masks: Collect the objects' masks, too, where the source has any.

    Raises:
        InputError: The format has no objects.
    """
    found = require_objects(source)
    counts = [len(objects.labels) for objects in found]
    sizes = [source.size(index) for index in range(len(source))]
    return Truth(
        images=tuple(source.name(index) for index in range(len(source))),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        classes=source.classes,
        image=np.repeat(np.arange(len(found)), counts).astype(np.int64),
        label=_joined([o.labels for o in found], np.int64),
        boxes_xyxy=_joined([o.boxes_xyxy for o in found], np.float64).reshape(-1, 4),
        difficult=_joined([o.difficult for o in found], np.bool_),
        crowd=_joined([o.crowd for o in found], np.bool_),
        area=_joined([o.area for o in found], np.float64),
        masks=_masks(found, sizes) if masks else None,
    )


def require_objects(source: Source) -> list[Objects]:
    """Returns the objects of every image.

    Raises:
        InputError: The format has no objects.
    """
    rows = [source.objects(index) for index in range(len(source))]
    found = [objects for objects in rows if objects is not None]
    if len(found) < len(rows):
        raise InputError(
            source.path(0).parent, "the images have no boxes", "a detection dataset",
            "give data in the format voc or coco",
        )  # fmt: skip
    return found


def _masks(found: Sequence[Objects], sizes: Sequence[tuple[int, int]]) -> Masks | None:
    if all(objects.masks is None for objects in found):
        return None
    rows = zip(found, sizes, strict=True)
    return columns((shape, size) for objects, size in rows for shape in objects.masks or ())


def _joined(parts: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate([*parts, np.zeros((0, *parts[0].shape[1:]))] if parts else []).astype(
        kind
    )


def write_detections(path: Path, detections: Detections, truth: Truth) -> None:
    """Writes detections, one per line, with the names that ``truth`` gives to their numbers.

    Raises:
        InputError: A score or a box is not finite.
    """
    finite = np.isfinite(detections.score) & np.isfinite(detections.boxes_xyxy).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(
            path, f"detection {row} has score {detections.score[row]} and box "
            f"{detections.boxes_xyxy[row].tolist()}", "finite numbers",
            "the model diverged: lower its learning rate",
        )  # fmt: skip
    values = zip(
        detections.image.tolist(),
        detections.label.tolist(),
        detections.boxes_xyxy.tolist(),
        detections.score.tolist(),
        mask_fields(detections.masks, len(detections)),
        strict=True,
    )
    rows = (
        {
            "image": truth.images[image],
            "class": truth.classes[label],
            "box_xyxy": box,
            "score": score,
            **mask,
        }
        for image, label, box, score, mask in values
    )
    _write(path, "detections", {}, {"rows": rows})


def read_detections(path: Path, truth: Truth) -> Detections:
    """Reads detections against the images and classes of ``truth``.

    Raises:
        InputError: The file is missing or malformed, a score is not finite, a mask is not one of
            its image, or an image or a class is not in the truth.
    """
    content = _read(path, "detections")
    numbers = _Numbers(truth.images, truth.classes)
    image, label, boxes, score = [], [], [], []
    rows = list(_rows(path, content, "rows"))
    for row, where in rows:
        image.append(numbers.image(row, where))
        label.append(numbers.label(row, where))
        boxes.append(_finite(row, "box_xyxy", 4, where))
        score.append(_finite(row, "score", 1, where)[0])
    return Detections(
        np.array(image, dtype=np.int64),
        np.array(label, dtype=np.int64),
        np.array(score, dtype=np.float64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        read_masks(rows, truth.sizes[np.array(image, dtype=np.int64)]),
    )


def write_truth(path: Path, truth: Truth) -> None:
    """Writes images, classes and objects; :func:`read_truth` gives the same truth again."""
    images = (
        {"name": name, "height": height, "width": width}
        for name, (height, width) in zip(truth.images, truth.sizes.tolist(), strict=True)
    )
    masks = mask_fields(truth.masks, len(truth))
    objects = (
        {
            "image": truth.images[truth.image[row]],
            "class": truth.classes[truth.label[row]],
            "box_xyxy": truth.boxes_xyxy[row].tolist(),
            "difficult": bool(truth.difficult[row]),
            "crowd": bool(truth.crowd[row]),
            "area": float(truth.area[row]),
            **masks[row],
        }
        for row in range(len(truth))
    )
    _write(path, "truth", {"classes": list(truth.classes)}, {"images": images, "objects": objects})


def read_truth(path: Path) -> Truth:
    """Reads what :func:`write_truth` wrote.

    Raises:
        InputError: The file is missing or malformed, or an object names an unknown image or class.
    """
    content = _read(path, "truth")
    classes = _names(path, content, "classes")
    images, sizes = [], []
    for row, where in _rows(path, content, "images"):
        images.append(_text(row, "name", where))
        sizes.append([int(_finite(row, side, 1, where)[0]) for side in ("height", "width")])
    numbers = _Numbers(images, classes)
    rows = list(_rows(path, content, "objects"))
    boxes = [_finite(row, "box_xyxy", 4, where) for row, where in rows]
    sizes_px = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    image = np.array([numbers.image(*row) for row in rows], dtype=np.int64)
    return Truth(
        images=tuple(images),
        sizes=sizes_px,
        classes=classes,
        image=image,
        label=np.array([numbers.label(*row) for row in rows], dtype=np.int64),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        difficult=np.array([row.get("difficult", False) for row, _ in rows], dtype=np.bool_),
        crowd=np.array([row.get("crowd", False) for row, _ in rows], dtype=np.bool_),
        area=np.array([_finite(row, "area", 1, where)[0] for row, where in rows], dtype=np.float64),
        masks=read_masks(rows, sizes_px[image]),
    )


def write_classifications(path: Path, predictions: ClassPredictions) -> None:
    """Writes a classifier's predictions, one image per line, by class name."""
    classes, further = predictions.classes, predictions.further
    rows: list[dict[str, Any]] = [
        {"image": name, "class": classes[label], "top": [classes[guess] for guess in guesses]}
        for name, label, guesses in zip(
            predictions.names, predictions.labels.tolist(), predictions.topk.tolist(), strict=True
        )
    ]
    for readout, topk in further.items():
        for row, guesses in zip(rows, topk.tolist(), strict=True):
            row.setdefault("further", {})[readout] = [classes[guess] for guess in guesses]
    _write(path, "classifications", {"classes": list(classes)}, {"rows": rows})


def read_classifications(path: Path) -> ClassPredictions:
    """Reads what :func:`write_classifications` wrote.

    Raises:
        InputError: The file is missing or malformed, a class is not in its list, or the images
            have different numbers of guesses or of readouts.
    """
    content = _read(path, "classifications")
    classes = _names(path, content, "classes")
    numbers = _Numbers((), classes)
    rows = list(_rows(path, content, "rows"))
    readouts = _readouts(rows)
    return ClassPredictions(
        tuple(_text(row, "image", where) for row, where in rows),
        classes,
        np.array([numbers.label(row, where) for row, where in rows], dtype=np.int64),
        _guesses([(row.get("top"), where) for row, where in rows], numbers),
        {
            name: _guesses([(row["further"][name], where) for row, where in rows], numbers)
            for name in readouts
        },
    )


def _readouts(rows: Sequence[tuple[Mapping[str, Any], str]]) -> list[str]:
    """Names the further readouts, which every row must have."""
    names: list[str] | None = None
    for row, where in rows:
        further = row.get("further", {})
        if not isinstance(further, dict) or sorted(further) != sorted(names or further):
            expected = f"the readouts of the first row: {', '.join(names or [])}"
            raise InputError(where, f"further is {further!r}", expected)
        names = list(further) if names is None else names
    return names or []


def _guesses(rows: Sequence[tuple[Any, str]], numbers: "_Numbers") -> NDArray[np.int64]:
    """Returns the numbers of guessed classes, (N, K)."""
    topk: list[list[int]] = []
    for guesses, where in rows:
        if not isinstance(guesses, list) or (topk and len(guesses) != len(topk[0])):
            raise InputError(
                where, f"top is {guesses!r}", "as many class names as in the first row"
            )
        topk.append([numbers.label({"class": guess}, where) for guess in guesses])
    return np.array(topk, dtype=np.int64).reshape(len(rows), -1)


def write_label_maps(
    path: Path,
    names: Sequence[str],
    classes: Sequence[str],
    maps: Iterable[NDArray[np.uint8]],
) -> None:
    """Writes one PNG per image into a folder named as the list, and the list.

    Args:
        path: The list, such as ``predictions.json``; the maps lie in ``predictions/``.
        names: Of the images.
        classes: Class names.
        maps: (H, W) labels of each image, in the order of ``names``; read one at a time.
    """
    with writing(path.parent):
        (path.parent / path.stem).mkdir(exist_ok=True)
    rows = []
    for number, (name, labels) in enumerate(zip(names, maps, strict=True)):
        file = f"{path.stem}/{number:06d}.png"
        good, data = cv2.imencode(".png", labels)
        assert good
        with writing(path.parent):
            data.tofile(path.parent / file)
        rows.append({"image": name, "map": file})
    _write(path, "label_maps", {"classes": list(classes)}, {"rows": rows})


def read_label_maps(path: Path) -> LabelMaps:
    """Reads a list of label maps; each map is read when it is asked for.

    Raises:
        InputError: The list is missing or malformed, or names an image twice.
    """
    content = _read(path, "label_maps")
    classes = _names(path, content, "classes")
    rows = list(_rows(path, content, "rows"))
    names = tuple(_text(row, "image", where) for row, where in rows)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(path, f"the image {twice[0]!r} stands twice", "every image once")
    files = tuple(path.parent / _text(row, "map", where) for row, where in rows)
    return LabelMaps(path, names, classes, files)


class _Numbers:
    """Turns the names of images and classes into their numbers."""

    def __init__(self, images: Sequence[str], classes: Sequence[str]) -> None:
        self._images = {name: number for number, name in enumerate(images)}
        self._classes = {name: number for number, name in enumerate(classes)}

    def image(self, row: Mapping[str, Any], where: str) -> int:
        name = _text(row, "image", where)
        if name not in self._images:
            hint = nearest(name, self._images)
            raise InputError(where, f"the image {name!r} is not in the truth", "", hint)
        return self._images[name]

    def label(self, row: Mapping[str, Any], where: str) -> int:
        name = _text(row, "class", where)
        if name not in self._classes:
            known = f"one of {', '.join(self._classes)}"
            found = f"the class {name!r} is not in the truth"
            raise InputError(where, found, known, nearest(name, self._classes))
        return self._classes[name]

"""COCO's layout: folders of images, and one JSON file of boxes and masks per split.

The classes are the file's own ``categories`` sorted by id, so any file of this form is read, with
whatever ids it has. Images without annotations stay; a task that wants none filters them.

Masks may be polygons or run lengths, compressed or not; files of boxes alone are read, too.

Differs: objects whose box has no area, of which COCO 2017 itself has a few, are left out, as
detectron2 leaves them out of training; a check counts them. So are polygons of fewer than three
points, as there.

Source: Lin et al. 2014, and the format description of the COCO site.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whytransfer.core.errors import InputError
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._coco_masks import read_shape, wrong_run_lengths
from whytransfer.data.formats._detection import (
    TOLERANCE,
    Annotated,
    DetectionSource,
    Entry,
    duplicates,
    fit_box,
    named_files,
    unreadable,
    without_boxes,
)
from whytransfer.data.formats._leaks import shared
from whytransfer.data.masks import Polygons, RunLengths
from whytransfer.data.sample import Source, Split

_LAYOUTS: tuple[dict[str, str], ...] = (
    {
        "train_images": "train2017", "train_annotations": "annotations/instances_train2017.json",
        "test_images": "val2017", "test_annotations": "annotations/instances_val2017.json",
    },
    {
        "train_images": "train", "train_annotations": "train/_annotations.coco.json",
        "test_images": "valid", "test_annotations": "valid/_annotations.coco.json",
    },
)  # fmt: skip
_KEYS = {
    "images": {"id", "file_name", "height", "width"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}
_CORRECT = "correct the file"


class Config(FormatConfig):
    """Where images and annotations lie, all under ``root``; the defaults are COCO 2017's.

    Attributes:
        test_annotations: ``null`` where there are no test images.
    """

    train_images: str = _LAYOUTS[0]["train_images"]
    train_annotations: str = _LAYOUTS[0]["train_annotations"]
    test_images: str = _LAYOUTS[0]["test_images"]
    test_annotations: str | None = _LAYOUTS[0]["test_annotations"]

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where ``test_annotations`` is ``null``."""
        return ("train",) if self.test_annotations is None else ("train", "test")


@dataclass
class _Scan:
    """What reading one split gave."""

    file: Path
    classes: tuple[str, ...]
    entries: list[Entry]
    num_empty: int = 0
    problems: list[InputError] = field(default_factory=list)
    run_lengths: list[tuple[str, RunLengths]] = field(default_factory=list)


def open(config: Config, split: Split) -> Source:
    """Opens a split: reads and checks its JSON file, decodes no image.

    Raises:
        InputError: A file is missing or not of this form, an id is unknown, or a box is inverted
            or outside its image, or a mask is not of its image.
    """
    scan = _scan(config, split)
    refuse(scan.problems)
    return DetectionSource(config.root, scan.classes, scan.entries, [scan.file])


def check(config: Config) -> Report:
    """Reads the annotations, counts, and decodes every image."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    read: dict[Split, list[Entry]] = {}
    classes: dict[Split, tuple[str, ...]] = {}
    notes: list[str] = []
    for split in config.splits:
        try:
            scan = _scan(config, split)
        except InputError as error:
            problems.append(error)
            continue
        read[split] = scan.entries
        counts["classes"] = len(scan.classes)
        counts[f"{split} images"] = len(scan.entries)
        counts[f"{split} objects"] = sum(len(entry.objects) for entry in scan.entries)
        counts[f"{split} images without objects"] = sum(not e.objects for e in scan.entries)
        counts[f"{split} objects without area, left out"] = scan.num_empty
        shapes = [item.shape for entry in scan.entries for item in entry.objects]
        if any(shapes):
            without = sum(shape is None or shape.empty for shape in shapes)
            counts[f"{split} objects without a mask"] = without
            notes += _outlines_outside(split, scan.entries)
        problems += scan.problems
        problems += unreadable(config.root, scan.entries)
        classes[split] = scan.classes
    problems += shared(config.root, {s: named_files(config.root, e) for s, e in read.items()})
    problems += _differing(config, classes)
    problems += without_boxes(config.root, read["train"]) if "train" in read else []
    if config.test_annotations is None:
        problems += _unannotated(config)
        notes.append("no test set (test_annotations: null)")
    return Report("coco", counts, distinct(problems), tuple(notes))


def _outlines_outside(split: Split, entries: Sequence[Entry]) -> list[str]:
    """Says how many objects have outlines that leave their image by more than a box may.

    A note: only what lies inside is ever drawn, but a mask that was made for an image of another
    size, or in another order of the axes, shows so.
    """
    found = [
        entry.name
        for entry in entries
        for item in entry.objects
        if isinstance(item.shape, Polygons) and item.shape.reach(entry.size) > TOLERANCE
    ]
    if not found:
        return []
    what = f"{len(found)} {split} object{'s have' if len(found) > 1 else ' has'} an outline"
    return [f"{what} beyond the image by more than a pixel, the first one in {found[0]}"]


def _differing(config: Config, classes: Mapping[Split, tuple[str, ...]]) -> list[InputError]:
    """Returns one problem if the two splits have other classes."""
    if len(set(classes.values())) < 2:
        return []
    where = config.root / str(config.test_annotations)
    names = [", ".join(classes[split]) for split in ("test", "train")]
    expected = f"those of {config.train_annotations}: {names[1]}"
    return [InputError(where, f"has the categories {names[0]}", expected, _CORRECT)]


def _unannotated(config: Config) -> list[InputError]:
    """Returns one problem if there are test images without a file of annotations."""
    folder = config.root / config.test_images
    if not folder.is_dir():
        return []
    expected = f"their annotations, such as {_LAYOUTS[0]['test_annotations']}"
    todo = "add the file, set test_annotations to it, or move the images away"
    return [InputError(folder, "holds images without a file of annotations", expected, todo)]


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder is laid out as COCO 2017 or as Roboflow's."""
    for layout in _LAYOUTS:
        if (path / layout["train_annotations"]).is_file():
            test = layout["test_annotations"]
            has_test = (path / test).is_file()
            return {"root": str(path), **layout, "test_annotations": test if has_test else None}
    return None


def _scan(config: Config, split: Split) -> _Scan:
    """Reads one split.

    Raises:
        InputError: The file is missing or not of this form, so that nothing can be read.
    """
    annotations = getattr(config, f"{split}_annotations")
    if annotations is None:
        raise InputError(config.root, "has no test images (test_annotations: null)", "a test file")
    require_folder(config.root)
    file = config.root / annotations
    content = _load(file, config.root)
    folder = getattr(config, f"{split}_images")
    if not (config.root / folder).is_dir():
        todo = f"set {split}_images: to the folder of the images"
        raise InputError(config.root / folder, "no such folder", "the images", todo)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    classes = tuple(str(category["name"]) for category in categories)
    if len(set(classes)) < len(classes) or not classes:
        raise InputError(file, f"categories are {', '.join(classes)}", "unique names", _CORRECT)
    scan = _Scan(file, classes, [])
    objects = _objects(content, categories, scan)
    # By file name, which is by id in COCO's own: the order of a file's rows shall move nothing.
    for image in sorted(content["images"], key=lambda image: str(image["file_name"])):
        path = f"{folder}/{image['file_name']}"
        size = int(image["height"]), int(image["width"])
        found = tuple(objects[image["id"]])
        scan.entries.append(Entry(str(image["file_name"]), path, size, found))
        if not (config.root / path).is_file():
            todo = "add it, or take the image out of the file"
            found_not = f"no such file, but {file.name} lists it"
            scan.problems.append(InputError(config.root / path, found_not, "the image", todo))
    scan.problems += duplicates(scan.entries, file)
    return scan


def _objects(
    content: dict[str, list[dict[str, Any]]], categories: list[dict[str, Any]], scan: _Scan
) -> dict[Any, list[Annotated]]:
    """Groups the annotations by image id; what is wrong with single ones goes to the problems."""
    label = {category["id"]: number for number, category in enumerate(categories)}
    sizes = {i["id"]: (int(i["height"]), int(i["width"])) for i in content["images"]}
    objects: dict[Any, list[Annotated]] = {image: [] for image in sizes}
    for row, annotation in enumerate(content["annotations"]):
        where = f"{scan.file}, annotation {annotation.get('id', f'in row {row}')}"
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in sizes:
            problem = InputError(where, f"image_id {image!r} is not in images", "", _CORRECT)
            scan.problems.append(problem)
            continue
        if category not in label:
            known = f"one of {', '.join(map(str, label))}"
            found = f"category_id {category!r} is not in categories"
            scan.problems.append(InputError(where, found, known, _CORRECT))
            continue
        try:
            item = _annotated(annotation, label[category], sizes[image], where)
        except InputError as error:
            scan.problems.append(error)
            continue
        if item is None:
            scan.num_empty += 1
        else:
            objects[image].append(item)
            if isinstance(item.shape, RunLengths):
                scan.run_lengths.append((where, item.shape))
    scan.problems += wrong_run_lengths(scan.run_lengths)
    return objects


def _annotated(
    annotation: dict[str, Any], label: int, size: tuple[int, int], where: str
) -> Annotated | None:
    """Reads one object; ``None`` where its box has no area."""
    try:
        left, top, width, height = (float(value) for value in annotation["bbox"])
        area = float(annotation["area"]) if "area" in annotation else None
        if area is not None and not math.isfinite(area):
            raise ValueError
    except (TypeError, ValueError):
        found = f"bbox is {annotation['bbox']!r}, area {annotation.get('area')!r}"
        raise InputError(where, found, "bbox [x, y, width, height]", _CORRECT) from None
    if min(width, height) == 0:
        return None
    box = fit_box((left, top, left + width, top + height), size, where)
    shape = read_shape(annotation.get("segmentation"), size, where)
    return Annotated(box, label, crowd=bool(annotation.get("iscrowd", 0)), area=area, shape=shape)


def _load(file: Path, root: Path) -> dict[str, list[dict[str, Any]]]:
    if not file.is_file():
        todo = other_level(root, recognise) or "set its path in the format's fields"
        raise InputError(file, "no such file", "COCO annotations", todo)
    return read_annotations(file)


def read_annotations(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads a JSON file of annotations and checks that every row has the fields that are read.

    Raises:
        InputError: It is not of this form, or an id stands twice.
    """
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(file, f"not readable as JSON ({error})", "COCO annotations") from None
    for part, keys in _KEYS.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise InputError(file, f"holds no list {part!r}", f"the lists {', '.join(_KEYS)}")
        for number, row in enumerate(rows):
            missing = keys - set(row) if isinstance(row, dict) else keys
            where = f"{file}, {part}[{number}]"
            if missing:
                raise InputError(where, f"has no {', '.join(sorted(missing))}", "", _CORRECT)
            _require_values(row, where)
        _require_unique(f"{file}, {part}", [row["id"] for row in rows if "id" in row])
    return dict(content)


def _require_values(row: Mapping[str, Any], where: str) -> None:
    """Checks that a row's ids are names or whole numbers, and its sides whole numbers above 0."""
    for key in ("id", "image_id", "category_id"):
        if key in row and type(row[key]) not in (int, str):
            raise InputError(where, f"{key} is {row[key]!r}", "a whole number or a name", _CORRECT)
    for key in ("height", "width"):
        value = row.get(key, 1)
        if type(value) not in (int, float) or value < 1 or value != int(value):
            raise InputError(where, f"{key} is {value!r}", "a whole number of pixels", _CORRECT)


def _require_unique(where: str, ids: Sequence[Any]) -> None:
    """Checks that no id stands twice, and that all are of one kind, so that they can be sorted."""
    twice = [value for value, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(where, f"the id {twice[0]!r} stands twice", "every id once", _CORRECT)
    if len({type(value) for value in ids}) > 1:
        raise InputError(where, "some ids are numbers and some are names", "one kind", _CORRECT)

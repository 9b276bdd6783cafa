"""Images with objects: what the readers of detection formats have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.images import failures, read_image
from whytransfer.data.masks import Polygons, Shape, Shapes
from whytransfer.data.sample import Objects, Sample, Unannotated

Box = tuple[float, float, float, float]

TOLERANCE = 1.0
"""Pixels by which an annotation may leave its image: conventions of counting differ by so much."""


@dataclass(frozen=True)
class Annotated:
    """One object as read: its box in 0-based continuous pixels, class, flags, area and mask."""

    box_xyxy: Box
    label: int
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    shape: Shape | None = None


@dataclass(frozen=True)
class Entry:
    """One image as annotated: its file below the root, (height, width), and its objects."""

    name: str
    file: str
    size: tuple[int, int]
    objects: tuple[Annotated, ...]


class DetectionSource(Unannotated):
    """One split of a detection dataset; its annotations lie in a few arrays, cheap to pickle."""

    def __init__(
        self, root: Path, classes: tuple[str, ...], entries: Sequence[Entry], extra: Sequence[Path]
    ) -> None:
        self.classes = classes
        self._root = root
        self._extra = tuple(extra)
        self._names = tuple(entry.name for entry in entries)
        self._files = tuple(entry.file for entry in entries)
        self._sizes = np.array([e.size for e in entries], dtype=np.int64).reshape(-1, 2)
        counts = [len(entry.objects) for entry in entries]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._table = _columns([item for entry in entries for item in entry.objects])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.path(index))
        require_size(image, self.size(index), self.path(index))
        return Sample(image, self.name(index), objects=self.objects(index))

    def name(self, index: int) -> str:
        """Returns the image's name in its format."""
        return self._names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self._root / self._files[index]

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) as annotated."""
        height, width = self._sizes[index].tolist()
        return height, width

    def objects(self, index: int) -> Objects:
        """Returns the image's objects."""
        rows = slice(int(self._starts[index]), int(self._starts[index + 1]))
        table = self._table
        return Objects(
            table.boxes_xyxy[rows],
            table.labels[rows],
            table.difficult[rows],
            table.crowd[rows],
            table.area[rows],
            None if table.masks is None else table.masks[rows],
        )

    def files(self) -> Iterator[Path]:
        """Lists the images and the annotation files."""
        yield from self._extra
        yield from (self._root / file for file in self._files)


def _columns(objects: Sequence[Annotated]) -> Objects:
    boxes = np.array([item.box_xyxy for item in objects], dtype=np.float64).reshape(-1, 4)
    box_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    own_area = np.array([np.nan if item.area is None else item.area for item in objects])
    return Objects(
        boxes,
        np.array([item.label for item in objects], dtype=np.int64),
        np.array([item.difficult for item in objects], dtype=np.bool_),
        np.array([item.crowd for item in objects], dtype=np.bool_),
        np.where(np.isnan(own_area), box_area, own_area),
        _shapes([item.shape for item in objects]),
    )


def _shapes(shapes: Sequence[Shape | None]) -> Shapes | None:
    """Returns the masks, or ``None`` where no object has one."""
    if all(shape is None for shape in shapes):
        return None
    return Shapes([Polygons(()) if shape is None else shape for shape in shapes])


def unreadable(root: Path, entries: Sequence[Entry]) -> list[InputError]:
    """Decodes every image that is there; returns one problem for each that is not as annotated."""
    there = [entry for entry in entries if (root / entry.file).is_file()]
    return list(failures(partial(_look, root), there))


def _look(root: Path, entry: Entry) -> None:
    require_size(read_image(root / entry.file), entry.size, root / entry.file)


def require_size(image: NDArray[np.uint8], size: tuple[int, int], path: Path) -> None:
    """Checks that an image has the (height, width) of its annotation.

    Raises:
        InputError: It has not.
    """
    (height, width), (rows, columns) = size, image.shape[:2]
    if (rows, columns) != (height, width):
        raise InputError(
            path, f"is {columns}×{rows} px", f"{width}×{height} px, as its annotation says",
            "correct the annotation or put the right image there",
        )  # fmt: skip


def fit_box(box_xyxy: Box, size: tuple[int, int], where: str) -> Box:
    """Returns a box clipped to its image; up to one pixel beyond it is a matter of convention.

    Raises:
        InputError: The box is inverted or empty, or lies outside by more than a pixel.
    """
    left, top, right, bottom = box_xyxy
    height, width = size
    text = f"({left:g}, {top:g}) to ({right:g}, {bottom:g}), 0-based"
    if not (right > left and bottom > top):
        raise InputError(
            where, f"the box is inverted or empty: {text}", "its upper left corner first",
            "correct or remove the object",
        )  # fmt: skip
    inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    beyond = max(abs(a - b) for a, b in zip(box_xyxy, inside, strict=True))
    if beyond > TOLERANCE or inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(
            where, f"the box is outside the image: {text}", f"within {width}×{height} px",
            "correct the box or the image's size",
        )  # fmt: skip
    return inside


def named_files(root: Path, entries: Sequence[Entry]) -> list[tuple[str, Path]]:
    """Returns name and file of every image."""
    return [(entry.name, root / entry.file) for entry in entries]


def without_boxes(root: Path, entries: Sequence[Entry]) -> list[InputError]:
    """Returns one problem if no image of the training split shows an object."""
    if any(entry.objects for entry in entries):
        return []
    found = f"no box in any of the {len(entries)} training images"
    todo = "check the annotations, or that the folder is the right one"
    return [InputError(root, found, "images with annotated objects", todo)]


def duplicates(entries: Sequence[Entry], where: Path) -> list[InputError]:
    """Returns one problem for each image name that stands more than once."""
    seen: set[str] = set()
    problems = []
    for entry in entries:
        if entry.name in seen:
            todo = "list each image once"
            problems.append(InputError(where, f"lists {entry.name} twice", "unique images", todo))
        seen.add(entry.name)
    return problems

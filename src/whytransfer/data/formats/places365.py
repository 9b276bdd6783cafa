"""Places365 as published: folders of images beside list files that name and number them.

Read is the layout that torchvision's ``Places365`` downloads: ``data_256_standard`` and
``val_256`` (or ``large``), ``places365_train_standard.txt`` and ``places365_val.txt`` with one
"path index" per line, and ``categories_places365.txt`` with "/a/airfield 0". Training paths start
with "/". The order of the images is that of the lists, the order of the classes the index.

The site's "easy format", ``train/<class>`` and ``val/<class>``, is the format ``imagefolder``.

Source: torchvision datasets/places365.py and the README of CSAILVision/places365.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._lists import Line, absent, images_below, read_lines, repeated
from whytransfer.data.images import image_size, read_image, unreadable
from whytransfer.data.sample import Sample, Source, Split, Unannotated

CATEGORIES = "categories_places365.txt"
"""The file that numbers the classes."""

_VALIDATION = "places365_val.txt"
_SIZES = ("256", "large")
_VARIANTS = ("standard", "challenge")
_CORRECT = "correct the line"


class Config(FormatConfig):
    """Which of the published files are read.

    Attributes:
        size: ``256`` for the small images, ``large`` for those of full size.
        variant: ``standard``, or ``challenge`` with the further training images.
        test: ``val``; ``null`` where the validation images are not there.
    """

    size: Literal["256", "large"] = "256"
    variant: Literal["standard", "challenge"] = "standard"
    test: Literal["val"] | None = "val"

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where ``test`` is ``null``."""
        return ("train",) if self.test is None else ("train", "test")


@dataclass(frozen=True)
class PlacesSource(Unannotated):
    """The images of one split, in the order of its list.

    Attributes:
        folder: The folder that the list's paths start from.
        lists: The list file and the file of the classes.
        classes: As in the file of the classes, without its leading "/".
        names: Paths below ``folder``.
        labels: (N,) int64 index into ``classes``.
    """

    folder: Path
    lists: tuple[Path, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self.names[index], self.label(index))

    def name(self, index: int) -> str:
        """Returns the image's path as listed, without a leading "/"."""
        return self.names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self.folder / self.names[index]

    def label(self, index: int) -> int:
        """Returns the number of the class."""
        return int(self.labels[index])

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.path(index))

    def files(self) -> Iterator[Path]:
        """Lists the list files and the images."""
        yield from self.lists
        yield from (self.folder / name for name in self.names)


def open(config: Config, split: Split) -> Source:
    """Opens a split: reads and checks its lists, decodes no image.

    Raises:
        InputError: A file is missing or malformed, or a listed image is missing.
    """
    source, problems = _scan(config, split)
    refuse(problems)
    return source


def check(config: Config) -> Report:
    """Reads the lists, counts, and decodes every listed image that is there."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    for split in config.splits:
        try:
            source, found = _scan(config, split)
        except InputError as error:
            problems.append(error)
            continue
        counts["classes"] = len(source.classes)
        counts[f"{split} images"] = len(source)
        problems += [*found, *unreadable(p for p in map(source.path, range(len(source))))]
    return Report("places365", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder holds the lists and a folder of images."""
    if not (path / CATEGORIES).is_file():
        return None
    for variant in _VARIANTS:
        for size in _SIZES:
            fields = {"root": str(path), "size": size, "variant": variant}
            config = Config(root=path, size=size, variant=variant)
            if all(place.exists() for place in _places(config, "train")):
                has_test = all(place.exists() for place in _places(config, "test"))
                return fields | {"test": "val" if has_test else None}
    return None


def _places(config: Config, split: Split) -> tuple[Path, Path]:
    """Returns the list of a split and the folder of its images."""
    if split == "train":
        listing, folder = (
            f"places365_train_{config.variant}.txt",
            f"data_{config.size}_{config.variant}",
        )
    else:
        listing, folder = _VALIDATION, f"val_{config.size}"
    return config.root / listing, config.root / folder


def _scan(config: Config, split: Split) -> tuple[PlacesSource, list[InputError]]:
    if split not in config.splits:
        raise InputError(config.root, "has no test images (test: null)", "validation images")
    require_folder(config.root)
    listing, folder = _places(config, split)
    categories = config.root / CATEGORIES
    for place in (categories, listing, folder):
        if not place.exists():
            todo = other_level(config.root, recognise) or "set size, variant or test: null"
            raise InputError(place, "not there", "Places365 as torchvision lays it out", todo)
    classes = _classes(categories)
    lines, labels, problems = _read_list(listing, classes)
    if split == "train":
        problems += _misplaced(listing, lines, labels, classes)
    present = set(images_below(folder))
    missing = [line for line in lines if line.text not in present]
    problems += absent(listing, missing, len(lines), folder) + repeated(listing, lines)
    kept = [
        (line.text, label)
        for line, label in zip(lines, labels, strict=True)
        if line.text in present
    ]
    names = tuple(name for name, _ in kept)
    numbers = np.array([label for _, label in kept], dtype=np.int64)
    return PlacesSource(folder, (categories, listing), classes, names, numbers), problems


def _classes(categories: Path) -> tuple[str, ...]:
    """Reads the classes; their numbers must be 0, 1, ... without a gap, in any order.

    Raises:
        InputError: A line is malformed, or names or numbers are not unique.
    """
    problems: list[InputError] = []
    pairs = list(_pairs(categories, read_lines(categories, "classes"), problems))
    refuse(problems)
    names = {number: line.text for line, number in pairs}
    found = f"{len(pairs)} classes with the numbers {min(names)} to {max(names)}"
    if sorted(names) != list(range(len(pairs))) or len(set(names.values())) < len(names):
        raise InputError(
            categories, found, "each name and each number from 0 on once", "correct it"
        )
    return tuple(names[number] for number in range(len(names)))


def _read_list(
    listing: Path, classes: Sequence[str]
) -> tuple[list[Line], list[int], list[InputError]]:
    problems: list[InputError] = []
    lines, labels = [], []
    for line, label in _pairs(listing, read_lines(listing, "images"), problems):
        if not 0 <= label < len(classes):
            found = f"the class number {label} is not in {CATEGORIES}"
            where = f"{listing}, line {line.number}"
            problems.append(InputError(where, found, f"0 to {len(classes) - 1}", _CORRECT))
            continue
        lines.append(line)
        labels.append(label)
    return lines, labels, problems


def _pairs(
    listing: Path, lines: Sequence[Line], problems: list[InputError]
) -> Iterator[tuple[Line, int]]:
    """Yields the name, without a leading "/", and the number of each line that has both."""
    for line in lines:
        name, _, number = line.text.rpartition(" ")
        if name and number.isascii() and number.isdigit():
            yield Line(line.number, name.strip().lstrip("/")), int(number)
            continue
        where = f"{listing}, line {line.number}"
        problems.append(InputError(where, f"found {line.text!r}", "a name and a number", _CORRECT))


def _misplaced(
    listing: Path, lines: Sequence[Line], labels: Sequence[int], classes: Sequence[str]
) -> list[InputError]:
    """Returns one problem for each image that lies in the folder of another class."""
    problems = []
    for line, label in zip(lines, labels, strict=True):
        if not line.text.startswith(f"{classes[label]}/"):
            found = f"{line.text} is listed as class {label}, which is {classes[label]}"
            where = f"{listing}, line {line.number}"
            problems.append(InputError(where, found, "the class of its folder", _CORRECT))
    return problems

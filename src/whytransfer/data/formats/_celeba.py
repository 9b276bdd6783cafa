"""The files of CelebA as they are published, read by the formats ``celeba`` and ``mafl`` alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.images import image_size, is_image, read_image
from whytransfer.data.sample import Sample, Split, Unannotated

Layout = Literal["torchvision", "official"]

LAYOUTS: dict[str, dict[str, str]] = {
    "torchvision": {
        "aligned": "img_align_celeba",
        "wild": "img_celeba",
        "identity": "identity_CelebA.txt",
        "partition": "list_eval_partition.txt",
        "aligned landmarks": "list_landmarks_align_celeba.txt",
        "wild landmarks": "list_landmarks_celeba.txt",
    },
    "official": {
        "aligned": "Img/img_align_celeba",
        "wild": "Img/img_celeba",
        "identity": "Anno/identity_CelebA.txt",
        "partition": "Eval/list_eval_partition.txt",
        "aligned landmarks": "Anno/list_landmarks_align_celeba.txt",
        "wild landmarks": "Anno/list_landmarks_celeba.txt",
    },
}
FOLDERS = (".", "celeba", "CelebA")
"""Below a dataset's root, where the files of either layout may lie."""

POINTS = 5
"""The eyes, the nose, the corners of the mouth."""

CORRECT = "correct the file"
"""What to do about a malformed line."""

PIXEL_CENTRE = "landmarks are read as 0-based pixels, whose centres are taken"
"""Why half a pixel is added to a landmark's whole numbers."""

MAFL_LISTS: dict[Split, str] = {"train": "MAFL/training.txt", "test": "MAFL/testing.txt"}
"""MAFL's lists, below CelebA's own folder or beside it."""

NUM_IMAGES = 202_599
"""Of the whole CelebA."""


@dataclass(frozen=True)
class FaceSource(Unannotated):
    """The pictures of one partition, in the order of the partition file.

    Attributes:
        folder: Where the pictures lie.
        classes: Identities of the training partition.
        names: File names.
        labels: (N,) int64 index into ``classes``, -1 for a person who is not among them.
        points: (N, 5, 2) int32 as in the file.
        pixel_centre: What is added to them.
        lists: The files that all this was read from.
    """

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    points: NDArray[np.int32]
    pixel_centre: float
    lists: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self.names[index], self.label(index))

    def name(self, index: int) -> str:
        """Returns the file's name."""
        return self.names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self.folder / self.names[index]

    def label(self, index: int) -> int | None:
        """Returns the number of the identity, ``None`` for a person who is not in training."""
        label = int(self.labels[index])
        return None if label < 0 else label

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.path(index))

    def landmarks(self, index: int) -> NDArray[np.float64]:
        """Returns the eyes, the nose and the corners of the mouth, viewer's left first: (5, 2)."""
        return np.asarray(self.points[index] + self.pixel_centre, dtype=np.float64)

    def files(self) -> Iterator[Path]:
        """Lists the text files and the images."""
        yield from self.lists
        yield from (self.folder / name for name in self.names)


def named(source: FaceSource) -> Iterator[tuple[str, Path]]:
    """Yields name and file of every picture."""
    return ((source.name(index), source.path(index)) for index in range(len(source)))


def landmarks_outside(source: FaceSource, index: int) -> bool:
    """Says whether a landmark lies beyond its picture; one that can't be read has none."""
    try:
        height, width = source.size(index)
    except InputError:
        return False
    points = source.landmarks(index)
    return bool(((points < 0) | (points > (width, height))).any())


def bases(root: Path) -> Iterator[Path]:
    """Yields the folders in which CelebA's files may lie."""
    for folder in FOLDERS:
        yield root / folder if folder != "." else root


def mafl_list(root: Path, base: Path, split: Split) -> Path:
    """Returns MAFL's list of a split: in CelebA's own folder, else in the dataset's root."""
    inside, beside = base / MAFL_LISTS[split], root / MAFL_LISTS[split]
    return beside if beside.is_file() and not inside.is_file() else inside


def rows(
    file: Path, num_values: int, problems: list[InputError], headed: bool = False
) -> dict[str, tuple[int, ...]]:
    """Reads lines of a name and whole numbers; with a header, the count and the names come first.

    Raises:
        InputError: The file is missing or is no text.
    """
    lines = _lines(file)
    first = 2 if headed else 0
    rows: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(lines[first:], start=first + 1):
        name, *texts = line.split() or [""]
        where = f"{file}, line {number}"
        try:
            values = tuple(int(text) for text in texts)
        except ValueError:
            values = ()
        if len(values) != num_values:
            wanted = f"a file's name and {num_values} whole number{'s'[: num_values > 1]}"
            problems.append(InputError(where, f"is {line[:80]!r}", wanted, CORRECT))
        elif name in rows:
            problems.append(InputError(where, f"names {name} twice", "unique names", CORRECT))
        else:
            rows[name] = values
    if headed and (not lines or lines[0].strip() != str(len(lines) - first)):
        found = f"says {lines[0].strip()!r}" if lines else "is not there"
        wanted = f"the count of the lines that follow the names, {max(len(lines) - first, 0)}"
        problems.append(InputError(f"{file}, line 1", found, wanted, CORRECT))
    return rows


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(file, "no such file", "CelebA's list", "add it") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(file, f"can't be read ({error})", "a text file") from None
    return text.rstrip().splitlines()


def out_of_range(
    file: Path, rows: Mapping[str, Sequence[int]], low: int, high: int | None
) -> Iterator[InputError]:
    """Yields the names whose first number is outside low, ..., high."""
    for name, (value, *_) in rows.items():
        if value < low or (high is not None and value > high):
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            yield InputError(f"{file}, {name}", f"found {value}", wanted, CORRECT)


def differing(
    one_file: Path, one: Mapping[str, Any], other_file: Path, other: Mapping[str, Any]
) -> Iterator[InputError]:
    """Yields the names that stand in one file alone."""
    for here, names, there, others in (
        (one_file, one, other_file, other),
        (other_file, other, one_file, one),
    ):
        for name in names:
            if name not in others:
                todo = "add it there or take it out here"
                yield InputError(here, f"names {name}, which is not in {there.name}", "", todo)


def missing_images(folder: Path, file: Path, names: Mapping[str, Any]) -> Iterator[InputError]:
    """Yields the names of a file that are no pictures of the folder."""
    present = {path.name for path in folder.iterdir() if is_image(path.name)}
    for name in names:
        if name not in present:
            todo = "unpack the pictures again, or take the name out of all lists"
            yield InputError(folder / name, f"no such file, but {file.name} names it", "", todo)

"""CelebA: faces with identity, five landmarks and a partition, in torchvision's or its own layout.

The label is the identity, and the classes are the identities of the training partition, numbered
in the order of their numbers. CelebA's partitions share no identity, so a picture of ``test`` has
the label ``None`` unless its person is in training as well: identities of people who were never
seen can't be read out.

Landmarks stand in the files as whole pixels, counted from 0; the source gives the pixel's centre.
Identity and partition files are lines ``name value``; those of landmarks have a line with their
count and a line of names first.

Source: Liu et al., Deep Learning Face Attributes in the Wild, 2015, its archive's README;
torchvision datasets/celeba.py for the layout.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.images import image_size, is_image, read_image, unreadable
from whytransfer.data.sample import Sample, Source, Split, Unannotated

_LAYOUTS: dict[str, dict[str, str]] = {
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
_FOLDERS = (".", "celeba", "CelebA")
_POINTS = 5
_TRAIN = 0
_CORRECT = "correct the file"


class Config(FormatConfig):
    """Which files of CelebA are read.

    Attributes:
        layout: Torchvision's folder, or ``Img``, ``Anno`` and ``Eval`` of the official archive;
            either may lie in ``root`` itself or in a folder ``celeba`` or ``CelebA`` there.
        images: The aligned and cropped pictures, or those in the wild with landmarks of their own.
        test_partition: CelebA's partition that is the test split: 2 is its ``test``, 1 its ``val``.
        pixel_centre: What is added to a landmark's whole number of a pixel.
    """

    layout: Literal["torchvision", "official"] = "torchvision"
    images: Literal["aligned", "wild"] = "aligned"
    test_partition: Literal[1, 2] = 2
    pixel_centre: float = assumed(
        0.5, "landmarks are read as 0-based pixels, whose centres are taken", ge=-1, le=1
    )


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


@dataclass(frozen=True)
class _Scan:
    """The text files, read and checked: one row per picture that they all speak of."""

    folder: Path
    lists: tuple[Path, ...]
    names: tuple[str, ...]
    identities: NDArray[np.int64]
    partitions: NDArray[np.int64]
    points: NDArray[np.int32]
    problems: tuple[InputError, ...]


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image is decoded.

    Raises:
        InputError: A file or folder is missing, a line malformed, a picture unknown or named twice.
    """
    scan = _scan(config)
    refuse(scan.problems)
    return _source(config, scan, split)


def check(config: Config) -> Report:
    """Counts pictures and people, and decodes every picture."""
    try:
        scan = _scan(config)
        sources = {split: _source(config, scan, split) for split in config.splits}
    except InputError as error:
        return Report("celeba", {}, (error,))
    counts = {"identities in training": len(sources["train"].classes)}
    problems = list(scan.problems)
    for split, source in sources.items():
        counts[f"{split} images"] = len(source)
        problems += unreadable(
            path for path in map(source.path, range(len(source))) if path.is_file()
        )
    unknown = int(np.count_nonzero(sources["test"].labels < 0))
    counts["test images of people not in training"] = unknown
    counts["images of the partition left out"] = len(scan.names) - sum(map(len, sources.values()))
    return Report("celeba", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder has CelebA's lists in either layout."""
    for layout, files in _LAYOUTS.items():
        base = _base(path, layout)
        if base is not None:
            images = "aligned" if (base / files["aligned"]).is_dir() else "wild"
            return {"root": str(path), "layout": layout, "images": images}
    return None


def _base(root: Path, layout: str) -> Path | None:
    files = _LAYOUTS[layout]
    for folder in _FOLDERS:
        base = root / folder if folder != "." else root
        if (base / files["identity"]).is_file() and (base / files["partition"]).is_file():
            return base
    return None


def _source(config: Config, scan: _Scan, split: Split) -> FaceSource:
    trained = scan.partitions == _TRAIN
    people = np.unique(scan.identities[trained])
    part = _TRAIN if split == "train" else config.test_partition
    rows = np.flatnonzero(scan.partitions == part)
    if not len(rows):
        raise InputError(scan.lists[1], f"no picture of partition {part}", f"the {split} split")
    identities = scan.identities[rows]
    places = np.minimum(np.searchsorted(people, identities), max(len(people) - 1, 0))
    labels = np.where(people[places] == identities, places, -1) if len(people) else places - 1
    return FaceSource(
        scan.folder,
        tuple(str(person) for person in people.tolist()),
        tuple(scan.names[row] for row in rows),
        labels.astype(np.int64),
        scan.points[rows],
        config.pixel_centre,
        scan.lists,
    )


def _scan(config: Config) -> _Scan:
    require_folder(config.root)
    base = _base(config.root, config.layout)
    files = _LAYOUTS[config.layout]
    if base is None:
        raise InputError(
            config.root, f"holds no {files['identity']} and {files['partition']}",
            f"CelebA in {config.layout}'s layout",
            _remedy(config.root),
        )  # fmt: skip
    folder = base / files[config.images]
    if not folder.is_dir():
        raise InputError(folder, "no such folder", f"the {config.images} pictures", "unpack them")
    lists = (
        base / files["identity"],
        base / files["partition"],
        base / files[f"{config.images} landmarks"],
    )
    problems: list[InputError] = []
    identity = _rows(lists[0], 1, problems)
    partition = _rows(lists[1], 1, problems)
    points = _rows(lists[2], 2 * _POINTS, problems, headed=True)
    for file, values, low, high in ((lists[0], identity, 1, None), (lists[1], partition, 0, 2)):
        problems += _out_of_range(file, values, low, high)
    for file, rows in ((lists[0], identity), (lists[2], points)):
        problems += _differing(lists[1], partition, file, rows)
    problems += _missing_images(folder, lists[1], partition)
    names = tuple(name for name in partition if name in identity and name in points)
    return _Scan(
        folder,
        lists,
        names,
        np.array([identity[name][0] for name in names], dtype=np.int64),
        np.array([partition[name][0] for name in names], dtype=np.int64),
        np.array([points[name] for name in names], dtype=np.int32).reshape(-1, _POINTS, 2),
        tuple(problems),
    )


def _remedy(root: Path) -> str:
    here = recognise(root)
    if here is not None:
        return f"set layout: {here['layout']}"
    return other_level(root, recognise) or "set layout:, or add the files"


def _rows(
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
            problems.append(InputError(where, f"is {line[:80]!r}", wanted, _CORRECT))
        elif name in rows:
            problems.append(InputError(where, f"names {name} twice", "unique names", _CORRECT))
        else:
            rows[name] = values
    if headed and (not lines or lines[0].strip() != str(len(lines) - first)):
        found = f"says {lines[0].strip()!r}" if lines else "is not there"
        wanted = f"the count of the lines that follow the names, {max(len(lines) - first, 0)}"
        problems.append(InputError(f"{file}, line 1", found, wanted, _CORRECT))
    return rows


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(file, "no such file", "CelebA's list", "add it") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(file, f"can't be read ({error})", "a text file") from None
    return text.rstrip().splitlines()


def _out_of_range(
    file: Path, rows: Mapping[str, Sequence[int]], low: int, high: int | None
) -> Iterator[InputError]:
    for name, (value, *_) in rows.items():
        if value < low or (high is not None and value > high):
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            yield InputError(f"{file}, {name}", f"found {value}", wanted, _CORRECT)


def _differing(
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


def _missing_images(folder: Path, file: Path, names: Mapping[str, Any]) -> Iterator[InputError]:
    present = {path.name for path in folder.iterdir() if is_image(path.name)}
    for name in names:
        if name not in present:
            todo = "unpack the pictures again, or take the name out of all lists"
            yield InputError(folder / name, f"no such file, but {file.name} names it", "", todo)

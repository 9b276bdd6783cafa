"""What the three forms of mini-ImageNet have in common: one published split's images, and a source.

The images of a split lie in files of their own, or as rows of one array in a pickle. They stand in
the order of their classes and then of their names, whatever the order of a list.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.formats._safe_pickle import read_arrays
from whytransfer.data.images import image_size, read_image
from whytransfer.data.sample import Sample, Unannotated

_CORRECT = "get the file from its authors"


class Images(Protocol):
    """Images that can be read one by one."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Returns (H, W, 3) uint8, RGB."""

    def path(self, index: int) -> Path:
        """Returns the file that an image lies in."""

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width)."""

    def chosen(self, indices: NDArray[np.int64]) -> "Images":
        """Returns some of them."""


@dataclass(frozen=True)
class ImageFiles:
    """A file for each image."""

    paths: tuple[Path, ...]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decodes a file."""
        return read_image(self.paths[index])

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self.paths[index]

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.paths[index])

    def chosen(self, indices: NDArray[np.int64]) -> "ImageFiles":
        """Returns some of them."""
        return ImageFiles(tuple(self.paths[index] for index in indices.tolist()))


@dataclass(frozen=True)
class PickledImages:
    """Rows of the array in a pickle, which is read once in each process and then kept."""

    file: Path
    rows: NDArray[np.int64]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Copies a row."""
        return np.array(self._data[self.rows[index]])

    def path(self, _index: int) -> Path:
        """Returns the pickle."""
        return self.file

    def size(self, _index: int) -> tuple[int, int]:
        """Returns (height, width), the same for all."""
        height, width = self._data.shape[1:3]
        return height, width

    def chosen(self, indices: NDArray[np.int64]) -> "PickledImages":
        """Returns some of them."""
        return PickledImages(self.file, self.rows[indices])

    @property
    def _data(self) -> NDArray[np.uint8]:
        return read_pickle(self.file).data


@dataclass(frozen=True)
class Pickled:
    """What a pickle of Gidaris' form holds.

    Attributes:
        data: (N, H, W, 3) uint8, RGB.
        labels: (N,) int64, numbered through over all splits.
    """

    data: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_pickle(file: Path) -> Pickled:
    """Reads a pickle, or gives what was read of it while the file is the same.

    Raises:
        InputError: It is missing, no pickle of arrays, or not of that form.
    """
    try:
        stat = file.stat()
    except OSError:
        raise InputError(file, "no such file", "a pickle of images", "check the path") from None
    return _read_pickle(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # as many as one dataset has; each is some hundred megabytes
def _read_pickle(file: Path, _size: int, _changed: int) -> Pickled:
    content = read_arrays(file)
    if not isinstance(content, dict) or not {"data", "labels"} <= set(content):
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(file, f"holds {keys}", "a dictionary with data and labels", _CORRECT)
    data, labels = content["data"], np.asarray(content["labels"])
    shaped = isinstance(data, np.ndarray) and data.ndim == 4 and data.shape[-1] == 3
    if not shaped or data.dtype != np.uint8:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data)
        raise InputError(file, f"data is {found}", "an array (N, H, W, 3) of uint8", _CORRECT)
    if labels.shape != data.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        found = f"{labels.dtype} {labels.shape} for {len(data)} images"
        raise InputError(file, f"labels are {found}", "a whole number for each image", _CORRECT)
    return Pickled(data, labels.astype(np.int64))


@dataclass(frozen=True)
class Part:
    """The images of one published split: ``train``, ``val`` or ``test``, or part of one.

    Attributes:
        where: Its list, folder or pickle.
        classes: Names of its classes.
        names: (N,) unique within the part.
        labels: (N,) int64 index into ``classes``.
        images: (N,) the images.
        lists: What else was read for it, and for the parts that it was cut from.
    """

    where: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    images: Images
    lists: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def files(self) -> Iterator[Path]:
        """Lists what the part was read from and the images' files, each once."""
        paths = (self.images.path(index) for index in range(len(self)))
        yield from dict.fromkeys((*self.lists, *paths))

    def divided(self, share: float) -> tuple["Part", "Part"]:
        """Divides each class: the larger part first, then about ``share`` of its images.

        A class keeps at least one image in both, where it has two. Which ones depends on the
        class's name and on how many images it has, and on nothing else.
        """
        held = np.zeros(len(self), dtype=np.bool_)
        for label, name in enumerate(self.classes):
            members = np.flatnonzero(self.labels == label)
            count = min(max(1, int(share * len(members) + 0.5)), len(members) - 1)
            drawn = Stream(0, f"mini_imagenet/base validation/{name}").permutation(len(members))
            held[members[drawn[:count]]] = True
        return self._chosen(np.flatnonzero(~held)), self._chosen(np.flatnonzero(held))

    def _chosen(self, indices: NDArray[np.int64]) -> "Part":
        names = tuple(self.names[index] for index in indices.tolist())
        images = self.images.chosen(indices)
        return Part(self.where, self.classes, names, self.labels[indices], images, self.lists)


def sorted_part(
    where: Path, found: Mapping[str, tuple[str, Path]], lists: Sequence[Path] = ()
) -> Part:
    """Makes a part of image files: name → (class, file)."""
    ordered = sorted((label, name, path) for name, (label, path) in found.items())
    classes = tuple(sorted({label for label, _, _ in ordered}))
    number = {name: place for place, name in enumerate(classes)}
    return Part(
        where,
        classes,
        tuple(name for _, name, _ in ordered),
        np.array([number[label] for label, _, _ in ordered], dtype=np.int64),
        ImageFiles(tuple(path for _, _, path in ordered)),
        tuple(lists),
    )


@dataclass(frozen=True)
class MiniSource(Unannotated):
    """One part, or the base classes' training images with those that are kept apart from them.

    Attributes:
        part: The images.
        apart: The images of the same classes that ``kept_apart`` opens.
    """

    part: Part
    apart: Part | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of this part alone."""
        return self.part.classes

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.part.images.read(index), self.name(index), self.label(index))

    def name(self, index: int) -> str:
        """Returns the file's name, or the place in the pickle."""
        return self.part.names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file, or the pickle."""
        return self.part.images.path(index)

    def label(self, index: int) -> int:
        """Returns the number of the class."""
        return int(self.part.labels[index])

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) without decoding."""
        return self.part.images.size(index)

    def kept_apart(self) -> "MiniSource | None":
        """Opens the images of the same classes that are kept apart."""
        return None if self.apart is None else MiniSource(self.apart)

    def files(self) -> Iterator[Path]:
        """Lists the lists and the images, those kept apart as well."""
        parts: tuple[Any, ...] = (self.part, *([self.apart] if self.apart else []))
        yield from dict.fromkeys(path for part in parts for path in part.files())

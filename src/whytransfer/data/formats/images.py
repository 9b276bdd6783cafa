"""Any folder of images without labels: every image under it, sorted folder by folder.

Enough for every method that needs no labels. Hidden folders are passed over.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from whytransfer.core.errors import InputError
from whytransfer.data.format import FormatConfig, Report, distinct, require_folder
from whytransfer.data.formats._lists import images_below
from whytransfer.data.images import image_size, is_image, read_image, unreadable
from whytransfer.data.sample import Sample, Source, Split, Unannotated

LAST_RESORT = True
"""Nearly every dataset is a folder of images, so the other formats are asked first."""

_MOST_FOLDERS = 1000


class Config(FormatConfig):
    """Which folders hold the images.

    Attributes:
        train: Folder of the training images, under ``root``; ``.`` is the root itself.
        test: Folder of the test images; ``null`` where there are none.
    """

    train: str = "."
    test: str | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where ``test`` is ``null``."""
        return ("train",) if self.test is None else ("train", "test")


@dataclass(frozen=True)
class ImagesSource(Unannotated):
    """The images under one folder.

    Attributes:
        folder: The split's folder.
        names: Paths below ``folder``, with forward slashes.
    """

    folder: Path
    names: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self.names[index])

    def name(self, index: int) -> str:
        """Returns the path below the folder."""
        return self.names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self.folder / self.names[index]

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.path(index))

    def files(self) -> Iterator[Path]:
        """Lists the images: there is nothing else."""
        return map(self.folder.joinpath, self.names)


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image is decoded.

    Raises:
        InputError: The folder is missing, or there is no image under it.
    """
    return _scan(config, split)


def check(config: Config) -> Report:
    """Counts the images and decodes every one."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    for split in config.splits:
        try:
            source = _scan(config, split)
        except InputError as error:
            problems.append(error)
            continue
        counts[f"{split} images"] = len(source)
        problems += unreadable(source.files())
    return Report("images", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if one of the first thousand folders here has an image."""
    for _, folders, files in islice(os.walk(path), _MOST_FOLDERS):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if any(is_image(name) for name in files):
            return {"root": str(path)}
    return None


def _scan(config: Config, split: Split) -> ImagesSource:
    require_folder(config.root)
    below = config.train if split == "train" else config.test
    if below is None:
        raise InputError(config.root, "has no test images (test: null)", "a folder of test images")
    folder = config.root / below
    if not folder.is_dir():
        todo = f"set {split}: to the folder of the {split} images"
        raise InputError(folder, "no such folder", "images", todo)
    names = tuple(name for name in images_below(folder) if not _is_hidden(name))
    if not names:
        raise InputError(folder, "no image under it", "image files", "check the path")
    return ImagesSource(folder, names)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))

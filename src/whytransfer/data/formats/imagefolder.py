"""ImageNet's layout: one folder per class, ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``.

A class's number is the place of its folder's name among the sorted names of the training folder,
as in torchvision's ``ImageFolder``, which the reference code uses (moco main_moco.py @132aea9).
Folders inside a class folder belong to the class.

Differs: the test folder is numbered by the names of the training folder, not by its own, so that a
class without test images can't shift the others; a class folder without images is an error.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError, nearest
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


class Config(FormatConfig):
    """Where the class folders lie.

    Attributes:
        train: Folder of the training images, under ``root``.
        test: Folder of the test images; ``null`` where there are none.
    """

    train: str = "train"
    test: str | None = "val"

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where ``test`` is ``null``."""
        return ("train",) if self.test is None else ("train", "test")


@dataclass(frozen=True)
class FolderSource(Unannotated):
    """The images of one split, in the order of classes and file names.

    Attributes:
        folder: The split's folder.
        classes: Names of the class folders, sorted.
        names: Paths below ``folder``, with forward slashes.
        labels: (N,) int64 index into ``classes``.
    """

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self.names[index], self.label(index))

    def name(self, index: int) -> str:
        """Returns ``<class>/<file>``."""
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
        """Lists the images: there is nothing else."""
        return (self.folder / name for name in self.names)


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image is decoded.

    Raises:
        InputError: A folder is missing, empty or at the wrong level, or a test folder is no class.
    """
    source, problems = _scan(config, split)
    refuse(problems)
    return source


def check(config: Config) -> Report:
    """Counts the images and decodes every one."""
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
        problems += [*found, *unreadable(source.files())]
    return Report("imagefolder", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder holds ``train/<class>/<image>``."""
    if not _holds_classes(path / "train"):
        return None
    test = next((name for name in ("val", "test") if _holds_classes(path / name)), None)
    return {"root": str(path), "test": test}


def _scan(config: Config, split: Split) -> tuple[FolderSource, list[InputError]]:
    train = _split_folder(config, config.train, "train")
    classes = tuple(_class_folders(train, config))
    if split == "train":
        folder, present = train, classes
    elif config.test is None:
        raise InputError(config.root, "has no test images (test: null)", "a folder of test images")
    else:
        folder = _split_folder(config, config.test, "test")
        present = tuple(_class_folders(folder, config))
    number = {name: label for label, name in enumerate(classes)}
    names: list[str] = []
    labels: list[int] = []
    problems: list[InputError] = []
    for name in present:
        if name not in number:
            problems.append(_unknown_class(folder / name, train, classes))
            continue
        images = list(_images(folder / name))
        if not images:
            problems.append(_empty_class(folder / name))
        names += [f"{name}/{image}" for image in images]
        labels += [number[name]] * len(images)
    source = FolderSource(folder, classes, tuple(names), np.array(labels, dtype=np.int64))
    return source, problems


def _split_folder(config: Config, name: str, field: str) -> Path:
    require_folder(config.root)
    folder = config.root / name
    if folder.is_dir():
        return folder
    if _holds_classes(config.root):
        found = f"holds class folders itself and no folder {name!r}"
        todo = other_level(config.root, recognise) or (
            f"move the class folders into {folder}, or set train: . (and test: null)"
        )
    else:
        found = f"holds no folder {name!r}"
        todo = other_level(config.root, recognise)
    if not todo:
        todo = f"set {field}: to the folder of the {field} images"
        todo += ", or test: null where there are none" if field == "test" else ""
    raise InputError(config.root, found, f"{name}/<class>/<image>", todo)


def _class_folders(folder: Path, config: Config) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if names:
        return names
    found = "holds images and no class folders" if _holds_images(folder) else "holds no folders"
    todo = other_level(config.root, recognise) or "put the images of each class into a folder"
    raise InputError(folder, found, "one folder per class", todo)


def _images(folder: Path) -> Iterator[str]:
    """Yields the images under a class folder, relative to it, sorted folder by folder."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        below = Path(parent).relative_to(folder)
        yield from ((below / name).as_posix() for name in sorted(files) if is_image(name))


def _unknown_class(folder: Path, train: Path, classes: tuple[str, ...]) -> InputError:
    hint = nearest(folder.name, classes) or "remove it, or add training images of the class"
    return InputError(folder, f"the class is not in {train}", "a class of the training set", hint)


def _empty_class(folder: Path) -> InputError:
    others = sum(1 for path in folder.rglob("*") if path.is_file())
    found = f"no image among {others} files" if others else "the class folder is empty"
    return InputError(folder, found, "at least one image", "add images or remove the folder")


def _holds_images(folder: Path) -> bool:
    return any(is_image(path.name) for path in folder.iterdir() if path.is_file())


def _holds_classes(folder: Path) -> bool:
    """Says whether one of a folder's first folders holds an image."""
    if not folder.is_dir():
        return False
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    return any(_holds_images(path) for path in folders[:20])

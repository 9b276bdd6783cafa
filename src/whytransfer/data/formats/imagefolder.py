"""ImageNet's layout: one folder per class, ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``.

A class's number is the place of its folder's name among the sorted names of the training folder,
as in torchvision's ``ImageFolder``, which the reference code uses (moco main_moco.py @132aea9).
Folders inside a class folder belong to the class.

Subsets are taken by list files as they are published: of classes (ImageNet-100: one folder name
per line, the form of CMC's imagenet100.txt) and of training images (ImageNet 1 % and 10 %: one
file per line, the form of SimCLR's imagenet_subsets). The classes of a subset are numbered among
themselves. Which files a list keeps enters the fingerprint, not where the list lies.

Differs: the test folder is numbered by the names of the training folder, not by its own, so that a
class without test images can't shift the others; a class folder without images is an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
from whytransfer.data.formats._lists import Line, absent, images_below, read_lines, repeated
from whytransfer.data.images import image_size, is_image, read_image, unreadable
from whytransfer.data.sample import Sample, Source, Split, Unannotated

_NO_CLASSES = ("leftImg8bit", "gtFine")
"""Folders of Cityscapes whose folders are cities, though they look like classes."""


class Config(FormatConfig):
    """Where the class folders lie.

    Attributes:
        train: Folder of the training images, under ``root``.
        test: Folder of the test images; ``null`` where there are none.
        classes_file: Lists the classes to keep, one folder name per line; ``null`` keeps all. Under
            ``root`` unless absolute.
        train_list: Lists the training images to keep, one per line, as ``<class>/<file>`` or as the
            file's name alone; ``null`` keeps all. Under ``root`` unless absolute.
    """

    PLACES: ClassVar[frozenset[str]] = frozenset({"root", "classes_file", "train_list"})

    train: str = "train"
    test: str | None = "val"
    classes_file: str | None = None
    train_list: str | None = None

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
    if path.absolute().name in _NO_CLASSES or not _holds_classes(path / "train"):
        return None
    test = next((name for name in ("val", "test") if _holds_classes(path / name)), None)
    return {"root": str(path), "test": test}


def _scan(config: Config, split: Split) -> tuple[FolderSource, list[InputError]]:
    train = _split_folder(config, config.train, "train")
    available = _class_folders(train, config)
    classes, problems = _chosen_classes(config, available, train)
    if split == "train":
        folder, present = train, available
    elif config.test is None:
        raise InputError(config.root, "has no test images (test: null)", "a folder of test images")
    else:
        folder = _split_folder(config, config.test, "test")
        present = _class_folders(folder, config)
        known = tuple(available)
        unknown = [name for name in present if name not in known]
        problems += [_unknown_class(folder / name, train, known) for name in unknown]
    number = {name: label for label, name in enumerate(classes)}
    images = {name: list(images_below(folder / name)) for name in present if name in number}
    problems += [_empty_class(folder / name) for name, found in images.items() if not found]
    if split == "train" and config.train_list is not None:
        images, found = _kept_images(config, images, available, train)
        problems += found
    names = tuple(f"{name}/{image}" for name, found in images.items() for image in found)
    labels = [number[name] for name, found in images.items() for _ in found]
    source = FolderSource(folder, classes, names, np.array(labels, dtype=np.int64))
    return source, problems


def _chosen_classes(
    config: Config, available: Sequence[str], train: Path
) -> tuple[tuple[str, ...], list[InputError]]:
    """Returns the classes that the list keeps, sorted, and what is wrong with the list."""
    if config.classes_file is None:
        return tuple(available), []
    listing = _listing(config, config.classes_file)
    lines = read_lines(listing, "class folders")
    known = set(available)
    problems = repeated(listing, lines)
    for line in lines:
        if line.text not in known:
            found = f"the class {line.text!r} has no folder in {train}"
            hint = nearest(line.text, available) or "correct the list or add the class"
            where = f"{listing}, line {line.number}"
            problems.append(InputError(where, found, "the name of a class folder", hint))
    return tuple(sorted({line.text for line in lines} & known)), problems


def _kept_images(
    config: Config, images: dict[str, list[str]], available: Sequence[str], train: Path
) -> tuple[dict[str, list[str]], list[InputError]]:
    """Returns the images of each class that the list keeps, and what is wrong with the list.

    A listed image of a class that ``classes_file`` leaves out is neither kept nor missed.
    """
    listing = _listing(config, str(config.train_list))
    lines = read_lines(listing, "training images")
    everything = {
        name: images[name] if name in images else list(images_below(train / name))
        for name in available
    }
    places = _places({line.text for line in lines}, everything)
    missing = [line for line in lines if line.text not in places]
    problems = absent(listing, missing, len(lines), train) + repeated(listing, lines)
    problems += [
        _ambiguous(listing, line, places[line.text])
        for line in lines
        if len(places.get(line.text, ())) > 1
    ]
    kept = {place for found in places.values() for place in found}
    left = {
        name: [image for image in found if f"{name}/{image}" in kept]
        for name, found in images.items()
    }
    for name in [name for name, found in left.items() if images[name] and not found]:
        todo = "add images of it, or leave the class out with classes_file"
        problems.append(InputError(listing, f"keeps no image of the class {name}", "", todo))
    return left, problems


def _places(listed: set[str], images: dict[str, list[str]]) -> dict[str, list[str]]:
    """Maps each listed name to the images, as ``<class>/<file>``, that it fits."""
    places: dict[str, list[str]] = {}
    for name, found in images.items():
        for image in found:
            for form in {f"{name}/{image}", image.rpartition("/")[2]} & listed:
                places.setdefault(form, []).append(f"{name}/{image}")
    return places


def _ambiguous(listing: Path, line: Line, found: Sequence[str]) -> InputError:
    fits = f"{line.text} fits {' and '.join(found[:2])}"
    return InputError(
        f"{listing}, line {line.number}", fits, "a name that fits one image", "give <class>/<file>"
    )


def _listing(config: Config, name: str) -> Path:
    return config.root / Path(name).expanduser()


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

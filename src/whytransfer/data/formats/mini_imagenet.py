"""mini-ImageNet: classes in three splits for few-shot tasks, as lists, as pickles or as folders.

    csv       train.csv, val.csv, test.csv (``filename,label``) and a flat folder ``images``, or
              the train folder of full-size ImageNet, from which they are taken by their numbers
    pickle    miniImageNet_category_split_{train_phase_train,train_phase_val,val,test}.pickle
    folders   {train,val,test}/<class>/<image>

The split ``train`` is the base classes, ``test`` the novel ones, which share no class with them;
``novel: val`` takes the validation classes in their place, to choose settings by. Of the base
classes some images are kept apart, so that base accuracy can be measured on images that nothing
was trained on: those of ``train_phase_val`` where there is such a pickle, else a share per class.

Source: Ravi & Larochelle 2017 (lists); Gidaris & Komodakis 2018 (pickles, as read by
yinboc/few-shot-meta-baseline datasets/mini_imagenet.py); Frankluox/LightningFSL (folders).
"""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from whytransfer.core.config import assumed
from whytransfer.core.environment import num_cores
from whytransfer.core.errors import InputError
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._class_folders import read_folders, recognise_folders
from whytransfer.data.formats._mini_csv import read_csv, recognise_csv
from whytransfer.data.formats._mini_images import (
    MiniSource,
    Part,
    PickledImages,
    read_pickle,
)
from whytransfer.data.sample import Source, Split

PICKLE = "miniImageNet_category_split_{}.pickle"
"""The name of a pickle; a split of classes, or a phase of the base classes, stands in it."""

PHASES = ("train_phase_train", "train_phase_val")
"""The base classes' images in two parts: to train on, and kept apart."""


class Config(FormatConfig):
    """Which of the three forms, and what is made of it.

    Attributes:
        form: Lists, pickles or folders.
        novel: The classes of the ``test`` split: the novel ones, or those for validation.
        images: Folder of the images that the lists name; under ``root`` unless absolute.
        imagenet: The train folder of full-size ImageNet, to take the listed images from; ``null``
            takes them from ``images``. Under ``root`` unless absolute.
        base_validation: Share of each base class's images that is kept apart, where the files do
            not say which; 0 keeps none.
    """

    PLACES: ClassVar[frozenset[str]] = frozenset({"root", "images", "imagenet"})
    NEW_CLASSES: ClassVar[bool] = True

    form: Literal["csv", "pickle", "folders"] = "csv"
    novel: Literal["test", "val"] = "test"
    images: str = "images"
    imagenet: str | None = None
    base_validation: float = assumed(
        0.1, "the paper splits the base classes' images in two; where is not known", ge=0, lt=1
    )


def open(config: Config, split: Split) -> Source:
    """Opens the base or the novel classes; no image file is decoded.

    Raises:
        InputError: A list, pickle or folder is missing or malformed, or an image missing.
    """
    require_folder(config.root)
    source, problems = _source(config, "train" if split == "train" else config.novel)
    refuse(problems)
    return source


def check(config: Config) -> Report:
    """Counts classes and images of all three splits, decodes every image, compares the splits."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    parts: dict[str, Part] = {}
    for name, what in (("train", "base"), ("val", "validation"), ("test", "novel")):
        try:
            require_folder(config.root)
            source, found = _source(config, name)
        except InputError as error:
            problems.append(error)
            continue
        problems += found
        parts[name] = source.part
        counts[f"{what} classes"] = len(source.classes)
        counts[f"{what} images"] = len(source)
        if source.apart is not None:
            parts["train, kept apart"] = source.apart
            counts["base images kept apart"] = len(source.apart)
    problems += [*_shared_classes(parts), *_repeated_images(parts)]
    return Report("mini_imagenet", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder has one of the three forms."""
    for look in (_recognise_pickles, recognise_csv, recognise_folders):
        found = look(path)
        if found is not None:
            return {"root": str(path), **found}
    return None


def _recognise_pickles(path: Path) -> dict[str, str] | None:
    found = any((path / PICKLE.format(name)).is_file() for name in (*PHASES, "val", "test"))
    return {"form": "pickle"} if found else None


def _source(config: Config, name: str) -> tuple[MiniSource, list[InputError]]:
    """Reads one of the three splits, and what is wrong with it."""
    if config.form == "pickle":
        return _pickled(config, name), []
    if config.form == "folders":
        part, problems = read_folders(config.root, name)
    else:
        imagenet = None if config.imagenet is None else _below(config, config.imagenet)
        part, problems = read_csv(config.root, name, _below(config, config.images), imagenet)
    return _base(config, part) if name == "train" else MiniSource(part), problems


def _below(config: Config, place: str) -> Path:
    return config.root / Path(place).expanduser()


def _base(config: Config, part: Part) -> MiniSource:
    if config.base_validation == 0:
        return MiniSource(part)
    return MiniSource(*part.divided(config.base_validation))


def _pickled(config: Config, name: str) -> MiniSource:
    if name != "train":
        return MiniSource(_pickle(config, name))
    part = _pickle(config, PHASES[0])
    if not (config.root / PICKLE.format(PHASES[1])).is_file():
        return _base(config, part)
    apart = _pickle(config, PHASES[1])
    if apart.classes != part.classes:
        differing = sorted(set(apart.classes) ^ set(part.classes))
        raise InputError(
            apart.where, f"differs from {part.where.name} in the classes {', '.join(differing)}",
            "images of the same classes", "get both from one source, or remove this one",
        )  # fmt: skip
    return MiniSource(part, apart)


def _pickle(config: Config, name: str) -> Part:
    file = config.root / PICKLE.format(name)
    if not file.is_file():
        todo = other_level(config.root, _recognise_pickles) or "add it"
        raise InputError(file, "no such file", "a pickle of images", todo)
    found = read_pickle(file)
    order = np.argsort(found.labels, kind="stable").astype(np.int64)
    numbers, labels = np.unique(found.labels[order], return_inverse=True)
    names = tuple(f"{name}/{row:05d}" for row in order.tolist())
    classes = tuple(str(number) for number in numbers.tolist())
    images = PickledImages(file, order)
    return Part(file, classes, names, labels.astype(np.int64), images)


def _shared_classes(parts: Mapping[str, Part]) -> Iterator[InputError]:
    """Yields the classes that two of the three splits have."""
    splits = [parts[name] for name in ("train", "val", "test") if name in parts]
    for place, one in enumerate(splits):
        for other in splits[:place]:
            for name in sorted(set(one.classes) & set(other.classes)):
                found = f"has the class {name}, which is in {other.where.name} as well"
                todo = "take it out of one of them"
                yield InputError(one.where, found, "each class in one split", todo)


def _repeated_images(parts: Mapping[str, Part]) -> Iterator[InputError]:
    """Yields the images that can't be decoded, and those whose pixels another split has, too."""
    seen: dict[bytes, tuple[str, str]] = {}
    for name, part in parts.items():
        for image, digest in zip(part.names, _digests(part), strict=True):
            if isinstance(digest, InputError):
                yield digest
                continue
            first, place = seen.setdefault(digest, (name, image))
            if first != name:
                found = f"has the pixels of {place}, which is in {first}"
                where = f"{part.where}, {image}"
                yield InputError(where, found, "an image of its own", "remove one of them")


def _digests(part: Part) -> Iterator[bytes | InputError]:
    with ThreadPoolExecutor(num_cores()) as pool:
        yield from pool.map(partial(_digest, part), range(len(part)))


def _digest(part: Part, index: int) -> bytes | InputError:
    try:
        pixels = part.images.read(index)
    except InputError as error:
        return error
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()

"""Cityscapes: streets with the class of every pixel, under the official file names.

leftImg8bit/SPLIT/CITY/CITY_000000_000019_leftImg8bit.png      the images
gtFine/SPLIT/CITY/CITY_000000_000019_gtFine_labelIds.png       the label of every pixel
gtFine/SPLIT/CITY/CITY_000000_000019_gtFine_instanceIds.png    label · 1000 + object, where present

What is shipped are label ids, 0 to 33; the 19 training classes are computed from them, and all
other labels are ignored. ``labelTrainIds.png``, which Cityscapes' scripts make, is not read. The
training split is ``train``, the test split is ``val``: of the official ``test`` the labels are
kept by the organisers, and those on a disk are dummies.

Source: Cordts et al. 2016; mcordts/cityscapesScripts, README.md and
    cityscapesscripts/helpers/labels.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from whytransfer.core.errors import InputError, nearest
from whytransfer.core.fingerprint import hash_file
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._cityscapes_classes import CITYSCAPES
from whytransfer.data.formats._lists import images_below
from whytransfer.data.images import failures, image_size, read_image, read_stored, unreadable
from whytransfer.data.sample import IGNORED, Sample, Segmentation, Source, Split, Unannotated

NUM_LABELS = 34
"""Label ids are 0 to 33; −1, the licence plate, is 255 in 8 bits."""

TRAIN_IDS: Mapping[int, int] = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""Label id → training class; every other label is ignored."""

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
_PARTS = (_IMAGES, _LABELS)
_ARCHIVES = {_IMAGES: "leftImg8bit_trainvaltest.zip", _LABELS: "gtFine_trainvaltest.zip"}
_IMAGE = "_leftImg8bit.png"
_LABEL = "_gtFine_labelIds.png"
_INSTANCE = "_gtFine_instanceIds.png"
_FIRST_INSTANCE = 1000
_LICENCE_PLATE = 255
_UNPACK = f"unpack it again from {_ARCHIVES[_LABELS]}"
_RENAME = "put it there under its official name, or remove it"

_TABLE = np.full(256, IGNORED, dtype=np.uint8)
_TABLE[list(TRAIN_IDS)] = list(TRAIN_IDS.values())


class Config(FormatConfig):
    """Which split is scored on; ``train`` is what is trained on.

    Attributes:
        test: ``null`` where there are no labelled images to score on. The official ``test`` has no
            labels and is refused.
        held_out: Cities of ``train`` that are scored on instead of ``test`` and not trained on: to
            choose settings without looking at the test split.
    """

    test: Literal["val", "test"] | None = "val"
    held_out: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where there is nothing to score on."""
        return ("train", "test") if self.test or self.held_out else ("train",)

    @model_validator(mode="after")
    def _official_test_is_unlabelled(self) -> Self:
        if self.test == "test":
            raise ValueError(
                "Cityscapes' test split has no labels: on disk they are missing or dummies, its "
                "server scores predictions. Score on val, or on cities that are held_out"
            )
        return self


class CityscapesLabels(Segmentation):
    """What the pixels of a frame show; its objects are read when they are asked for.

    Who trains a segmenter asks for the labels alone, and the second PNG would be a fifth of what
    a training image costs.
    """

    _read: Callable[[], NDArray[np.int32] | None]

    def __init__(
        self, labels: NDArray[np.uint8], read: Callable[[], NDArray[np.int32] | None]
    ) -> None:
        # Frozen, so past its guard; and without the default that would stand for the objects.
        self.__dict__.update(labels=labels, _read=read)

    @cached_property
    def instances(self) -> NDArray[np.int32] | None:
        """(H, W) label id · 1000 + object, 0 for none; ``None`` where there is no file.

        Raises:
            InputError: The file is no grey PNG of 16 bits, or has not the size of the image.
        """
        return self._read()


class CityscapesSource(Unannotated):
    """Some frames of one official split, sorted by city, then name."""

    classes = CITYSCAPES

    def __init__(self, root: Path, part: str, frames: Sequence[str], with_instances: bool) -> None:
        self._root, self._part, self._frames = root, part, tuple(frames)
        self._with_instances = with_instances

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self.name(index))

    def name(self, index: int) -> str:
        """Returns the official name of the frame, such as ``aachen_000000_000019``."""
        return self._frames[index].rpartition("/")[2]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self._file(_IMAGES, index, _IMAGE)

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.path(index))

    def segmentation(self, index: int) -> CityscapesLabels:
        """Reads the label file; that of the objects, where there is one, when they are asked for.

        Raises:
            InputError: The file is missing, no grey PNG of 8 bits, has not the size of the image,
                or holds a number that is no label.
        """
        path = self._file(_LABELS, index, _LABEL)
        labels = _train_ids(self._read(path, 8, index), path)
        return CityscapesLabels(labels, partial(self._instances, index))

    def files(self) -> Iterator[Path]:
        """Lists images and label files."""
        for index in range(len(self)):
            yield self.path(index)
            yield self._file(_LABELS, index, _LABEL)
            if self._with_instances:
                yield self._file(_LABELS, index, _INSTANCE)

    def _instances(self, index: int) -> NDArray[np.int32] | None:
        if not self._with_instances:
            return None
        numbers = self._read(self._file(_LABELS, index, _INSTANCE), 16, index)
        # A lesser number is a plain label: of what has no objects, or of a group of them.
        return np.where(numbers >= _FIRST_INSTANCE, numbers, 0).astype(np.int32)

    def _file(self, folder: str, index: int, ending: str) -> Path:
        return self._root / folder / self._part / f"{self._frames[index]}{ending}"

    def _read(self, path: Path, bits: int, index: int) -> NDArray[Any]:
        numbers = read_stored(path, bits, 1, _UNPACK)
        size = self.size(index)
        if numbers.shape != size:
            raise InputError(
                path, f"is {numbers.shape[1]}×{numbers.shape[0]} px",
                f"{size[1]}×{size[0]} px, as its image", _UNPACK,
            )  # fmt: skip
        return numbers


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image and no label file is decoded.

    Raises:
        InputError: A folder is missing or lies at another level, an image has no label file or the
            other way round, or a frame is there twice.
    """
    sources, problems = _scan(config)
    refuse(problems)
    if split not in sources:
        raise InputError(config.root, "has no test images (test: null)", "a split with labels")
    return sources[split]


def check(config: Config) -> Report:
    """Counts the frames, decodes every image and label file, and compares files' contents."""
    try:
        sources, problems = _scan(config)
    except InputError as error:
        return Report("cityscapes", {}, (error,))
    counts = {"classes": len(CITYSCAPES)}
    for split, source in sources.items():
        counts[f"{split} images"] = len(source)
        problems += unreadable(source.path(index) for index in range(len(source)))
        problems += failures(partial(_require_classes, source), range(len(source)))
    problems += _same_content(s.path(index) for s in sources.values() for index in range(len(s)))
    return Report("cityscapes", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if ``leftImg8bit`` or ``gtFine`` lies in the folder."""
    splits = ("train", "val")
    if any((path / part / split).is_dir() for part in _PARTS for split in splits):
        return {"root": str(path)}
    return None


def _scan(config: Config) -> tuple[dict[Split, CityscapesSource], list[InputError]]:
    """Lists the frames of each split, and names all that has no partner or is misplaced.

    Raises:
        InputError: A folder is missing, or has no frame in it.
    """
    root = config.root
    require_folder(root)
    for part in _PARTS:
        if not (root / part).is_dir():
            raise InputError(
                root, f"holds no folder {part}", f"{_IMAGES} and {_LABELS} side by side",
                other_level(root, recognise) or f"unpack {_ARCHIVES[part]} there",
            )  # fmt: skip
    train, problems = _list(root, "train")
    held_out = [frame for frame in train.frames if _city(frame) in config.held_out]
    kept = [frame for frame in train.frames if _city(frame) not in config.held_out]
    problems += _unknown_cities(root, config.held_out, train.frames)
    if not kept:
        raise InputError("held_out", "leaves no city to train on", "some of them", "take one out")
    sources: dict[Split, CityscapesSource] = {"train": train.source(root, kept)}
    if config.held_out:
        sources["test"] = train.source(root, held_out)
    elif config.test:
        test, more = _list(root, config.test)
        problems += [*more, *_in_both(root, train, test)]
        sources["test"] = test.source(root, test.frames)
    return sources, problems


class _Listing:
    """The frames of one official split, and whether their objects are there."""

    def __init__(self, part: str, frames: Sequence[str], with_instances: bool) -> None:
        self.part, self.frames, self.with_instances = part, frames, with_instances

    def source(self, root: Path, frames: Sequence[str]) -> CityscapesSource:
        return CityscapesSource(root, self.part, frames, self.with_instances)


def _list(root: Path, part: str) -> tuple[_Listing, list[InputError]]:
    """Lists one official split.

    Raises:
        InputError: A folder of it is missing, or there is no frame.
    """
    for folder in _PARTS:
        if not (root / folder / part).is_dir():
            todo = f"unpack {_ARCHIVES[folder]} again"
            todo += ", or set test: null" if part == "val" else ""
            raise InputError(root / folder / part, "no such folder", f"the split {part}", todo)
    images, problems = _frames(root / _IMAGES / part, _IMAGE, report_others=True)
    labels, misplaced = _frames(root / _LABELS / part, _LABEL)
    instances, _ = _frames(root / _LABELS / part, _INSTANCE)
    if not images:
        expected = f"CITY/CITY_000000_000000{_IMAGE}"
        raise InputError(root / _IMAGES / part, "holds no frame", expected, "check the path")
    problems += [*misplaced, *_twice(root / _IMAGES / part, images)]
    for ending, present in ((_LABEL, labels), (_INSTANCE, instances)):
        needed = ending == _LABEL or present  # objects are all there, or none are
        problems += [
            InputError(
                root / _LABELS / part / f"{frame}{ending}", "no such file, but there is its image",
                "the label file", _UNPACK,
            )
            for frame in (images if needed else ()) if frame not in present
        ]  # fmt: skip
        problems += [
            InputError(
                root / _LABELS / part / f"{frame}{ending}", "is the label file of no image", "",
                f"unpack its image from {_ARCHIVES[_IMAGES]}, or remove it",
            )
            for frame in present if frame not in images
        ]  # fmt: skip
    return _Listing(part, list(images), bool(instances)), problems


def _frames(
    folder: Path, ending: str, report_others: bool = False
) -> tuple[dict[str, None], list[InputError]]:
    """Lists ``CITY/FRAME`` of the files of one ending, sorted; others may be named as problems."""
    frames, problems = [], []
    for name in images_below(folder):
        is_ours = name.endswith(ending)
        if is_ours and name.count("/") == 1:
            frames.append(name.removesuffix(ending))
        elif is_ours:
            found = "lies in no folder of a city" if "/" not in name else "lies too deep"
            problems.append(InputError(folder / name, found, f"{folder}/CITY/*{ending}", _RENAME))
        elif report_others:
            found = "is not named as Cityscapes' images"
            problems.append(InputError(folder / name, found, f"CITY/*{ending}", _RENAME))
    return dict.fromkeys(sorted(frames)), problems


def _city(frame: str) -> str:
    return frame.partition("/")[0]


def _name(frame: str) -> str:
    return frame.rpartition("/")[2]


def _twice(folder: Path, frames: Iterable[str]) -> Iterator[InputError]:
    """Yields a problem for each frame that lies in the folders of two cities."""
    place: dict[str, str] = {}
    for frame in frames:
        first = place.setdefault(_name(frame), frame)
        if first != frame:
            yield InputError(
                folder / f"{frame}{_IMAGE}", f"is also in {_city(first)}", "every image once",
                "remove one of them",
            )  # fmt: skip


def _in_both(root: Path, train: _Listing, test: _Listing) -> Iterator[InputError]:
    """Yields a problem for each frame of the test split that is trained on as well."""
    trained = {_name(frame): frame for frame in reversed(train.frames)}
    for frame in test.frames:
        if _name(frame) in trained:
            yield InputError(
                root / _IMAGES / test.part / f"{frame}{_IMAGE}",
                f"is also in {train.part}/{_city(trained[_name(frame)])}",
                "no image in both splits", "remove it from one of them",
            )  # fmt: skip


def _unknown_cities(
    root: Path, held_out: Sequence[str], frames: Sequence[str]
) -> Iterator[InputError]:
    known = sorted({_city(frame) for frame in frames})
    for city in held_out:
        if city not in known:
            expected = f"of {', '.join(known)}"
            hint = nearest(city, known) or "correct held_out"
            found = f"has no city {city!r} in train"
            yield InputError(root, found, expected, hint)


def _train_ids(numbers: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Returns the training classes (H, W) of label ids.

    Raises:
        InputError: A number is no label, or all of them look like training classes.
    """
    present = np.flatnonzero(cv2.calcHist([numbers], [0], None, [256], [0, 256]))
    strange = present[(present >= NUM_LABELS) & (present != _LICENCE_PLATE)]
    if len(strange):
        raise InputError(
            path, f"holds the label {strange[0]}",
            f"0 to {NUM_LABELS - 1}, or {_LICENCE_PLATE} for a licence plate", _UNPACK,
        )  # fmt: skip
    # A plate hangs on a car, label 26. Ignored pixels beside small numbers alone are labelTrainIds.
    if present[-1] == _LICENCE_PLATE and (present[:-1] < len(CITYSCAPES)).all():
        raise InputError(
            path, f"holds {_LICENCE_PLATE} and else no label above {len(CITYSCAPES) - 1}: training "
            "numbers, as in labelTrainIds.png", "label ids", _UNPACK,
        )  # fmt: skip
    return np.asarray(cv2.LUT(numbers, _TABLE), dtype=np.uint8)


def _require_classes(source: CityscapesSource, index: int) -> None:
    """Reads the label files of a frame.

    Raises:
        InputError: One can't be read, or no pixel is of a class.
    """
    found = source.segmentation(index)
    _ = found.instances
    if (found.labels == IGNORED).all():
        raise InputError(
            source.path(index), "none of its pixels is of a class: a dummy, as of the test split",
            "labels", _UNPACK,
        )  # fmt: skip


def _same_content(paths: Iterable[Path]) -> Iterator[InputError]:
    """Yields a problem for each image whose file is the same as an earlier one's."""
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for alike in by_size.values():
        first: dict[str, Path] = {}
        for path in alike if len(alike) > 1 else ():
            same = first.setdefault(hash_file(path), path)
            if same != path:
                found = f"is the same file as {same}"
                yield InputError(path, found, "every image once", "remove one of them")

"""SYNTHIA: streets with the class and object of every pixel, RAND-CITYSCAPES or sequences.

A label file ``GT/LABELS/x.png`` belongs to the image ``RGB/x.png``. It is a PNG of three 16-bit
channels, which Pillow can't read: class, object, 0 in the order red, green, blue, so that for
OpenCV the class comes last. The numbers are mapped to Cityscapes' 19 training classes, all else is
ignored, or kept as they are.

SYNTHIA has no official split. Here a share of the images is the test split: of RAND-CITYSCAPES,
whose images are unrelated, a fixed random choice (stream ``synthia.split`` of seed 0); of a
sequence its last frames, since neighbouring frames show the same things.

Source: Ros et al., The SYNTHIA Dataset, CVPR 2016, and the archives' READMEs; the map of classes is
the one in common use for SYNTHIA to Cityscapes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._cityscapes_classes import CITYSCAPES as CITYSCAPES
from whytransfer.data.images import failures, image_size, read_image, read_stored, unreadable
from whytransfer.data.sample import (
    IGNORED,
    Sample,
    Segmentation,
    Source,
    Split,
    Unannotated,
)

RAND_CLASSES = (
    "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car",
    "traffic sign", "pedestrian", "bicycle", "motorcycle", "parking slot", "road work",
    "traffic light", "terrain", "rider", "truck", "bus", "train", "wall", "lane marking",
)  # fmt: skip
"""RAND-CITYSCAPES' own classes in the order of their numbers."""

SEQUENCE_CLASSES = (
    "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car",
    "traffic sign", "pedestrian", "cyclist", "lane marking", "reserved 1", "reserved 2",
    "traffic light",
)  # fmt: skip
"""The sequences' own classes, whose number 12 is another than RAND-CITYSCAPES'."""

_TO_CITYSCAPES = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13,
    18: 14, 19: 15, 20: 16, 12: 17, 11: 18,
}  # fmt: skip
_OWN = {"rand_cityscapes": RAND_CLASSES, "sequences": SEQUENCE_CLASSES}
_LANE_MARKING = 12
_VOID = 0
_IMAGES, _LABELS = "RGB", "GT/LABELS"
_CLASS_CHANNEL, _INSTANCE_CHANNEL = 2, 1
_UNPACK = "unpack it again from SYNTHIA's archive; other programs may save it with 8 bits"


class Config(FormatConfig):
    """Which of SYNTHIA's sets lies in ``root``, and how its labels are read.

    Attributes:
        layout: ``RGB/*.png``, or ``RGB/Stereo_*/Omni_*/*.png`` in ``root`` or in its folders.
        labels: Cityscapes' training classes, or SYNTHIA's own; void is ignored in either.
        test_share: Share of the images, or of each sequence's frames, that are the test split.
    """

    layout: Literal["rand_cityscapes", "sequences"] = "rand_cityscapes"
    labels: Literal["cityscapes", "synthia"] = "cityscapes"
    test_share: float = assumed(0.1, "SYNTHIA has no official split", gt=0, lt=1)


class StreetSource(Unannotated):
    """The images of one split, sorted by name, with masks."""

    def __init__(self, root: Path, names: tuple[str, ...], own: str, labels: str) -> None:
        self.classes = CITYSCAPES if labels == "cityscapes" else _OWN[own]
        self._root, self._names = root, names
        self._table = _table(own, labels)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.path(index)), self._names[index])

    def name(self, index: int) -> str:
        """Returns the image's path below the root."""
        return self._names[index]

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self._root / self._names[index]

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the file's header."""
        return image_size(self.path(index))

    def segmentation(self, index: int) -> Segmentation:
        """Reads the label file.

        Raises:
            InputError: It has not the size of the image, not 16 bits or three channels, or holds a
                number that is no class.
        """
        path = self._root / _label_name(self._names[index])
        pixels = read_stored(path, 16, 3, _UNPACK)
        size = self.size(index)
        if pixels.shape[:2] != size:
            raise InputError(
                path, f"is {pixels.shape[1]}×{pixels.shape[0]} px",
                f"{size[1]}×{size[0]} px, as its image", _UNPACK,
            )  # fmt: skip
        numbers = pixels[:, :, _CLASS_CHANNEL]
        highest = int(numbers.max())
        if highest >= len(self._table):
            raise InputError(
                path, f"holds the class number {highest}", f"0 to {len(self._table) - 1}", _UNPACK
            )
        instances = pixels[:, :, _INSTANCE_CHANNEL].astype(np.int32)
        return Segmentation(self._table[numbers], instances)

    def files(self) -> Iterator[Path]:
        """Lists images and label files."""
        for name in self._names:
            yield self._root / name
            yield self._root / _label_name(name)


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image and no label file is decoded.

    Raises:
        InputError: A folder is missing, an image has no label file or the other way round.
    """
    names, problems = _scan(config)
    refuse(problems)
    return _source(config, names, split)


def check(config: Config) -> Report:
    """Counts the images, and decodes every one and its label file."""
    try:
        names, problems = _scan(config)
        sources = [_source(config, names, split) for split in config.splits]
    except InputError as error:
        return Report("synthia", {}, (error,))
    counts = {"classes": len(sources[0].classes)}
    for split, source in zip(config.splits, sources, strict=True):
        counts[f"{split} images"] = len(source)
        problems += unreadable(source.path(index) for index in range(len(source)))
        problems += failures(source.segmentation, range(len(source)))
    return Report("synthia", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder holds ``RGB`` and ``GT/LABELS``."""
    with contextlib.suppress(PermissionError):  # a neighbour that is none of ours
        if (path / _LABELS).is_dir() and any((path / _IMAGES).glob("*.png")):
            return {"root": str(path), "layout": "rand_cityscapes"}
        if any(_has_cameras(base) for base in _bases(path)):
            return {"root": str(path), "layout": "sequences"}
    return None


def split_frames(names: tuple[str, ...], config: Config, split: Split) -> tuple[str, ...]:
    """Returns the names of one split, sorted; every image is in exactly one."""
    if config.layout == "rand_cityscapes":
        order = Stream(0, "synthia.split").permutation(len(names))
        chosen = {names[place] for place in order[: _num_test(len(names), config)]}
        return tuple(name for name in names if (name in chosen) == (split == "test"))
    frames: dict[str, set[str]] = {}
    for name in names:
        frames.setdefault(_sequence(name), set()).add(Path(name).stem)
    last = {
        sequence: set(sorted(stems)[len(stems) - _num_test(len(stems), config) :])
        for sequence, stems in frames.items()
    }
    in_test = {name: Path(name).stem in last[_sequence(name)] for name in names}
    return tuple(name for name in names if in_test[name] == (split == "test"))


def _num_test(count: int, config: Config) -> int:
    return min(max(1, round(count * config.test_share)), count - 1)


def _sequence(name: str) -> str:
    return name.rpartition(f"{_IMAGES}/Stereo_")[0]


def _source(config: Config, names: tuple[str, ...], split: Split) -> StreetSource:
    chosen = split_frames(names, config, split)
    return StreetSource(config.root, chosen, config.layout, config.labels)


def _table(own: str, labels: str) -> NDArray[np.uint8]:
    """What each number in a label file becomes."""
    count = len(_OWN[own])
    if labels == "synthia":
        table = np.arange(count, dtype=np.uint8)
        table[_VOID] = IGNORED
        return table
    table = np.full(count, IGNORED, dtype=np.uint8)
    for number, train_id in _TO_CITYSCAPES.items():
        if number < count and not (own == "sequences" and number == _LANE_MARKING):
            table[number] = train_id
    return table


def _scan(config: Config) -> tuple[tuple[str, ...], list[InputError]]:
    """Lists the images, and names each image or label file that has no partner."""
    root = config.root
    require_folder(root)
    if config.layout == "rand_cityscapes":
        bases, pattern = [root], "*.png"
    else:
        bases, pattern = [base for base in _bases(root) if _has_cameras(base)], "*/*/*.png"
    for part in (_IMAGES, _LABELS):
        if not bases or not all((base / part).is_dir() for base in bases):
            found = f"holds no folder {part}"
            here = recognise(root)
            todo = f"set layout: {here['layout']}" if here else other_level(root, recognise)
            todo = todo or "unpack the archive again"
            raise InputError(root, found, f"SYNTHIA in the layout {config.layout}", todo)
    images = _below(root, bases, _IMAGES, pattern)
    labels = _below(root, bases, _LABELS, pattern)
    if len(images) < 2:
        found = f"{len(images)} images in {_IMAGES}"
        raise InputError(root, found, "at least two, to train and to test", "check the path")
    wanted = {_label_name(name): name for name in images}
    problems = [
        InputError(root / label, "no such file, but there is its image", "the label file", _UNPACK)
        for label in wanted
        if label not in labels
    ]
    problems += [
        InputError(root / label, "is the label file of no image", "", "add the image or remove it")
        for label in sorted(labels - wanted.keys())
    ]
    return tuple(sorted(images)), problems


def _below(root: Path, bases: list[Path], part: str, pattern: str) -> set[str]:
    return {
        path.relative_to(root).as_posix() for base in bases for path in (base / part).glob(pattern)
    }


def _label_name(image: str) -> str:
    before, _, after = f"/{image}".rpartition(f"/{_IMAGES}/")
    return f"{before}/{_LABELS}/{after}".removeprefix("/")


def _bases(root: Path) -> list[Path]:
    """The folders that may be a sequence: the root and those in it."""
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())]


def _has_cameras(base: Path) -> bool:
    with contextlib.suppress(PermissionError):
        return any(path.is_dir() for path in (base / _IMAGES).glob("Stereo_*"))
    return False

"""CelebA: faces with identity, five landmarks and a partition, in torchvision's or its own layout.

The label is the identity, and the classes are the identities of the training partition, numbered
in the order of their numbers. CelebA's partitions share no identity, so a picture of ``test`` has
the label ``None`` unless its person is in training as well: identities of people who were never
seen can't be read out.

Landmarks stand in the files as whole pixels, counted from 0; the source gives the pixel's centre.
Identity and partition files are lines ``name value``; those of landmarks have a line with their
count and a line of names first.

MAFL's pictures are pictures of CelebA. What is trained here and tested on MAFL must leave both of
its lists out (``exclude_lists``); a check counts how many the training split still has.

Source: Liu et al., Deep Learning Face Attributes in the Wild, 2015, its archive's README;
torchvision datasets/celeba.py for the layout.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

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
from whytransfer.data.formats._celeba import (
    LAYOUTS,
    MAFL_LISTS,
    PIXEL_CENTRE,
    POINTS,
    FaceSource,
    Layout,
    bases,
    differing,
    landmarks_outside,
    mafl_list,
    missing_images,
    named,
    out_of_range,
    rows,
)
from whytransfer.data.formats._leaks import shared
from whytransfer.data.formats._lists import read_lines
from whytransfer.data.images import unreadable
from whytransfer.data.sample import Source, Split

_TRAIN = 0
_SHOWN = 3


class Config(FormatConfig):
    """Which files of CelebA are read.

    Attributes:
        layout: Torchvision's folder, or ``Img``, ``Anno`` and ``Eval`` of the official archive;
            either may lie in ``root`` itself or in a folder ``celeba`` or ``CelebA`` there.
        images: The aligned and cropped pictures, or those in the wild with landmarks of their own.
        test_partition: CelebA's partition that is the test split: 2 is its ``test``, 1 its ``val``.
        pixel_centre: What is added to a landmark's whole number of a pixel.
        exclude_lists: Lists of pictures, a file's name per line, that the training split leaves
            out, such as MAFL's. Under ``root`` unless absolute; which pictures they leave enters
            the fingerprint, not where they lie.
    """

    PLACES: ClassVar[frozenset[str]] = frozenset({"root", "exclude_lists"})

    layout: Layout = "torchvision"
    images: Literal["aligned", "wild"] = "aligned"
    test_partition: Literal[1, 2] = 2
    pixel_centre: float = assumed(0.5, PIXEL_CENTRE, ge=-1, le=1)
    exclude_lists: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Scan:
    """The text files, read and checked: one row per picture that they all speak of.

    Attributes:
        excluded: Pictures that ``exclude_lists`` name.
        in_mafl: Those that MAFL's lists name; ``None`` where the lists are not there.
    """

    folder: Path
    lists: tuple[Path, ...]
    names: tuple[str, ...]
    identities: NDArray[np.int64]
    partitions: NDArray[np.int64]
    points: NDArray[np.int32]
    excluded: NDArray[np.bool_]
    in_mafl: NDArray[np.bool_] | None
    problems: tuple[InputError, ...]

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Says which pictures the training split has."""
        kept: NDArray[np.bool_] = (self.partitions == _TRAIN) & ~self.excluded
        return kept


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
    except InputError as error:
        return Report("celeba", {}, (error,))
    try:
        sources = {split: _source(config, scan, split) for split in config.splits}
    except InputError as error:
        # The lists' own problems say why a split is empty.
        return Report("celeba", {}, distinct((*scan.problems, error)))
    counts = {"identities in training": len(sources["train"].classes)}
    problems, outside = list(scan.problems), 0
    for split, source in sources.items():
        counts[f"{split} images"] = len(source)
        there = [index for index in range(len(source)) if source.path(index).is_file()]
        problems += unreadable(map(source.path, there))
        outside += sum(landmarks_outside(source, index) for index in there)
    problems += shared(config.root, {split: named(source) for split, source in sources.items()})
    counts["images with a landmark outside"] = outside
    unknown = int(np.count_nonzero(sources["test"].labels < 0))
    counts["test images of people not in training"] = unknown
    left_out = int(np.count_nonzero(scan.excluded & (scan.partitions == _TRAIN)))
    used = sum(map(len, sources.values())) + left_out
    counts["images of the partition left out"] = len(scan.names) - used
    if config.exclude_lists:
        counts["training images left out by exclude_lists"] = left_out
    if scan.in_mafl is not None:
        counts["training images that MAFL lists, too"] = int(
            np.count_nonzero(scan.in_mafl & scan.trained)
        )
    return Report("celeba", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder has CelebA's lists in either layout."""
    for layout, files in LAYOUTS.items():
        base = _base(path, layout)
        if base is not None:
            images = "aligned" if (base / files["aligned"]).is_dir() else "wild"
            return {"root": str(path), "layout": layout, "images": images}
    return None


def _base(root: Path, layout: str) -> Path | None:
    files = LAYOUTS[layout]
    for base in bases(root):
        if (base / files["identity"]).is_file() and (base / files["partition"]).is_file():
            return base
    return None


def _source(config: Config, scan: _Scan, split: Split) -> FaceSource:
    people = np.unique(scan.identities[scan.trained])
    part = _TRAIN if split == "train" else config.test_partition
    chosen = np.flatnonzero(scan.trained if split == "train" else scan.partitions == part)
    if not len(chosen):
        but = " but those of exclude_lists" if scan.excluded.any() and split == "train" else ""
        found = f"no picture of partition {part}{but}"
        raise InputError(scan.lists[1], found, f"the {split} split")
    identities = scan.identities[chosen]
    places = np.minimum(np.searchsorted(people, identities), max(len(people) - 1, 0))
    labels = np.where(people[places] == identities, places, -1) if len(people) else places - 1
    return FaceSource(
        scan.folder,
        tuple(str(person) for person in people.tolist()),
        tuple(scan.names[row] for row in chosen),
        labels.astype(np.int64),
        scan.points[chosen],
        config.pixel_centre,
        scan.lists,
    )


def _scan(config: Config) -> _Scan:
    require_folder(config.root)
    base = _base(config.root, config.layout)
    files = LAYOUTS[config.layout]
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
    identity = rows(lists[0], 1, problems)
    partition = rows(lists[1], 1, problems)
    points = rows(lists[2], 2 * POINTS, problems, headed=True)
    for file, values, low, high in ((lists[0], identity, 1, None), (lists[1], partition, 0, 2)):
        problems += out_of_range(file, values, low, high)
    for file, listed in ((lists[0], identity), (lists[2], points)):
        problems += differing(lists[1], partition, file, listed)
    problems += missing_images(folder, lists[1], partition)
    names = tuple(name for name in partition if name in identity and name in points)
    excluded = _excluded(config, names, problems)
    return _Scan(
        folder,
        lists,
        names,
        np.array([identity[name][0] for name in names], dtype=np.int64),
        np.array([partition[name][0] for name in names], dtype=np.int64),
        np.array([points[name] for name in names], dtype=np.int32).reshape(-1, POINTS, 2),
        np.array([name in excluded for name in names], dtype=bool),
        _in_mafl(config.root, base, names),
        tuple(problems),
    )


def _excluded(config: Config, names: tuple[str, ...], problems: list[InputError]) -> set[str]:
    """Returns the names that ``exclude_lists`` hold; one that is no picture is a problem."""
    known, found = set(names), set[str]()
    for listing in (config.root / name for name in config.exclude_lists):
        lines = read_lines(listing, "pictures to leave out")
        strange = [f"{line.text} (line {line.number})" for line in lines if line.text not in known]
        if strange:
            shown = ", ".join(strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
            problems.append(
                InputError(
                    listing, f"{len(strange)} of {len(lines)} names are not CelebA's: {shown}",
                    "files of CelebA, one per line", "give the list that belongs to these pictures",
                )
            )  # fmt: skip
        found.update(line.text for line in lines)
    return found


def _in_mafl(root: Path, base: Path, names: tuple[str, ...]) -> NDArray[np.bool_] | None:
    lists = [path for split in MAFL_LISTS if (path := mafl_list(root, base, split)).is_file()]
    if not lists:
        return None
    listed = {line.text for path in lists for line in read_lines(path, "MAFL's pictures")}
    return np.array([name in listed for name in names], dtype=bool)


def _remedy(root: Path) -> str:
    here = recognise(root)
    if here is not None:
        return f"set layout: {here['layout']}"
    return other_level(root, recognise) or "set layout:, or add the files"

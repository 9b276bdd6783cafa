"""MAFL: faces of CelebA with five landmarks, split into training and test by two lists.

Lies beside CelebA, in either layout that the format ``celeba`` reads; of CelebA it needs the
aligned pictures and their landmarks. The lists name one picture per line: 19,000 to train on and
1,000 to test on. There are no classes.

The pictures are CelebA's own, so a backbone that was pretrained on CelebA has seen them unless both
lists were left out: ``celeba`` has ``exclude_lists`` for it, and a check counts them.

Source: Zhang et al., Facial Landmark Detection by Deep Multi-task Learning, 2014; DVE
data_loader/data_loaders.py (``MAFLAligned``) for the files.
Differs: landmarks are read at the centres of their pixels, where DVE takes the corner.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
    NUM_IMAGES,
    PIXEL_CENTRE,
    POINTS,
    FaceSource,
    Layout,
    bases,
    mafl_list,
    named,
    rows,
)
from whytransfer.data.formats._leaks import shared
from whytransfer.data.formats._lists import Line, absent, read_lines, repeated
from whytransfer.data.images import failures
from whytransfer.data.sample import Source, Split

_NUM_LISTED: Mapping[Split, int] = {"train": 19_000, "test": 1_000}
_SHOWN = 3
_TRAIN = 0


class Config(FormatConfig):
    """Where MAFL lies.

    Attributes:
        layout: Torchvision's folder, or ``Img``, ``Anno`` and ``Eval`` of the official archive;
            the folder ``MAFL`` is in CelebA's own folder or in ``root``.
        pixel_centre: What is added to a landmark's whole number of a pixel.
    """

    layout: Layout = "torchvision"
    pixel_centre: float = assumed(0.5, PIXEL_CENTRE, ge=-1, le=1)


@dataclass(frozen=True)
class _Scan:
    """The text files, read and checked.

    Attributes:
        folder: Of the pictures.
        landmarks: CelebA's file.
        listings: The list of each split.
        points: Name of every picture of CelebA → its ten numbers.
        lines: The lists' lines, of each split.
    """

    folder: Path
    landmarks: Path
    listings: dict[Split, Path]
    points: dict[str, tuple[int, ...]]
    lines: dict[Split, list[Line]]
    problems: tuple[InputError, ...]


def open(config: Config, split: Split) -> Source:
    """Opens a split; no image is decoded.

    Raises:
        InputError: A file or folder is missing, a line malformed, a picture unknown to CelebA,
            listed twice or in both lists.
    """
    scan = _scan(config)
    refuse(scan.problems)
    return _source(config, scan, split)


def check(config: Config) -> Report:
    """Counts the pictures, also those in CelebA's training partition, and decodes every one."""
    try:
        scan = _scan(config)
    except InputError as error:
        return Report("mafl", {}, (error,))
    counts: dict[str, int] = {}
    problems = list(scan.problems)
    for split in config.splits:
        source = _source(config, scan, split)
        counts[f"{split} images"] = len(source)
        there = [index for index in range(len(source)) if source.path(index).is_file()]
        problems += failures(partial(_look, source), there)
        if len(scan.points) == NUM_IMAGES and len(source) != _NUM_LISTED[split]:
            problems.append(
                InputError(
                    scan.listings[split], f"lists {len(source)} pictures of the whole CelebA",
                    f"{_NUM_LISTED[split]} of them", "download the list again",
                )
            )  # fmt: skip
    counts |= _leaks(config, scan)
    problems += _same_files(config, scan)
    return Report("mafl", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if one of MAFL's lists is there, and CelebA's landmarks."""
    for layout in LAYOUTS:
        base = _base(path, layout)
        if base and any(mafl_list(path, base, split).is_file() for split in MAFL_LISTS):
            return {"root": str(path), "layout": layout}
    return None


def _base(root: Path, layout: str) -> Path | None:
    """Returns the folder that holds CelebA's landmarks in a layout."""
    file = LAYOUTS[layout]["aligned landmarks"]
    return next((base for base in bases(root) if (base / file).is_file()), None)


def _source(config: Config, scan: _Scan, split: Split) -> FaceSource:
    names = [line.text for line in scan.lines[split] if line.text in scan.points]
    points = [scan.points[name] for name in names]
    return FaceSource(
        folder=scan.folder,
        classes=(),
        names=tuple(names),
        labels=np.full(len(names), -1, dtype=np.int64),
        points=np.array(points, dtype=np.int32).reshape(-1, POINTS, 2),
        pixel_centre=config.pixel_centre,
        lists=(scan.landmarks, scan.listings[split]),
    )


def _scan(config: Config) -> _Scan:
    require_folder(config.root)
    files = LAYOUTS[config.layout]
    base = _base(config.root, config.layout)
    if base is None:
        raise InputError(
            config.root, f"holds no {files['aligned landmarks']}",
            f"MAFL beside CelebA in {config.layout}'s layout", _remedy(config.root),
        )  # fmt: skip
    listings = {split: mafl_list(config.root, base, split) for split in MAFL_LISTS}
    missing = [str(path) for path in listings.values() if not path.is_file()]
    if missing:
        raise InputError(
            " and ".join(missing), "no such file", "MAFL's lists beside CelebA",
            "add the folder MAFL with training.txt and testing.txt",
        )  # fmt: skip
    folder, landmarks = base / files["aligned"], base / files["aligned landmarks"]
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "CelebA's aligned pictures", "unpack them")
    problems: list[InputError] = []
    points = rows(landmarks, 2 * POINTS, problems, headed=True)
    lines = {split: read_lines(path, "MAFL's pictures") for split, path in listings.items()}
    for split, listing in listings.items():
        problems += repeated(listing, lines[split])
        problems += _unknown(listing, lines[split], points, landmarks)
        known = [line for line in lines[split] if line.text in points]
        gone = [line for line in known if not (folder / line.text).is_file()]
        problems += absent(listing, gone, len(lines[split]), folder)
    problems += _in_both(listings, lines)
    return _Scan(folder, landmarks, listings, points, lines, tuple(problems))


def _remedy(root: Path) -> str:
    here = recognise(root)
    if here is not None:
        return f"set layout: {here['layout']}"
    return other_level(root, recognise) or "give the folder that holds CelebA and MAFL"


def _unknown(
    listing: Path, lines: Sequence[Line], points: Mapping[str, Any], landmarks: Path
) -> list[InputError]:
    """Returns one problem for all names without landmarks."""
    strange = [line for line in lines if line.text not in points]
    if not strange:
        return []
    found = f"{len(strange)} of {len(lines)} names are not in {landmarks.name}: {_named(strange)}"
    todo = "give the landmarks of the whole CelebA, or correct the list"
    return [InputError(listing, found, "pictures of CelebA, one file name per line", todo)]


def _in_both(
    listings: Mapping[Split, Path], lines: Mapping[Split, Sequence[Line]]
) -> list[InputError]:
    """Returns one problem for all test pictures that are trained on."""
    trained = {line.text for line in lines["train"]}
    leaked = [line for line in lines["test"] if line.text in trained]
    if not leaked:
        return []
    found = f"lists {len(leaked)} pictures that {listings['train'].name} lists, too"
    todo = "take them out of one of the lists"
    where = listings["test"]
    return [InputError(where, f"{found}: {_named(leaked)}", "no picture in both lists", todo)]


def _same_files(config: Config, scan: _Scan) -> list[InputError]:
    """Returns one problem for all test pictures whose file is that of a training picture.

    Those that both lists name are named by :func:`_in_both`.
    """
    train, test = (dict(named(_source(config, scan, split))) for split in MAFL_LISTS)
    others = {name: path for name, path in test.items() if name not in train}
    return shared(scan.listings["test"], {"train": train.items(), "test": others.items()})


def _named(lines: Sequence[Line]) -> str:
    shown = ", ".join(f"{line.text} (line {line.number})" for line in lines[:_SHOWN])
    return shown + (", ..." if len(lines) > _SHOWN else "")


def _look(source: FaceSource, index: int) -> None:
    """Decodes a picture and looks at its landmarks.

    Raises:
        InputError: It can't be decoded, or a landmark is outside, or both eyes are at one place.
    """
    height, width = source[index].image.shape[:2]
    points = source.landmarks(index)
    outside = (points < 0).any(axis=1) | (points > (width, height)).any(axis=1)
    if outside.any():
        raise InputError(
            source.path(index), f"landmark {points[outside][0].tolist()} is outside the picture",
            f"0 to {width} across and 0 to {height} down", f"correct {source.lists[0].name}",
        )  # fmt: skip
    if (points[0] == points[1]).all():
        raise InputError(
            source.path(index), f"both eyes are at {points[0].tolist()}",
            "two places, whose distance errors are measured in", f"correct {source.lists[0].name}",
        )  # fmt: skip


def _leaks(config: Config, scan: _Scan) -> Iterator[tuple[str, int]]:
    """Yields how many pictures of each list are in CelebA's training partition, if it is there."""
    base = _base(config.root, config.layout)
    assert base is not None
    partition = base / LAYOUTS[config.layout]["partition"]
    if not partition.is_file():
        return
    parts = rows(partition, 1, [])
    for split, lines in scan.lines.items():
        count = sum(parts.get(line.text) == (_TRAIN,) for line in lines)
        yield f"{split} images in CelebA's training partition", count

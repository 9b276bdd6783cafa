"""Which images of one dataset are in another: a test set that was trained on measures memory.

An image is found again if its file is the same, its pixels are the same, or it is a near duplicate:
its perceptual hash (64 bits of a cosine transform, by ``imagehash``) differs in few bits and its
8×8 thumbnail in few grey levels. So found are images that were saved again, at another quality or
size; not found are mirrored, cropped and recoloured ones.

On 628,100 pairs of different images of the world and of tiles of photographs, 8 bits and 6 levels
called one pair near (the hash alone: 396); of images saved again (JPEG quality 90, 50; half and
one and a half times the size; 75 % of it at quality 75) they found 99 to 100 %, of tiles, some of
which are plain sky, 91 to 97 %.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.environment import num_cores
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.data.dataset import parse_reference
from whytransfer.data.format import ReadConfig
from whytransfer.data.images import is_image
from whytransfer.data.sample import Source

MAX_DISTANCE = 8
"""Bits in which the hashes of near duplicates differ at most, of 64."""

_MAX_LEVELS = 6.0
_THUMB = 8
_ROWS, _COLUMNS = 256, 8192
_SHOWN = 20

Kind = Literal["file", "pixels", "near"]
_WORDS: dict[Kind, str] = {
    "file": "the same file as",
    "pixels": "the same pixels as",
    "near": "a near duplicate of",
}


@dataclass(frozen=True)
class Match:
    """An image that was found again.

    Attributes:
        name: ``<split>/<name>`` in the dataset that was looked through.
        other: The same in the dataset where it was found; the most alike one, if several are.
        kind: What is the same.
        distance: Bits in which the hashes differ.
    """

    name: str
    other: str
    kind: Kind
    distance: int

    def __str__(self) -> str:
        bits = f" ({self.distance} bits apart)" if self.kind == "near" else ""
        return f"{self.name}: {_WORDS[self.kind]} {self.other}{bits}"


@dataclass(frozen=True)
class Overlap:
    """What a comparison found.

    Attributes:
        num_images: Images of the first dataset.
        num_others: Images of the second.
        max_distance: What was called near.
        matches: The images of the first that are in the second, each once.
        problems: Images that can't be read and were not compared.
    """

    num_images: int
    num_others: int
    max_distance: int
    matches: tuple[Match, ...]
    problems: tuple[InputError, ...]

    @property
    def counts(self) -> dict[Kind, int]:
        """How many images were found again in each way."""
        found = Counter(match.kind for match in self.matches)
        return {kind: found[kind] for kind in _WORDS}

    def lines(self) -> list[str]:
        """Says it in lines for people: the counts, the first matches, what can't be read."""
        parts = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in self.counts.items())
        lines = [
            f"{len(self.matches)} of {self.num_images} images are among the {self.num_others} "
            f"others: {parts}"
        ]
        lines += [str(match) for match in self.matches[:_SHOWN]]
        if len(self.matches) > _SHOWN:
            lines.append(f"and {len(self.matches) - _SHOWN} more; --json lists all")
        return lines + [str(problem) for problem in self.problems]

    def to_plain(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return {
            "images": self.num_images,
            "others": self.num_others,
            "max_distance": self.max_distance,
            "counts": dict(self.counts),
            "matches": [vars(match) for match in self.matches],
            "problems": [str(problem) for problem in self.problems],
        }


def overlap(
    reference: str,
    other: str,
    fields: Mapping[str, Any] | None = None,
    max_distance: int = MAX_DISTANCE,
) -> Overlap:
    """Looks for the images of one dataset, all splits, among those of another.

    Args:
        reference: ``format:folder``, or a folder whose format is recognised.
        other: As ``reference``: where its images must not be.
        fields: Fields of the first one's format that stand instead of the recognised ones.
        max_distance: Bits in which the hashes of near duplicates differ at most.

    Raises:
        InputError: A dataset can't be opened, or a field is unknown.
    """
    return between(_splits(reference, fields or {}), _splits(other, {}), max_distance)


Splits = Iterable[tuple[str, Source]]
"""Opened splits of datasets, each with what the names of its images are to begin with."""


def between(ours: Splits, theirs: Splits, max_distance: int = MAX_DISTANCE) -> Overlap:
    """Looks for the images of some splits among those of others; see :func:`overlap`."""
    return _compared(_Prints.of(ours), _Prints.of(theirs), max_distance)


def _compared(ours: "_Prints", theirs: "_Prints", max_distance: int) -> Overlap:
    found = dict(_near(ours, theirs, max_distance))
    exact: tuple[tuple[Kind, tuple[str, ...], tuple[str, ...]], ...] = (
        ("pixels", ours.pixels, theirs.pixels),
        ("file", ours.files, theirs.files),
    )
    for kind, one, another in exact:
        places = {digest: place for place, digest in reversed(list(enumerate(another)))}
        for place, digest in enumerate(one):
            if digest and digest in places:
                found[place] = (places[digest], kind, 0)
    matches = tuple(
        Match(ours.names[place], theirs.names[at], kind, distance)
        for place, (at, kind, distance) in sorted(found.items())
    )
    return Overlap(
        len(ours.names), len(theirs.names), max_distance, matches, ours.problems + theirs.problems
    )


@dataclass(frozen=True)
class _Prints:
    """What is compared of each image of a dataset.

    Attributes:
        files: SHA-256 of the file, empty where the image is none of its own.
        pixels: SHA-256 of the decoded pixels.
        hashes: (N,) uint64 perceptual hashes.
        thumbs: (N, 8, 8, 3) uint8.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    pixels: tuple[str, ...]
    hashes: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    problems: tuple[InputError, ...]

    @classmethod
    def of(cls, splits: Splits) -> "_Prints":
        """Reads every image of some splits."""
        read = list(_read(splits))
        names = [name for name, one in read if isinstance(one, _Print)]
        prints = [one for _, one in read if isinstance(one, _Print)]
        problems = [one for _, one in read if isinstance(one, InputError)]
        return cls(
            tuple(names),
            tuple(one.file for one in prints),
            tuple(one.pixels for one in prints),
            np.array([one.hash for one in prints], dtype=np.uint64),
            np.array([one.thumb for one in prints], dtype=np.uint8).reshape(-1, _THUMB, _THUMB, 3),
            tuple(problems),
        )


@dataclass(frozen=True)
class _Print:
    file: str
    pixels: str
    hash: int
    thumb: NDArray[np.uint8]


def _splits(reference: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Source]]:
    """Opens the splits of the dataset that a person named, one when the last one is read."""
    spec = parse_reference(reference) | dict(fields)
    module = plugins.find("format", str(spec.pop("format")))
    config: ReadConfig = build(module.Config, spec, f"data check {reference}")
    for split in config.splits:
        yield split, module.open(config, split)


def _read(splits: Splits) -> Iterator[tuple[str, "_Print | InputError"]]:
    """Yields ``<split>/<name>`` of every image with its print, or why it can't be read."""
    with ThreadPoolExecutor(num_cores()) as pool:
        for split, source in splits:
            prints = pool.map(partial(_attempt, source), range(len(source)))
            for index, one in enumerate(prints):
                yield f"{split}/{source.name(index)}", one


def _attempt(source: Source, index: int) -> "_Print | InputError":
    path = Path(source.path(index))
    try:
        image = np.ascontiguousarray(source[index].image)
        file = hash_file(path) if is_image(path.name) else ""
    except InputError as error:
        return error
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(image.tobytes())
    thumb = cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return _Print(file, digest.hexdigest(), perceptual_hash(image), np.asarray(thumb))


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """Returns the 64 bits of ``imagehash.phash`` of an RGB image as a number."""
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(image)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _near(
    ours: _Prints, theirs: _Prints, max_distance: int
) -> Iterator[tuple[int, tuple[int, Kind, int]]]:
    """Yields each of our images that has near duplicates, with the nearest of them."""
    best = np.full(len(ours.names), max_distance + 1, dtype=np.int64)
    place = np.full(len(ours.names), -1, dtype=np.int64)
    for rows, columns, distance in _close(ours.hashes, theirs.hashes, max_distance):
        apart = np.abs(ours.thumbs[rows].astype(np.int16) - theirs.thumbs[columns])
        alike = apart.mean(axis=(1, 2, 3)) <= _MAX_LEVELS
        for row, column, bits in zip(rows[alike], columns[alike], distance[alike], strict=True):
            if bits < best[row]:
                best[row], place[row] = bits, column
    for row in np.flatnonzero(place >= 0).tolist():
        yield row, (int(place[row]), "near", int(best[row]))


def _close(
    one: NDArray[np.uint64], other: NDArray[np.uint64], max_distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
    """Yields the pairs of hashes that differ in few bits, block by block."""
    for top in range(0, len(one), _ROWS):
        for left in range(0, len(other), _COLUMNS):
            block = one[top : top + _ROWS, None] ^ other[None, left : left + _COLUMNS]
            bits = np.bitwise_count(block)
            rows, columns = np.nonzero(bits <= max_distance)
            if len(rows):
                yield rows + top, columns + left, bits[rows, columns]

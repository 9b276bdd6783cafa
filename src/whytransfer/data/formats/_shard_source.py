"""One split of a set of shards, opened, and what can be wrong with the shards it names."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.formats._folders import Folder, LocalFolder
from whytransfer.data.formats._shard_index import INDEX, Index
from whytransfer.data.formats._shard_labels import CLASSES, NO_LABEL
from whytransfer.data.images import decode_image, size_of
from whytransfer.data.sample import Sample, Unannotated


@dataclass(frozen=True, eq=False)
class ShardSource(Unannotated):
    """The images of one split, shard by shard; some arrays, cheap to pickle.

    Attributes:
        labels: (N,) int64 index into ``classes``, or -1.
        known: Content hashes, as :meth:`recorded` returns them.
        extra: Further local files that determine the content.
    """

    folder: Folder
    index: Index
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    known: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        image = decode_image(self.encoded(index), self._where(index))
        return Sample(image, self.name(index), self.label(index))

    def encoded(self, index: int) -> bytes:
        """Reads an image's bytes as they are stored.

        Raises:
            InputError: The shard is missing or can't be read, or ends inside the image.
        """
        row = self.index
        number, size, start = int(row.shard[index]), int(row.size[index]), int(row.start[index])
        whole = int(row.sizes[number])
        data = self.folder.read(row.shards[number], start, size, whole) if size else b""
        if len(data) < size:
            # What begins behind the end has no end of its own to name.
            end = self.folder.stamp(row.shards[number]).size
            raise _cut(self._where(index), end, whole)
        return data

    def member(self, index: int) -> str:
        """Returns the image's name in its tar."""
        return self.index.members[index]

    def name(self, index: int) -> str:
        """Returns the name that the sample's ``json`` gives, else ``<shard>:<member>``."""
        shard = self.index.shards[int(self.index.shard[index])]
        return self.index.names[index] or f"{shard}:{self.member(index)}"

    def path(self, index: int) -> Path:
        """Returns the file of the image's shard; on a server, its name alone."""
        shard = self.index.shards[int(self.index.shard[index])]
        return self.folder.root / shard if isinstance(self.folder, LocalFolder) else Path(shard)

    def label(self, index: int) -> int | None:
        """Returns the number of the class, ``None`` where the shards have no labels."""
        label = int(self.labels[index])
        return None if label == NO_LABEL else label

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) from the image's header."""
        return size_of(io.BytesIO(self.encoded(index)), self._where(index))

    def files(self) -> Iterator[Path]:
        """Lists the local files: the shards, and the names of the classes."""
        yield from self.extra
        if isinstance(self.folder, LocalFolder):
            yield from (self.folder.root / shard for shard in self.index.shards)

    def recorded(self) -> Mapping[str, str]:
        """Returns the hashes that an index promises, and those of what lies on a server."""
        return self.known

    def _where(self, index: int) -> str:
        shard = self.index.shards[int(self.index.shard[index])]
        return f"{self.folder.where(shard)}:{self.member(index)}"


def known_hashes(
    folder: Folder, index: Index, hashed: bool, listed: bytes | None
) -> dict[str, str]:
    """Collects the hashes that :meth:`ShardSource.recorded` returns."""
    if isinstance(folder, LocalFolder):
        paths = [folder.where(shard) for shard in index.shards]
        return dict(zip(paths, index.marks, strict=True)) if hashed else {}
    marks = index.marks
    if not hashed:
        sizes = index.sizes.tolist()
        marks = tuple(f"{size} {mark}" for size, mark in zip(sizes, index.marks, strict=True))
    names = {} if listed is None else {CLASSES: hashlib.sha256(listed).hexdigest()}
    return dict(zip(index.shards, marks, strict=True)) | names


def size_problems(folder: Folder, index: Index) -> list[InputError]:
    """Returns one problem for each local shard of another size than the index says.

    On a server the size comes with every answer, and is compared there.
    """
    problems = []
    for number, shard in enumerate(index.shards if isinstance(folder, LocalFolder) else ()):
        try:
            found, expected = folder.stamp(shard).size, int(index.sizes[number])
        except InputError as error:
            problems.append(error)
            continue
        if found == expected:
            continue
        rows = np.flatnonzero((index.shard == number) & (index.start + index.size > found))
        inside = f":{index.members[int(rows[0])]}" if rows.size else ""
        problems.append(_cut(f"{folder.where(shard)}{inside}", found, expected))
    return problems


def repeated_names(folder: Folder, index: Index) -> list[InputError]:
    """Returns a problem where two samples have one name."""
    names = [name for name in index.names if name]
    if len(set(names)) == len(names):
        return []
    twice = next(
        name for place, name in enumerate(sorted(names)[1:]) if sorted(names)[place] == name
    )
    return [InputError(folder.where(""), f"the name {twice!r} stands twice", "unique names")]


def _cut(where: str, found: int, expected: int) -> InputError:
    return InputError(
        where, f"the shard ends at byte {found}, the index says {expected}",
        "the shard as it was indexed", f"copy it again, or remove {INDEX} if it was replaced",
    )  # fmt: skip

"""The offset index of a set of tar shards, so that any image is one read away.

``data make --shards`` writes it beside the shards as ``index.npz``, with the SHA-256 of each. For
other shards it is built once, by a pass over the headers, and kept in the user's cache folder for
as long as sizes and times of change (on a server: ETags) stay the same.
"""

import contextlib
import dataclasses
import io
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.environment import num_cores
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint
from whytransfer.data.formats._folders import Folder, Stamp
from whytransfer.data.formats._shard_scan import scan_shard
from whytransfer.data.formats._texts import Texts

INDEX = "index.npz"
"""The file beside shards that ``data make --shards`` writes."""

_VERSION = 1
_TEXTS = ("members", "names", "labels")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Index:
    """Where each image of a list of shards lies, shard by shard.

    Attributes:
        shards: Their names below the folder.
        sizes: (S,) int64, in bytes.
        marks: What tells one content of a shard from another: its SHA-256 in an ``index.npz``, else
            the mark of its stamp.
        shard: (N,) int32 index into ``shards``, ascending.
        start: (N,) int64, where the image's bytes begin in the shard.
        size: (N,) int64, how many they are.
        members: The image's name in the tar.
        names: The image's own name; empty where there is none.
        labels: The label as it is written; empty where there is none.
    """

    shards: tuple[str, ...]
    sizes: NDArray[np.int64]
    marks: tuple[str, ...]
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    members: Texts
    names: Texts
    labels: Texts

    def __len__(self) -> int:
        return len(self.shard)

    def select(self, shards: Sequence[str]) -> "Index":
        """Returns the index of some of the shards, in the order given."""
        if tuple(shards) == self.shards:
            return self
        chosen = [self.shards.index(name) for name in shards]
        bounds = np.searchsorted(self.shard, np.arange(len(self.shards) + 1)).tolist()
        spans = [(bounds[number], bounds[number + 1]) for number in chosen]
        rows = np.concatenate([np.arange(first, stop) for first, stop in spans])
        counts = [stop - first for first, stop in spans]
        texts = [
            Texts.joined([getattr(self, name).part(first, stop) for first, stop in spans])
            for name in _TEXTS
        ]
        return Index(
            tuple(shards),
            self.sizes[chosen],
            tuple(self.marks[number] for number in chosen),
            np.repeat(np.arange(len(chosen), dtype=np.int32), counts),
            self.start[rows],
            self.size[rows],
            *texts,
        )

    def with_marks(self, marks: tuple[str, ...]) -> "Index":
        """Returns the same index with other marks of the shards' content."""
        return dataclasses.replace(self, marks=marks)

    def to_bytes(self) -> bytes:
        """Writes it as the content of an ``.npz`` file, the same bytes for the same index."""
        arrays = {"version": np.array(_VERSION), "sizes": self.sizes, "shard": self.shard}
        arrays |= {"start": self.start, "size": self.size}
        texts = {"shards": Texts.of(self.shards), "marks": Texts.of(self.marks)}
        for name, value in (texts | {name: getattr(self, name) for name in _TEXTS}).items():
            arrays |= {f"{name}_data": value.data, f"{name}_ends": value.ends}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()


def read_index(data: bytes, where: str) -> Index:
    """Reads what :meth:`Index.to_bytes` wrote.

    Raises:
        InputError: It is no such file, or one of another version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            version = int(arrays["version"])
            if version != _VERSION:
                raise ValueError(f"version {version}")
            texts = {
                name: Texts(arrays[f"{name}_data"], arrays[f"{name}_ends"])
                for name in ("shards", "marks", *_TEXTS)
            }
            return Index(
                tuple(texts["shards"]),
                arrays["sizes"],
                tuple(texts["marks"]),
                arrays["shard"],
                arrays["start"],
                arrays["size"],
                *(texts[name] for name in _TEXTS),
            )
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            where, f"is no index of shards ({error})", f"version {_VERSION} of the index",
            "remove it, or write the shards anew with `data make --shards`",
        ) from None  # fmt: skip


def build(
    folder: Folder, shards: Sequence[str], stamps: Sequence[Stamp]
) -> tuple[Index, list[InputError]]:
    """Builds an index by reading the headers of every shard; problems come with it."""
    _log.info("indexing %d shards of %s", len(shards), folder.where(""))
    with ThreadPoolExecutor(num_cores()) as pool:
        sizes = [stamp.size for stamp in stamps]
        scans = list(pool.map(scan_shard, [folder] * len(shards), shards, sizes))
    entries = [entry for found, _ in scans for entry in found]
    counts = [len(found) for found, _ in scans]
    index = Index(
        tuple(shards),
        np.array(sizes, dtype=np.int64),
        tuple(stamp.mark for stamp in stamps),
        np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        np.array([entry.start for entry in entries], dtype=np.int64),
        np.array([entry.size for entry in entries], dtype=np.int64),
        Texts.of(entry.member for entry in entries),
        Texts.of(entry.name for entry in entries),
        Texts.of(entry.label for entry in entries),
    )
    return index, [problem for _, problems in scans for problem in problems]


def kept(folder: Folder, shards: Sequence[str], stamps: Sequence[Stamp]) -> Index | None:
    """Returns the index of these shards from the cache, where they are as they were."""
    try:
        index = read_index(_cache_file(folder, shards).read_bytes(), "")
    except (OSError, InputError):
        return None  # absent or damaged: built anew
    now = [(stamp.size, stamp.mark) for stamp in stamps]
    then = list(zip(index.sizes.tolist(), index.marks, strict=True))
    return index if index.shards == tuple(shards) and now == then else None


def keep(folder: Folder, index: Index) -> None:
    """Puts an index into the cache; a cache that can't be written does no harm."""
    path = _cache_file(folder, index.shards)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.part")
        aside.write_bytes(index.to_bytes())
        aside.replace(path)


def _cache_file(folder: Folder, shards: Sequence[str]) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = fingerprint(json.dumps([folder.where(""), *shards]))
    return Path(home, "whytransfer", "shards", f"{name[:32]}.npz")

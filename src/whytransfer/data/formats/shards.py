"""WebDataset's tar shards, read one image at a time, from a folder or over HTTP.

Any image is one read at a known offset, so order, resume and augmentation are those of a folder of
files: a dataset written as files and as shards trains to the same bits. A sample's label is its
``cls`` member or the ``label`` of its ``json``; the classes are the lines of ``classes.txt`` beside
the shards, which numbers count from 0, or else the sorted labels of the training shards.

What a fingerprint is made of: of local shards, their bytes; of shards on a server, the SHA-256 in
the ``index.npz`` beside them, or where there is none, each shard's length and ETag (else its
Last-Modified). Without that index a server needs the shards' names in full or as a range, and is
asked for every header once.

Source: the WebDataset format (Aizman, Maltby, Breuel 2019).
"""

import fnmatch
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.data.format import ReadConfig, Report, distinct, refuse, require_folder
from whytransfer.data.formats._folders import Folder, HttpFolder, LocalFolder
from whytransfer.data.formats._shard_index import INDEX, Index, build, keep, kept, read_index
from whytransfer.data.formats._shard_labels import (
    CLASSES,
    found_classes,
    listed_classes,
    numbered,
)
from whytransfer.data.formats._shard_scan import begins_with_images, scan_shard
from whytransfer.data.formats._shard_source import (
    ShardSource,
    known_hashes,
    repeated_names,
    size_problems,
)
from whytransfer.data.images import failures
from whytransfer.data.sample import Source, Split

_PATTERNS: dict[str, tuple[str, ...]] = {
    "train": ("train-*.tar", "*train*.tar", "train/*.tar"),
    "test": ("val-*.tar", "*val*.tar", "val/*.tar", "test-*.tar", "*test*.tar", "test/*.tar"),
}
_NUMBERED = re.compile(r".*\d\.tar")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def _place(root: str) -> str:
    if re.match(r"https?://", root):
        if "?" in root or "#" in root:
            raise ValueError("the address of a folder can't have a query")
        return root.rstrip("/")
    if "://" in root:
        raise ValueError("shards are read from a folder, http:// or https://")
    return str(Path(root).expanduser())


class Config(ReadConfig):
    """Which shards are read, and from where.

    Attributes:
        root: Their folder, or its address on a server (``http://...``). It enters no fingerprint.
        train: Shards of the training images below ``root``: a pattern (``train-*.tar``), a range
            (``train-{000000..000146}.tar``), a name, or a list of these.
        test: The same for the test images; ``null`` where there are none.
    """

    root: Annotated[str, AfterValidator(_place)]
    train: str | tuple[str, ...] = _PATTERNS["train"][0]
    test: str | tuple[str, ...] | None = _PATTERNS["test"][0]

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where ``test`` is ``null``."""
        return ("train",) if self.test is None else ("train", "test")

    @property
    def folder(self) -> Folder:
        """The place of the shards."""
        return HttpFolder(self.root) if "://" in self.root else LocalFolder(Path(self.root))


def open(config: Config, split: Split) -> Source:
    """Opens a split: finds or builds its index, decodes no image.

    Raises:
        InputError: A shard is missing, damaged or no tar, a label is missing or unknown, or the
            server can't be read in parts.
    """
    source, problems = _scan(config, split)
    refuse(problems)
    return source


def check(config: Config) -> Report:
    """Reads every header and decodes every image; local shards must be as their index says."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    for split in config.splits:
        try:
            problems += _damages(config, split)
            source, found = _scan(config, split)
        except InputError as error:
            problems.append(error)
            continue
        counts["classes"] = len(source.classes)
        counts[f"{split} shards"] = len(source.index.shards)
        counts[f"{split} images"] = len(source)
        problems += [*found, *failures(source.__getitem__, range(len(source)))]
    return Report("shards", counts, distinct(problems))


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder holds numbered tars of images.

    The tars in which other datasets are published lie beside what was unpacked; those have no
    number at the end of their names, or hold other things.
    """
    places = (path, path / "train", path / "val", path / "test")
    found = [tar.relative_to(path).as_posix() for place in places for tar in place.glob("*.tar")]
    names = sorted(name for name in found if _NUMBERED.fullmatch(name))
    fields = _fields(names)
    if fields is None:
        return None
    first = next(name for name in names if _fits(name, fields["train"]))
    size = (path / first).stat().st_size
    found_images = begins_with_images(LocalFolder(path), first, size)
    return {"root": str(path), **fields} if found_images else None


def recognise_url(url: str) -> dict[str, Any]:
    """Returns the fields of ``Config`` for shards on a server, from the index beside them.

    Raises:
        InputError: The server can't be read, or the address is none.
    """
    made = _made(HttpFolder(_place(url))) if re.match(r"https?://", url) else None
    return {"root": url, **((_fields(made.shards) if made else None) or {})}


def _fields(names: Sequence[str]) -> dict[str, Any] | None:
    """Chooses the patterns of the splits: the first that fits a name."""
    chosen = {
        split: next((p for p in patterns if any(_fits(name, p) for name in names)), None)
        for split, patterns in _PATTERNS.items()
    }
    if chosen["train"] is not None:
        return chosen
    plain = chosen["test"] is None and any("/" not in name for name in names)
    return {"train": "*.tar", "test": None} if plain else None


def _fits(name: str, pattern: str) -> bool:
    """Says whether a name fits a pattern whose ``*`` goes no further than a ``/``."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _scan(config: Config, split: Split) -> tuple[ShardSource, list[InputError]]:
    if split not in config.splits:
        raise InputError(config.root, "has no test images (test: null)", "shards of test images")
    folder = config.folder
    if isinstance(folder, LocalFolder):
        require_folder(folder.root)
    made = _made(folder)
    index, problems = _index(folder, _shards(config, split, made), made)
    listed = folder.whole(CLASSES)
    if listed is not None:
        classes, number = listed_classes(listed, folder.where(CLASSES))
    else:
        train = index if split == "train" else _train_index(config, made)
        classes, number = found_classes(train)
    labels, wrong = numbered(folder, index, number)
    problems += wrong + repeated_names(folder, index)
    known = known_hashes(folder, index, made is not None, listed)
    local = isinstance(folder, LocalFolder) and listed is not None
    extra = (Path(folder.where(CLASSES)),) if local else ()
    return ShardSource(folder, index, classes, labels, known, extra), problems


def _train_index(config: Config, made: Index | None) -> Index:
    index, problems = _index(config.folder, _shards(config, "train", made), made)
    refuse(problems)
    return index


def _made(folder: Folder) -> Index | None:
    """Reads the index that was written beside the shards."""
    data = folder.whole(INDEX)
    return None if data is None else read_index(data, folder.where(INDEX))


def _shards(config: Config, split: Split, made: Index | None) -> list[str]:
    """Names the shards of a split, in order.

    Raises:
        InputError: None fits, or there is one that the index beside them does not know.
    """
    folder, chosen = config.folder, getattr(config, split)
    patterns = [chosen] if isinstance(chosen, str) else list(chosen or ())
    names: list[str] = []
    for pattern in itertools.chain.from_iterable(map(_ranged, patterns)):
        indexed = [name for name in made.shards if _fits(name, pattern)] if made else []
        there = [] if indexed and isinstance(folder, HttpFolder) else folder.names(pattern)
        names += sorted({*indexed, *there} - set(names))
    if not names:
        todo = f"set {split}: to the names of the {split} shards"
        todo += ", or test: null where there are none" if split == "test" else ""
        raise InputError(config.root, f"no shard fits {', '.join(patterns)}", "tar files", todo)
    unknown = [name for name in names if made is not None and name not in made.shards]
    if unknown:
        found = f"does not know {', '.join(unknown[:3])}"
        todo = "remove it, or write the shards anew with `data make --shards`"
        raise InputError(folder.where(INDEX), found, "the index of the shards beside it", todo)
    return names


def _ranged(pattern: str) -> Iterator[str]:
    """Yields the names of a range such as ``train-{000..146}.tar``.

    >>> list(_ranged("a-{08..10}.tar"))
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        text = str(number).zfill(len(match[1]))
        yield from _ranged(pattern[: match.start()] + text + pattern[match.end() :])


def _index(
    folder: Folder, shards: Sequence[str], made: Index | None
) -> tuple[Index, list[InputError]]:
    """Returns the index of some shards: as written beside them, as kept, or built now."""
    if made is not None:
        index = made.select(shards)
        return index, size_problems(folder, index)
    stamps = [folder.stamp(shard) for shard in shards]
    found = kept(folder, shards, stamps)
    if found is not None:
        return found, []
    index, problems = build(folder, shards, stamps)
    if not problems and all(stamp.settled for stamp in stamps):
        keep(folder, index)
    return index, problems


def _damages(config: Config, split: Split) -> Iterator[InputError]:
    """Yields what a pass over local shards finds that have an index: it may not fit them."""
    folder, made = config.folder, _made(config.folder)
    if made is None or not isinstance(folder, LocalFolder):
        return
    for shard in _shards(config, split, made):
        path = folder.root / shard
        if not path.is_file():
            continue  # missing: said when it is opened
        yield from scan_shard(folder, shard, path.stat().st_size)[1]
        if hash_file(path) != made.marks[made.shards.index(shard)]:
            found = f"its SHA-256 is not the one in {INDEX}"
            yield InputError(path, found, "the shard as it was indexed", "copy it again")

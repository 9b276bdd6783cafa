"""A dataset: a format, where it lies, and the fingerprint of its content.

The fingerprint is made from the hashes of all files of both splits and the fields that say how
they are read, never from a path: the same files in another place are the same dataset. What lies
on a server is named by the hashes that its source knows of it.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from whytransfer.core import plugins
from whytransfer.core.config import build, to_plain
from whytransfer.core.environment import num_cores
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint, hash_file
from whytransfer.core.store import write_text
from whytransfer.core.streams import Stream
from whytransfer.data.format import ReadConfig, other_level, require_folder
from whytransfer.data.sample import Objects, Sample, Segmentation, Source, Split

_log = logging.getLogger(__name__)

_SETTLED_SECONDS = 2.0


@runtime_checkable
class Recorded(Protocol):
    """A source that knows content hashes before anything is hashed."""

    def recorded(self) -> Mapping[str, str]:
        """Maps names to hashes.

        A name that is the path of one of ``files()`` is a promise that is verified; any other
        names what lies elsewhere and can't be hashed here, and enters the fingerprint as it is.
        """


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk; :meth:`open` reads its annotations.

    Attributes:
        format: Name or dotted path of the format.
        config: The format's configuration, which holds the root.
        fingerprint: Of all files of both splits and how they are read.
    """

    format: str
    config: ReadConfig
    fingerprint: str

    def open(self, split: Split) -> Source:
        """Opens one split.

        Raises:
            InputError: Its files are missing, misplaced or malformed.
        """
        source: Source = plugins.find("format", self.format).open(self.config, split)
        return source


def from_spec(spec: Mapping[str, Any], cache: Path | None, where: str) -> Dataset:
    """Makes a dataset of what a study or a command line says, and fingerprints its files.

    Args:
        spec: ``format``, ``root`` and the format's other fields.
        cache: A JSON file that keeps the hashes of files whose size and time of change have stayed;
            ``None`` hashes all of them.
        where: Where the spec came from, for the messages.

    Raises:
        InputError: The format or a field is unknown, the files are not in that format, or the test
            split has other classes than the training split (in a format that has new classes there:
            the same).
    """
    fields = dict(spec)
    name = str(fields.pop("format", ""))
    if not name:
        known = ", ".join(plugins.names("format"))
        raise InputError(f"{where}, field format", "missing", f"one of {known}", "add format: ...")
    module = plugins.find("format", name)
    config: ReadConfig = build(module.Config, fields, where)
    sources: dict[str, Source] = {split: module.open(config, split) for split in config.splits}
    if config.NEW_CLASSES:
        _new_classes(sources, where)
    else:
        _same_classes(sources, where)
    return Dataset(name, config, _fingerprint(name, config, sources, cache))


def made(root: Path, fields: Mapping[str, Any], known_fingerprint: str) -> Dataset:
    """Makes a dataset of files that the store holds under a fingerprint, so nothing is hashed.

    Args:
        root: The folder of the files.
        fields: ``format`` and its fields, without ``root``.
        known_fingerprint: Of the artifact.
    """
    rest = {key: value for key, value in fields.items() if key != "format"}
    module = plugins.find("format", str(fields["format"]))
    config: ReadConfig = build(module.Config, {**rest, "root": str(root)}, str(root))
    return Dataset(str(fields["format"]), config, known_fingerprint)


def parse_reference(reference: str) -> dict[str, Any]:
    """Reads ``format:folder``, or a folder whose format is recognised, as a dataset's spec.

    A format that reads over HTTP takes ``format:http://...``.

    Raises:
        InputError: The format is unknown, or the folder is missing or has no known format.
    """
    if re.match(r"https?://", reference):
        raise InputError(
            reference,
            "an address without a format",
            "shards:http://...",
            f"give shards:{reference}",
        )
    match = re.fullmatch(r"([\w.]+):(.+)", reference)
    if match is None or Path(reference).exists():
        return look(Path(reference).expanduser())
    module = plugins.find("format", match[1])
    if "://" in match[2]:
        if not hasattr(module, "recognise_url"):
            raise InputError(reference, f"{match[1]} reads no addresses", "a folder, or shards:URL")
        return {"format": match[1], **module.recognise_url(match[2])}
    root = Path(match[2]).expanduser()
    fields = module.recognise(root) if root.is_dir() else None
    return {"format": match[1], **(fields or {"root": str(root)})}


def look(path: Path) -> dict[str, Any]:
    """Returns the spec of the dataset in a folder, its format recognised by looking at the files.

    Raises:
        InputError: The folder is missing, has no known format or several, or lies one level too
            high or low.
    """
    require_folder(path)
    modules = {name: plugins.find("format", name) for name in plugins.names("format")}
    last = {name: m for name, m in modules.items() if getattr(m, "LAST_RESORT", False)}
    first = {name: module for name, module in modules.items() if name not in last}
    specs = _recognised(path, first)
    if len(specs) == 1:
        return specs[0]
    if specs:
        found = " and ".join(spec["format"] for spec in specs)
        todo = "name one: " + " or ".join(f"{spec['format']}:{path}" for spec in specs)
        raise InputError(path, f"looks like {found}", "a folder of one format", todo)
    todo = next(filter(None, (other_level(path, m.recognise) for m in first.values())), "")
    specs = [] if todo else _recognised(path, last)
    if specs:
        return specs[0]
    raise InputError(
        path, "no format recognised", f"a folder of one of the formats {', '.join(modules)}",
        todo or "see `whytransfer ls` for what each looks like, or name it as format:folder",
    )  # fmt: skip


def _recognised(path: Path, modules: Mapping[str, ModuleType]) -> list[dict[str, Any]]:
    found = {name: module.recognise(path) for name, module in modules.items()}
    return [{"format": name, **fields} for name, fields in found.items() if fields is not None]


def limited(source: Source, num_images: int | None) -> Source:
    """Returns a source of that many images, taken in a fixed random choice; classes stay.

    ``None``, or a number as large as the source, returns the source itself.
    """
    if num_images is None or num_images >= len(source):
        return source
    return subset(source, np.sort(Stream(0, "limit").permutation(len(source))[:num_images]))


def subset(source: Source, indices: NDArray[np.int64]) -> Source:
    """Returns a source of some of the images, in the order given; classes and files stay."""
    return _Limited(source, indices)


def image_name(source: Source, index: int) -> str:
    """Names an image for messages: its number in the whole split, and its name."""
    name = source.name(index)
    while isinstance(source, _Limited):
        index = int(source.chosen[index])
        source = source.source
    return f"{index} ({name})"


@dataclass(frozen=True)
class _Limited:
    source: Source
    chosen: NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        return self.source[int(self.chosen[index])]

    def name(self, index: int) -> str:
        return self.source.name(int(self.chosen[index]))

    def path(self, index: int) -> Path:
        return self.source.path(int(self.chosen[index]))

    def label(self, index: int) -> int | None:
        return self.source.label(int(self.chosen[index]))

    def size(self, index: int) -> tuple[int, int]:
        return self.source.size(int(self.chosen[index]))

    def objects(self, index: int) -> Objects | None:
        return self.source.objects(int(self.chosen[index]))

    def landmarks(self, index: int) -> NDArray[np.float64] | None:
        return self.source.landmarks(int(self.chosen[index]))

    def segmentation(self, index: int) -> Segmentation | None:
        return self.source.segmentation(int(self.chosen[index]))

    def files(self) -> Iterable[Path]:
        return self.source.files()


def _same_classes(sources: Mapping[str, Source], where: str) -> None:
    found = {source.classes for source in sources.values()}
    if len(found) > 1:
        train, test = sources["train"].classes, sources["test"].classes
        apart = sorted(set(train) ^ set(test)) or ["their order"]
        raise InputError(
            where, f"the classes of train and test differ in {', '.join(apart)}",
            "the same classes in the same order", "correct the annotations of one of them",
        )  # fmt: skip


def _new_classes(sources: Mapping[str, Source], where: str) -> None:
    train, test = (sources[split].classes for split in ("train", "test"))
    both = sorted(set(train) & set(test))
    if both:
        raise InputError(
            where, f"the classes {', '.join(both)} are in train and in test",
            "classes in test that train has not", "take them out of one of the two",
        )  # fmt: skip


def _fingerprint(
    name: str, config: ReadConfig, sources: Mapping[str, Source], cache: Path | None
) -> str:
    listed = {split: list(source.files()) for split, source in sources.items()}
    everything = sorted({path for files in listed.values() for path in files})
    hashes = dict(zip(everything, _hashes(everything, cache), strict=True))
    base = os.path.commonpath([path.parent for path in everything]) if everything else ""
    manifest = {
        split: sorted(
            [[os.path.relpath(path, base), hashes[path]] for path in files]
            + _elsewhere(sources[split], hashes)
        )
        for split, files in listed.items()
    }
    fields = {key: value for key, value in to_plain(config).items() if key not in config.PLACES}
    return fingerprint(
        {"format": plugins.identity("format", name), "fields": fields, "files": manifest}
    )


def _elsewhere(source: Source, hashes: Mapping[Path, str]) -> list[list[str]]:
    """Returns the hashes of what lies elsewhere; those of local files must be as recorded.

    Raises:
        InputError: A file has another content than the source has recorded.
    """
    recorded = source.recorded() if isinstance(source, Recorded) else {}
    elsewhere = []
    for name, known in recorded.items():
        found = hashes.get(Path(name))
        if found is None:
            elsewhere.append([name, known])
        elif found != known:
            raise InputError(
                name, f"its SHA-256 is {found[:12]}…, recorded is {known[:12]}…",
                "the content that the index was made of",
                "copy the file again, or remove the index if the file was changed on purpose",
            )  # fmt: skip
    return elsewhere


def _hashes(paths: Sequence[Path], cache: Path | None) -> list[str]:
    """Returns the content hash of every file, from the cache where the file has not changed."""
    known = _read_cache(cache)
    keys = [str(path.absolute()) for path in paths]
    stats = [path.stat() for path in paths]
    result = dict(_still_valid(known, keys, stats))
    missing = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in result]
    if missing:
        _log.info("hashing %d files under %s", len(missing), missing[0][1].parent)
        with ThreadPoolExecutor(num_cores()) as pool:
            hashes = pool.map(hash_file, [path for _, path in missing])
            result.update(zip([key for key, _ in missing], hashes, strict=True))
        if cache is not None:
            _write_cache(cache, known | dict(_settled(result, keys, stats)))
    return [result[key] for key in keys]


def _settled(
    hashes: Mapping[str, str], keys: Sequence[str], stats: Sequence[os.stat_result]
) -> Iterator[tuple[str, list[Any]]]:
    """Yields what may be kept: a file just written may change within one tick of its clock."""
    newest = time.time_ns() - int(_SETTLED_SECONDS * 1e9)
    for key, stat in zip(keys, stats, strict=True):
        if stat.st_mtime_ns < newest:
            yield key, [stat.st_size, stat.st_mtime_ns, hashes[key]]


def _still_valid(
    known: Mapping[str, list[Any]], keys: Sequence[str], stats: Sequence[os.stat_result]
) -> Iterator[tuple[str, str]]:
    for key, stat in zip(keys, stats, strict=True):
        entry = known.get(key)
        if entry is not None and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
            yield key, str(entry[2])


def _read_cache(cache: Path | None) -> dict[str, list[Any]]:
    if cache is None:
        return {}
    try:
        content = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}  # absent or damaged: every file is hashed again
    return content if isinstance(content, dict) else {}


def _write_cache(cache: Path, known: Mapping[str, list[Any]]) -> None:
    # A store that can't be written is reported by the step that has something to lose.
    with contextlib.suppress(InputError, OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(known))

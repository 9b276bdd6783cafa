"""Writes a dataset as tar shards in WebDataset's form, with the offset index beside them.

Images are copied byte for byte and stand in the order of the source, so the shards give the same
samples in the same order. A sample is ``<number>.jpg`` (or whatever the image is), ``<number>.cls``
with its label and ``<number>.json`` with its label and name. The same source gives the same bytes.
"""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.data.dataset import Dataset
from whytransfer.data.format import refuse
from whytransfer.data.formats._folders import LocalFolder
from whytransfer.data.formats._shard_index import INDEX, Index, build
from whytransfer.data.formats._shard_labels import CLASSES
from whytransfer.data.formats._shard_source import ShardSource
from whytransfer.data.sample import Source, Split

IMAGES_PER_SHARD = 1000
"""How many images a shard holds where nothing else is said."""

_PREFIX: dict[Split, str] = {"train": "train", "test": "val"}
_DIGITS = 6


def write_shards(dataset: Dataset, root: Path, images_per_shard: int = IMAGES_PER_SHARD) -> None:
    """Writes ``train-000000.tar``, ..., ``val-000000.tar``, ..., ``classes.txt`` and the index.

    Args:
        root: A new folder.

    Raises:
        InputError: The images have annotations that shards can't hold, or one can't be read.
    """
    sources = {split: dataset.open(split) for split in dataset.config.splits}
    for source in sources.values():
        _refuse_annotations(source)
    _refuse_new_classes(dataset)
    root.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for split, source in sources.items():
        names += _write_split(source, root, _PREFIX[split], images_per_shard)
    classes = sources["train"].classes
    if classes:
        (root / CLASSES).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    (root / INDEX).write_bytes(_index(root, names).to_bytes())


def _index(root: Path, names: list[str]) -> Index:
    """Indexes what was written, by reading it, with the SHA-256 of every shard."""
    folder = LocalFolder(root)
    index, problems = build(folder, names, [folder.stamp(name) for name in names])
    refuse(problems)
    hashes = tuple(hash_file(root / name) for name in names)
    return index.with_marks(hashes)


def _write_split(source: Source, root: Path, prefix: str, images_per_shard: int) -> Iterator[str]:
    for number, start in enumerate(range(0, len(source), images_per_shard)):
        name = f"{prefix}-{number:0{_DIGITS}d}.tar"
        with tarfile.open(root / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            stop = min(start + images_per_shard, len(source))
            for member, data in itertools.chain.from_iterable(
                _members(source, index) for index in range(start, stop)
            ):
                info = tarfile.TarInfo(member)  # time 0, no owner: nothing but the content
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        yield name


def _members(source: Source, index: int) -> Iterator[tuple[str, bytes]]:
    """Yields the files of one sample."""
    key = f"{index:09d}"
    suffix, data = _encoded(source, index)
    yield f"{key}{suffix.lower()}", data
    label = source.label(index)
    content: dict[str, str | int] = {"name": source.name(index)}
    if label is not None:
        content["label"] = label
        yield f"{key}.cls", str(label).encode()
    yield f"{key}.json", json.dumps(content, ensure_ascii=False).encode()


def _encoded(source: Source, index: int) -> tuple[str, bytes]:
    if isinstance(source, ShardSource):
        return Path(source.member(index)).suffix, source.encoded(index)
    path = source.path(index)
    try:
        return path.suffix, path.read_bytes()
    except OSError as error:
        raise InputError(path, f"can't be read ({error.strerror})", "an image") from None


def _refuse_new_classes(dataset: Dataset) -> None:
    """Checks that one list of classes serves all splits: shards have one."""
    if dataset.config.NEW_CLASSES:
        raise InputError(
            f"{dataset.format} data", "the test split has classes of its own",
            "the same classes in every split, since shards have one list of them",
            "read the files as they are",
        )  # fmt: skip


def _refuse_annotations(source: Source) -> None:
    """Checks that an image has no more than a label: shards would drop it unseen."""
    kinds = {
        "boxes": source.objects(0),
        "landmarks": source.landmarks(0),
        "masks": source.segmentation(0),
    }
    lost = [kind for kind, found in kinds.items() if found is not None]
    if lost:
        raise InputError(
            source.path(0), f"has {' and '.join(lost)}, which shards can't hold",
            "images with labels or without", "give images:FOLDER to write the images alone",
        )  # fmt: skip

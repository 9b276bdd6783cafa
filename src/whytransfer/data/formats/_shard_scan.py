"""What lies where in one tar shard: a pass over its headers, no image read.

The members of a sample share a key, the path up to the first dot of the file's name, and stand one
behind the other, as in WebDataset: ``0017.jpg``, ``0017.cls`` (the label as text) and ``0017.json``
(of which ``label`` and ``name`` are read). Other members are passed over.
"""

import itertools
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from whytransfer.core.errors import InputError
from whytransfer.data.formats._folders import Folder
from whytransfer.data.images import is_image

_CORRECT = "write the shard anew"
_READ = ("cls", "json")
_PEEKED = 10


@dataclass(frozen=True)
class Entry:
    """One sample of a shard.

    Attributes:
        member: The image's name in the tar.
        start: Where the image's bytes begin in the tar.
        size: How many they are.
        name: As ``json`` says, else empty.
        label: As ``cls`` or ``json`` says, as text; empty where there is none.
    """

    member: str
    start: int
    size: int
    name: str
    label: str


@dataclass(frozen=True)
class _Member:
    name: str
    start: int
    size: int
    text: bytes

    @property
    def key(self) -> str:
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def extension(self) -> str:
        return self.name.rpartition("/")[2].partition(".")[2].lower()


def scan_shard(folder: Folder, shard: str, size: int) -> tuple[list[Entry], list[InputError]]:
    """Reads the headers of a shard: its samples in their order, and all that is wrong."""
    entries: list[Entry] = []
    problems: list[InputError] = []
    seen: set[str] = set()
    try:
        for key, members in itertools.groupby(_members(folder, shard, size), lambda m: m.key):
            where = f"{folder.where(shard)}:{key}"
            entry, found = _sample(list(members), where)
            problems += found
            if entry is not None and key in seen:
                found_again = "the key stands twice, not in one run"
                problems.append(InputError(where, found_again, "a sample's files together"))
            seen.add(key)
            entries += [] if entry is None else [entry]
    except InputError as error:
        problems.append(error)
    if not entries and not problems:
        found_none = "holds no image" if seen else "holds no sample"
        problems.append(InputError(folder.where(shard), found_none, "images", "check the file"))
    return entries, problems


def begins_with_images(folder: Folder, shard: str, size: int) -> bool:
    """Says whether there is an image among a tar's first files."""
    try:
        first = list(itertools.islice(_members(folder, shard, size), _PEEKED))
    except InputError:
        return False
    return any(is_image(member.name) for member in first)


def _sample(members: Sequence[_Member], where: str) -> tuple[Entry | None, list[InputError]]:
    """Makes one sample of the members that share a key."""
    images = [m for m in members if is_image(f".{m.extension}") and "." not in m.extension]
    notes = {m.extension: m for m in members if m.extension in _READ}
    if len(images) == 1:
        return _entry(images[0], notes, where)
    if not images and not notes and not any(is_image(m.name) for m in members):
        return None, []
    names = ", ".join(m.name.rpartition("/")[2] for m in members)
    found = f"{len(images) or 'no'} images among its files ({names})"
    return None, [InputError(where, found, "one image, such as <key>.jpg", _CORRECT)]


def _entry(image: _Member, notes: dict[str, _Member], where: str) -> tuple[Entry, list[InputError]]:
    problems = []
    label = name = ""
    try:
        label = notes["cls"].text.decode().strip() if "cls" in notes else ""
        content = json.loads(notes["json"].text) if "json" in notes else {}
        name, in_json = _name_and_label(content)
        if label and in_json and label != in_json:
            raise ValueError(f"cls says {label!r}, json {in_json!r}")
        label = label or in_json
    except (ValueError, UnicodeDecodeError) as error:
        expected = "cls: a label as text; json: {label: number or text, name: text}"
        problems.append(InputError(where, f"its label can't be read ({error})", expected, _CORRECT))
    return Entry(image.name, image.start, image.size, name, label), problems


def _name_and_label(content: Any) -> tuple[str, str]:
    if not isinstance(content, dict):
        raise ValueError(f"json holds {type(content).__name__}")
    label, name = content.get("label"), content.get("name")
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise ValueError(f"json has label {label!r}")
    return name if isinstance(name, str) else "", "" if label is None else str(label).strip()


def _members(folder: Folder, shard: str, size: int) -> Iterator[_Member]:
    """Yields the files of a tar.

    Raises:
        InputError: It is no tar, or is damaged or cut short; names the member before.
    """
    where = folder.where(shard)
    with folder.seekable(shard, size) as file, _tar(file, where) as tar:
        last = ""
        while (info := _next(tar, f"{where}:{last}", size)) is not None:
            last = info.name
            if info.isreg() and not last.rpartition("/")[2].startswith("."):
                yield _member(tar, info)
        _require_end(file, tar.offset, f"{where}:{last}", size)


def _tar(file: IO[bytes], where: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        todo = "give tars, not compressed ones: their members could not be read one by one"
        raise InputError(where, f"is no tar ({error})", "an uncompressed tar", todo) from None


def _next(tar: tarfile.TarFile, where: str, size: int) -> tarfile.TarInfo | None:
    try:
        info = tar.next()
    except tarfile.TarError as error:
        raise _cut(where, f"{error} at byte {size}, where the shard ends") from None
    vars(tar)["members"].clear()  # else it keeps every header
    return info


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    wanted = info.name.rpartition(".")[2].lower() in _READ
    file = tar.extractfile(info) if wanted else None
    text = file.read() if file is not None else b""
    return _Member(info.name, info.offset_data, info.size, text)


def _require_end(file: IO[bytes], place: int, where: str, size: int) -> None:
    """Checks that the headers end with the block of zeros that closes a tar.

    Without it, a shard that was cut between two members would pass for a smaller one.
    """
    file.seek(place)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise _cut(where, f"the shard ends at byte {size} without the closing block of a tar")
    if block.strip(b"\0"):
        raise _cut(where, f"no tar header at byte {place}, behind this member")


def _cut(where: str, found: str) -> InputError:
    return InputError(where, f"the shard is truncated or damaged: {found}", "a whole tar", _CORRECT)

"""Folders whose files are read in part: on a disk, or on a server that knows HTTP ranges.

Nothing is kept open between processes: a local file is read with ``pread``, which shares no
position, and every request to a server is one of its own. So a folder is cheap to pickle and safe
after a fork.
"""

import email.message
import functools
import http
import http.client
import io
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from whytransfer.core.errors import InputError

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""How long a request that failed waits before it is tried again."""

_TIMEOUT_SECONDS = 30.0
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_BUFFER = 1 << 14
_MOST_OPEN = 64


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file is still the same: its size, and a mark that changes with it.

    Attributes:
        settled: Whether the mark can be trusted: a file just written may change unseen.
    """

    size: int
    mark: str
    settled: bool = True


class Folder(Protocol):
    """A folder of large files that are read in part."""

    def where(self, name: str) -> str:
        """Names a file for messages."""

    def names(self, pattern: str) -> list[str]:
        """Lists the files that fit a pattern such as ``train-*.tar``, sorted; a name is itself.

        Raises:
            InputError: A folder of this kind can't be listed.
        """

    def stamp(self, name: str) -> Stamp:
        """Returns a file's size and mark.

        Raises:
            InputError: There is no such file.
        """

    def read(self, name: str, start: int, size: int, whole_size: int) -> bytes:
        """Reads bytes of a file; fewer where the file ends before.

        Args:
            whole_size: What the file's size should be.

        Raises:
            InputError: The file is missing, or can't be read.
        """

    def whole(self, name: str) -> bytes | None:
        """Reads a small file; ``None`` where there is none."""

    def seekable(self, name: str, size: int) -> IO[bytes]:
        """Opens a file for one pass with jumps."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on a disk."""

    root: Path

    def where(self, name: str) -> str:
        """Returns the file's path."""
        return str(self.root / name)

    def names(self, pattern: str) -> list[str]:
        """Lists the files that fit a pattern, sorted."""
        if _is_name(pattern):
            return [pattern]
        found = (path for path in self.root.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def stamp(self, name: str) -> Stamp:
        """Returns a file's size and time of change."""
        try:
            stat = (self.root / name).stat()
        except OSError as error:
            raise _unreadable(self.where(name), error) from None
        settled = stat.st_mtime_ns < time.time_ns() - 2 * 10**9
        return Stamp(stat.st_size, str(stat.st_mtime_ns), settled)

    def read(self, name: str, start: int, size: int, whole_size: int) -> bytes:
        """Reads bytes of a file; fewer where the file ends before."""
        try:
            stat = (self.root / name).stat()
            # held while it is read: it closes when nobody holds it
            file = _opened(self.where(name), stat.st_ino, stat.st_mtime_ns)
            return os.pread(file.number, size, start)
        except OSError as error:
            raise _unreadable(self.where(name), error) from None

    def whole(self, name: str) -> bytes | None:
        """Reads a small file; ``None`` where there is none."""
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def seekable(self, name: str, size: int) -> IO[bytes]:
        """Opens a file for one pass with jumps."""
        try:
            return (self.root / name).open("rb", buffering=_BUFFER)
        except OSError as error:
            raise _unreadable(self.where(name), error) from None


class _Descriptor:
    """A file that is open for as long as somebody holds it."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=_MOST_OPEN)
def _opened(path: str, _inode: int, _changed_ns: int) -> _Descriptor:
    """Keeps the latest files open; one that was replaced or changed is opened anew."""
    return _Descriptor(path)


@dataclass(frozen=True)
class HttpFolder:
    """A folder on a server, read with range requests.

    Attributes:
        url: Begins with ``http://`` or ``https://``; no slash at its end.
    """

    url: str

    def where(self, name: str) -> str:
        """Returns the file's address."""
        return f"{self.url}/{urllib.parse.quote(name)}"

    def names(self, pattern: str) -> list[str]:
        """Returns the name itself: what a server holds can't be listed.

        Raises:
            InputError: The pattern is no name.
        """
        if _is_name(pattern):
            return [pattern]
        raise InputError(
            self.url, f"a server can't be asked which files fit {pattern}",
            "the index that `data make --shards` writes beside the shards, or names in full",
            "write the index, or give a range such as train=train-{000000..000146}.tar",
        )  # fmt: skip

    def stamp(self, name: str) -> Stamp:
        """Returns a file's size, and its ETag or its time of change; reads one byte."""
        _, size, headers = _range(self.where(name), 0, 1)
        mark = headers.get("ETag") or headers.get("Last-Modified")
        if mark is None or size < 0:
            raise InputError(
                self.where(name), "the server says no size, or neither ETag nor Last-Modified",
                "what tells one content from another", "write an index with `data make --shards`",
            )  # fmt: skip
        return Stamp(size, mark)

    def read(self, name: str, start: int, size: int, whole_size: int) -> bytes:
        """Reads bytes of a file in one request."""
        where = self.where(name)
        data, found_size, _ = _range(where, start, size)
        if found_size != whole_size and len(data) == size:
            raise InputError(
                where, f"has {found_size} bytes, {whole_size} when it was indexed",
                "a file that stays as it is", "write the index anew, or put the file back",
            )  # fmt: skip
        return data

    def whole(self, name: str) -> bytes | None:
        """Reads a small file; ``None`` where there is none."""
        try:
            data, _ = _request(urllib.request.Request(self.where(name)))
        except FileNotFoundError:
            return None
        return data

    def seekable(self, name: str, size: int) -> IO[bytes]:
        """Opens a file for one pass with jumps, a request for every 16 KiB that are looked at."""
        return io.BufferedReader(_RangeFile(self, name, size), _BUFFER)


class _RangeFile(io.RawIOBase):
    """A file on a server as Python's own: seeking is free, reading is a request."""

    def __init__(self, folder: HttpFolder, name: str, size: int) -> None:
        self._folder, self._name, self._size, self._place = folder, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        size = min(len(view), self._size - self._place)
        if size <= 0:
            return 0
        data = self._folder.read(self._name, self._place, size, self._size)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def _range(url: str, start: int, size: int) -> tuple[bytes, int, email.message.Message]:
    """Requests a part of a file: its bytes, the size of the whole file, and the headers."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-{start + size - 1}"})
    try:
        data, headers = _request(request)
    except FileNotFoundError:
        raise InputError(url, "no such file on the server", "a shard", "check the URL") from None
    except EOFError:
        return b"", -1, email.message.Message()
    total = headers.get("Content-Range", "").rpartition("/")[2]
    return data, int(total) if total.isdigit() else -1, headers


def _request(request: urllib.request.Request) -> tuple[bytes, email.message.Message]:
    """Answers a request, tried again with pauses where the failure may pass.

    Raises:
        FileNotFoundError: The server has no such file.
        EOFError: The file ends before the range.
        InputError: The server refuses, can't be reached, or ignores the range.
    """
    reason = ""
    for pause in (*PAUSES_SECONDS, None):
        try:
            return _attempt(request)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(request.full_url) from None
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise EOFError(request.full_url) from None
            reason = f"{error.code} {error.reason}"
            if error.code not in _TRY_AGAIN:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        if pause is not None:
            time.sleep(pause)
    raise InputError(
        request.full_url, f"can't be read ({reason})", "a server that answers",
        "check the URL and the server; a run that stops here can be resumed",
    )  # fmt: skip


def _attempt(request: urllib.request.Request) -> tuple[bytes, email.message.Message]:
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        # checked before the body is read: it would be the whole shard
        if request.has_header("Range") and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            raise InputError(
                request.full_url, f"the server ignores ranges (answered {response.status})",
                "a server that answers range requests with 206",
                "serve the folder with one that does, or copy the shards to a disk",
            )  # fmt: skip
        data: bytes = response.read()
        return data, response.headers


def _is_name(pattern: str) -> bool:
    return re.search(r"[*?\[]", pattern) is None


def _unreadable(where: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(where, "no such file", "a shard", "check the path")
    return InputError(where, f"can't be read ({os.strerror(error.errno or 0)})", "a shard")

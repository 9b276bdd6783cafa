"""The artifact store: folders named by fingerprint, written aside, verified when read.

    STORE/<stage>/<name>-<fingerprint, 16 digits>/   payload + artifact.json (its checksums)
    STORE/work/<fingerprint>/                        checkpoints and logs of what is being computed
    STORE/locks/<fingerprint>                        held while one process computes
    STORE/failed/<fingerprint>/                      log and reason of a node that crashed

An artifact appears under its name by one rename, after every byte of it was flushed. So a kill at
any instant leaves either nothing or the whole; and what was altered afterwards is refused, because
each read compares the payload with the checksums.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.core.records import SCHEMA_VERSION, Record

MANIFEST = "artifact.json"
RECORD = "record.json"
_DIGITS = 16
_MANY_FILES = 100


@dataclass(frozen=True)
class Artifact:
    """A finished, verified folder of the store (or one that was copied out of it)."""

    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The artifact's own description: stage, name, fingerprint, checksums."""
        return _read_manifest(self.path)

    @property
    def fingerprint(self) -> str:
        """The full fingerprint of all that determined the content."""
        return str(self.manifest["fingerprint"])

    @property
    def record(self) -> Record:
        """What the stage recorded of itself."""
        return Record.model_validate_json(self.file(RECORD).read_text(encoding="utf-8"))

    def file(self, name: str) -> Path:
        """Returns the path of one payload file; raises ``InputError`` where there is none."""
        if name not in self.manifest["files"]:
            raise InputError(
                self.path, f"holds no {name}", ", ".join(sorted(self.manifest["files"]))
            )
        return self.path / name

    def json(self, name: str) -> Any:
        """Reads one payload file as JSON."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def verify(self) -> None:
        """Compares every payload file with its checksum.

        Raises:
            InputError: A file is missing or altered; names it and says how to have it made anew.
        """
        for name, expected in self.manifest["files"].items():
            path = self.path / name
            found = hash_file(path) if path.is_file() else "no such file"
            if found != expected:
                raise InputError(
                    path, f"altered or missing ({found[:12]})", f"checksum {expected[:12]}",
                    f"remove the folder {self.path} and run again: it will be computed anew",
                )  # fmt: skip


def is_artifact(path: Path) -> bool:
    """Says whether a path is the folder of an artifact, whole or not."""
    return (path / MANIFEST).is_file()


def open_artifact(path: Path) -> Artifact:
    """Opens and verifies an artifact folder wherever it lies.

    Raises:
        InputError: The folder is missing, is no artifact, is half a copy, or was altered.
    """
    if not path.is_dir():
        raise InputError(path, "no such folder", "an artifact folder", "check the path")
    artifact = Artifact(path)
    artifact.verify()
    return artifact


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    todo = f"remove the folder {path} and run again: it will be computed anew"
    if not file.is_file():
        raise InputError(path, f"holds no {MANIFEST}", "an artifact folder", todo)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version, files = manifest["schema_version"], manifest["files"]
    except (ValueError, KeyError, TypeError):
        raise InputError(file, "not readable", "the manifest of an artifact", todo) from None
    if version != SCHEMA_VERSION or not isinstance(files, dict):
        raise InputError(file, f"schema version {version}", f"version {SCHEMA_VERSION}", todo)
    return dict(manifest)


class Store:
    """A folder of artifacts that any number of processes may use at once.

    Args:
        root: The store's folder; made on the first write.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, stage: str, name: str, fingerprint: str) -> Path:
        """Returns where the artifact of that fingerprint lies, or will lie."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "-", name)
        return self.root / stage / f"{safe}-{fingerprint[:_DIGITS]}"

    def get(self, stage: str, name: str, fingerprint: str) -> Artifact | None:
        """Returns the finished artifact, verified, or ``None`` where it was not made yet.

        Raises:
            InputError: It is there but was altered, or belongs to another fingerprint.
        """
        path = self.path(stage, name, fingerprint)
        if not path.exists():
            return None
        artifact = open_artifact(path)
        if artifact.fingerprint != fingerprint:
            raise InputError(path, "made for another fingerprint", fingerprint[:12], "remove it")
        return artifact

    def has(self, stage: str, name: str, fingerprint: str) -> bool:
        """Says whether the artifact is there, without reading its payload."""
        return self.path(stage, name, fingerprint).exists()

    def all(self) -> Iterator[Artifact]:
        """Yields every artifact in a stable order, by stage and folder name; not verified."""
        for stage in ("data", "pretrain", "features", "transfer", "select", "diagnose"):
            for path in sorted((self.root / stage).glob("*-*")):
                yield Artifact(path)

    def write(
        self, stage: str, name: str, fingerprint: str, fill: Callable[[Path], None]
    ) -> Artifact:
        """Makes an artifact: ``fill`` writes the payload into the folder it is given.

        Where another process was first, its artifact stands and ours is dropped.

        Raises:
            InputError: The store can't be written (read-only, full); nothing is left behind.
        """
        target = self.path(stage, name, fingerprint)
        aside = self.root / "work" / f"{fingerprint[:_DIGITS]}.{uuid.uuid4().hex[:8]}.part"
        with writing(self.root):
            try:
                aside.mkdir(parents=True)
                fill(aside)
                _seal(aside, stage, name, fingerprint)
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    _rename(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return open_artifact(target)

    def work(self, fingerprint: str) -> Path:
        """Returns the scratch folder in which a node keeps its checkpoints while it runs."""
        path = self.work_path(fingerprint)
        with writing(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def work_path(self, fingerprint: str) -> Path:
        """Returns where that scratch folder lies while the node runs; makes nothing."""
        return self.root / "work" / fingerprint[:_DIGITS]

    def drop_work(self, fingerprint: str) -> None:
        """Removes a node's scratch folder once its artifact is there."""
        shutil.rmtree(self.work_path(fingerprint), ignore_errors=True)

    def drop_empty_work(self, fingerprint: str) -> None:
        """Removes the scratch folder of a node that ended before it had anything to keep."""
        with contextlib.suppress(OSError):
            self.work_path(fingerprint).rmdir()

    def failure(self, fingerprint: str) -> Path:
        """Returns where the log of a crashed node lies."""
        return self.root / "failed" / fingerprint[:_DIGITS]

    @contextlib.contextmanager
    def lock(self, fingerprint: str) -> Iterator[None]:
        """Waits until no other process computes this fingerprint; freed by the kernel on a kill."""
        path = self.root / "locks" / fingerprint[:_DIGITS]
        with writing(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def computing(self, fingerprint: str) -> bool:
        """Says whether some process computes this fingerprint now."""
        path = self.root / "locks" / fingerprint[:_DIGITS]
        if not path.is_file():
            return False
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def _seal(folder: Path, stage: str, name: str, fingerprint: str) -> None:
    """Flushes every payload file and writes the manifest that names their checksums."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}
    _flush_all(paths)
    manifest = {
        "schema_version": SCHEMA_VERSION, "stage": stage, "name": name,
        "fingerprint": fingerprint, "files": files,
    }  # fmt: skip
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
    for path in [p for p in folder.rglob("*") if p.is_dir()] + [folder]:
        _flush(path)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(str(target)) from None
        raise
    _flush(target.parent)


def _flush_all(paths: list[Path]) -> None:
    """Waits until the files are on the disk: a data set's thousands all at once, not in turn.

    Linux's ``sync`` returns when everything is written; elsewhere it need not, so there it is not
    relied on.
    """
    if len(paths) > _MANY_FILES and sys.platform == "linux":
        os.sync()
        return
    for path in paths:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is either the old or the whole new text, even after a kill."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing(path.parent):
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turns a full or read-only file system into one clear error."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("no space left on it", "free some space, or give another --store"),
            errno.EDQUOT: ("the disk quota is used up", "free some space, or give another --store"),
            errno.EFBIG: ("the file-size limit is reached", "raise `ulimit -f`"),
            errno.EROFS: ("the file system is read-only", "give another --store"),
            errno.EACCES: ("no permission to write", "give another --store"),
            errno.EPERM: ("no permission to write", "give another --store"),
            errno.ENOTDIR: ("a part of the path is a file", "give another --store"),
        }
        if error.errno not in reasons:
            raise
        found, todo = reasons[error.errno]
        raise InputError(where, f"can't be written: {found}", "a writable folder", todo) from error

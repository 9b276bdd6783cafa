"""What a store's room is used for, and what of it can go."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.core.store import Store


def usage(store: Store) -> dict[str, int]:
    """Returns the bytes under each artifact, scratch folder and file of a store, by its path."""
    found = {}
    for path in sorted(store.root.glob("*")) if store.root.is_dir() else []:
        for entry in sorted(path.iterdir()) if path.is_dir() else [path]:
            files = entry.rglob("*") if entry.is_dir() else [entry]
            size = sum(file.stat().st_size for file in files if file.is_file())
            found[entry.relative_to(store.root).as_posix()] = size
    return found


def garbage(store: Store, kept: set[str] | None = None) -> dict[Path, str]:
    """Lists what can go, with the reason; looks only.

    Scratch folders whose artifact is there, half-written ones, locks, and altered artifacts can
    always go; checkpoints of unfinished work stay. With ``kept``, so can every artifact whose
    fingerprint it does not name. Nothing may be running on the store.
    """
    found: dict[Path, str] = {}
    prints = set()
    for artifact in store.all():
        try:
            artifact.verify()
        except InputError as error:
            found[artifact.path] = f"altered ({error.found})"
            continue
        prints.add(store.work_path(artifact.fingerprint).name)
        if kept is not None and artifact.fingerprint not in kept:
            found[artifact.path] = "not part of a kept study"
    for path in sorted((store.root / "work").glob("*")):
        if path.suffix == ".part":
            found[path] = "half-written"
        elif path.name in prints:
            found[path] = "its artifact is finished"
    for path in sorted((store.root / "locks").glob("*")):
        found[path] = "lock"
    return found


def remove(paths: Iterable[Path]) -> None:
    """Removes files and folders of a store."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

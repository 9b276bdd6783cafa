"""Splits of classes as folders: ``{train,val,test}/<class>/<image>``, each class in one of them."""

import re
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.data.format import other_level
from whytransfer.data.formats._lists import images_below
from whytransfer.data.formats._mini_images import Part, sorted_part

_WORDNET = re.compile(r"n\d{8}")


def read_folders(root: Path, name: str) -> tuple[Part, list[InputError]]:
    """Lists the images of one split.

    Raises:
        InputError: Its folder is missing or holds no class folders.
    """
    folder = root / name
    if not folder.is_dir():
        todo = other_level(root, recognise_folders) or "add it: train, val and test are needed"
        raise InputError(folder, "no such folder", f"{name}/<class>/<image>", todo)
    classes = _names(folder)
    if not classes:
        todo = other_level(root, recognise_folders) or "put the images of each class into a folder"
        raise InputError(folder, "holds no folders", "one folder per class", todo)
    problems = []
    found = {}
    for label in classes:
        images = list(images_below(folder / label))
        if not images:
            todo = "add images or remove the folder"
            problems.append(InputError(folder / label, "no image in it", "at least one", todo))
        for image in images:
            found[f"{label}/{image}"] = (label, folder / label / image)
    return sorted_part(folder, found), problems


def recognise_folders(path: Path) -> dict[str, str] | None:
    """Returns the form if three folders hold classes of WordNet, few of ``val`` in ``train``.

    In ImageNet's own layout all of them are in both. Names of other kinds are not taken for it:
    the cities of Cityscapes lie in such folders as well.
    """
    found = {name: _names(path / name) for name in ("train", "val", "test")}
    if not all(found.values()):
        return None
    named = all(_WORDNET.fullmatch(label) for labels in found.values() for label in labels)
    shared = set(found["train"]) & set(found["val"])
    return {"form": "folders"} if named and 2 * len(shared) < len(found["val"]) else None


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))

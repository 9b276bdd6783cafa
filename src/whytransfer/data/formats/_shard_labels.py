"""The classes of shards, and the numbers of their labels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.formats._folders import Folder
from whytransfer.data.formats._shard_index import Index

CLASSES = "classes.txt"
"""The file beside shards that names the classes, one per line."""

NO_LABEL = -1
"""Stands for the label of an image that has none."""


def listed_classes(listed: bytes, where: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Reads ``classes.txt``: the classes, and the number of each label that may occur."""
    classes = tuple(line.strip() for line in listed.decode("utf-8-sig").splitlines())
    while classes and not classes[-1]:
        classes = classes[:-1]
    if not all(classes) or len(set(classes)) < len(classes) or not classes:
        raise InputError(where, "an empty line, or a name twice", "one class per line")
    names = {name: number for number, name in enumerate(classes)}
    return classes, names | {str(number): number for number in range(len(classes))}


def found_classes(train: Index) -> tuple[tuple[str, ...], dict[str, int]]:
    """Takes the labels of the training shards as classes, numbers in the order of numbers."""
    labels = sorted(set(train.labels) - {""})
    if all(label.isascii() and label.isdigit() for label in labels):
        labels.sort(key=int)
    return tuple(labels), {label: number for number, label in enumerate(labels)}


def numbered(
    folder: Folder, index: Index, number: Mapping[str, int]
) -> tuple[NDArray[np.int64], list[InputError]]:
    """Numbers the labels; all images have one, or none has."""
    labels = list(index.labels)
    numbers = np.array([number.get(label, NO_LABEL) for label in labels], dtype=np.int64)
    if not any(labels):
        return numbers, []
    bad: dict[str, list[int]] = {}
    for row in np.flatnonzero(numbers == NO_LABEL).tolist():
        bad.setdefault(labels[row], []).append(row)
    problems = []
    for label, rows in sorted(bad.items()):
        where = f"{folder.where(index.shards[index.shard[rows[0]]])}:{index.members[rows[0]]}"
        found = f"the label {label!r} is unknown" if label else "has no label, though others have"
        more = f" ({len(rows)} such images)" if len(rows) > 1 else ""
        todo = f"correct the shard or {CLASSES}" if label else "write the shard anew"
        problems.append(InputError(where, found + more, "a class of the training images", todo))
    return numbers, problems

"""Few-shot predictions as a file: which images each episode drew, and what was said of them.

Images are named once, with their true classes, and referred to by their place in that list, from 0.
An episode's ``queries`` and ``support`` have a list for each of its classes, in the order of
``classes``; ``guesses`` has, for each number of shots, a number for every query: the place of the
guessed class in ``classes``. With k shots the first k images of each class's support were learned
from.

    {"kind": "episodes", "version": 1, "classes": ["fish", "mug"], "shots": [1], "base": null,
    "images": [
    {"image": "a.jpg", "class": "fish"}, ...],
    "rows": [
    {"episode": 0, "classes": ["mug", "fish"], "queries": [[4], [0]], "support": [[3], [2]],
     "guesses": {"1": [[0], [1]]}}]}

``base`` names the file of classifications that were made of images of the base classes, if any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.row_files import names_of, read_content, rows_of, text_of, write_rows

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class EpisodePredictions:
    """Episodes with what was said of their queries.

    Letters: N images, E episodes, W ways, K shots at most, Q queries of a class.

    Attributes:
        names: (N,) image names.
        classes: Class names; ``labels`` and ``chosen`` index them.
        labels: (N,) the true class of every image.
        numbers: (E,) of the episodes.
        chosen: (E, W) the classes of each episode.
        queries: (E, W, Q) images.
        support: (E, W, K) images.
        guesses: Shots → (E, W, Q), in [0, W): the place of a class in the episode.
        base: Name of the file beside that holds predictions for the base classes.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Numbers
    numbers: Numbers
    chosen: Numbers
    queries: Numbers
    support: Numbers
    guesses: Mapping[int, Numbers]
    base: str | None = None

    def accuracies(self) -> dict[int, NDArray[np.float64]]:
        """Returns, for each number of shots, the share of right guesses in each episode: (E,)."""
        right = np.arange(self.chosen.shape[1])[:, None]
        return {k: (found == right).mean(axis=(1, 2)) for k, found in self.guesses.items()}


def write_episodes(path: Path, found: EpisodePredictions) -> None:
    """Writes episodes, one per line; :func:`read_episodes` gives the same again."""
    classes = found.classes
    images = (
        {"image": name, "class": classes[label]}
        for name, label in zip(found.names, found.labels.tolist(), strict=True)
    )
    rows = (
        {
            "episode": int(number),
            "classes": [classes[label] for label in found.chosen[row].tolist()],
            "queries": found.queries[row].tolist(),
            "support": found.support[row].tolist(),
            "guesses": {str(k): guesses[row].tolist() for k, guesses in found.guesses.items()},
        }
        for row, number in enumerate(found.numbers)
    )
    head = {"classes": list(classes), "shots": list(found.guesses), "base": found.base}
    write_rows(path, "episodes", head, {"images": images, "rows": rows})


def read_episodes(path: Path) -> EpisodePredictions:
    """Reads what :func:`write_episodes` wrote, or anybody's in that form, by their numbers.

    Raises:
        InputError: The file is missing or malformed; an episode stands twice, draws an image twice
            or of another class than it says, or has a guess that is none of its classes.
    """
    content = read_content(path, "episodes")
    classes, shots, base = (
        names_of(path, content, "classes"),
        content.get("shots"),
        content.get("base"),
    )
    if not isinstance(shots, list) or not shots or not all(type(k) is int for k in shots):
        raise InputError(path, f"shots is {shots!r}", "a list of numbers of shots")
    number = {name: place for place, name in enumerate(classes)}
    names, labels = [], []
    for row, where in rows_of(path, content, "images"):
        names.append(text_of(row, "image", where))
        labels.append(_label(row.get("class"), number, where))
    rows = sorted(rows_of(path, content, "rows"), key=lambda pair: _number(*pair))
    if not rows:
        raise InputError(path, "holds no episode", "one or more")
    read = _Rows(rows)
    found = EpisodePredictions(
        names=tuple(names),
        classes=classes,
        labels=np.array(labels, dtype=np.int64),
        numbers=np.array([_number(*pair) for pair in rows], dtype=np.int64),
        chosen=read.classes(number),
        queries=read.images("queries", len(names)),
        support=read.images("support", len(names)),
        guesses={k: read.guesses(k) for k in shots},
        base=None if base is None else str(base),
    )
    _require_consistent(found, [where for _, where in rows])
    return found


def _number(row: Mapping[str, Any], where: str) -> int:
    value = row.get("episode")
    if type(value) is not int:
        raise InputError(where, f"episode is {value!r}", "its number")
    return value


def _label(name: Any, number: Mapping[str, int], where: str) -> int:
    if not isinstance(name, str) or name not in number:
        raise InputError(where, f"the class {name!r} is not among the file's classes")
    return number[name]


@dataclass(frozen=True)
class _Rows:
    """Reads one entry of all rows as an array, (episodes, ways, count) int64."""

    rows: Sequence[tuple[dict[str, Any], str]]

    def classes(self, number: Mapping[str, int]) -> Numbers:
        """Reads the classes, (episodes, ways)."""
        found: list[list[int]] = []
        for row, where in self.rows:
            names = row.get("classes")
            if not isinstance(names, list) or len(names) != len(found[0] if found else names):
                raise InputError(where, f"classes is {names!r}", "as many as in every other row")
            found.append([_label(name, number, where) for name in names])
        return np.array(found, dtype=np.int64)

    def images(self, key: str, num_images: int) -> Numbers:
        """Reads places in the list of images."""
        return self._stacked(key, [row.get(key) for row, _ in self.rows], num_images)

    def guesses(self, shots: int) -> Numbers:
        """Reads places among an episode's classes."""
        key = f"guesses[{shots}]"
        values = [dict(row.get("guesses") or {}).get(str(shots)) for row, _ in self.rows]
        return self._stacked(key, values, len(self.rows[0][0]["classes"]))

    def _stacked(self, key: str, values: Sequence[Any], bound: int) -> Numbers:
        shapes = [np.shape(value) if _is_square(value) else () for value in values]
        for (_, where), shape in zip(self.rows, shapes, strict=True):
            if len(shape) != 2 or shape != shapes[0]:
                raise InputError(
                    where, f"{key} is not a list of equally many numbers for each class",
                    "the same form in every row", "see the form in the documentation",
                )  # fmt: skip
        found = np.array(values, dtype=np.int64).reshape(len(values), *shapes[0])
        outside = ((found < 0) | (found >= bound)).any(axis=(1, 2))
        for row in np.flatnonzero(outside)[:1].tolist():
            raise InputError(self.rows[row][1], f"{key} has a number outside 0 to {bound - 1}")
        return found


def _is_square(value: Any) -> bool:
    """Says whether something is a list of equally long lists of whole numbers."""
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value):
        return False
    whole = all(type(number) is int for part in value for number in part)
    return whole and len({len(part) for part in value}) == 1


def _require_consistent(found: EpisodePredictions, where: Sequence[str]) -> None:
    """Checks what the rows say against each other and against the images' classes."""
    ways = found.chosen.shape[1]
    if any(part.shape[1] != ways for part in (found.queries, found.support)):
        raise InputError(where[0], "has not one list for each of its classes")
    if any(guesses.shape != found.queries.shape for guesses in found.guesses.values()):
        raise InputError(where[0], "has not one guess for each query")
    if max(found.guesses) > found.support.shape[2]:
        raise InputError(where[0], f"has less support than {max(found.guesses)} shots")
    images = np.concatenate([found.queries, found.support], axis=2)
    strange = (found.labels[images] != found.chosen[:, :, None]).any(axis=(1, 2))
    ordered = np.sort(images.reshape(len(images), -1), axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    again = np.concatenate([[False], found.numbers[1:] == found.numbers[:-1]])
    for bad, words in (
        (strange, "has an image of another class than it says"),
        (repeated, "has an image twice: one that is learned from must not be asked for"),
        (again, "is an episode that stands in the file twice"),
    ):
        for row in np.flatnonzero(bad)[:1].tolist():
            raise InputError(where[row], words, "consistent episodes", "correct the file")

"""The protocol of an on-disk format, and what all formats have in common.

A format is one module in ``data/formats``: a docstring whose first line says what it is, a frozen
``Config`` (a :class:`FormatConfig`) and three plain functions:

    open(config, split) -> Source       the split, annotations read and checked, no image decoded
    check(config) -> Report             all that is wrong with the files, every image decoded
    recognise(path) -> fields | None    the fields of ``Config`` if the folder has this format

A format that fits nearly everything sets ``LAST_RESORT = True`` and is recognised only where no
other is; one that reads addresses has ``recognise_url(url) -> fields`` beside ``recognise``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from whytransfer.core.config import Config
from whytransfer.core.errors import InputError, InputErrors
from whytransfer.data.sample import Split

Recognise = Callable[[Path], dict[str, Any] | None]

_SHOWN = 5
_MAX_CHILDREN = 100


class ReadConfig(Config):
    """What every format's configuration holds, wherever the data lie.

    Attributes:
        PLACES: Fields that say where something lies; they enter no fingerprint.
        NEW_CLASSES: Whether no class of the test split is one of the training split, as few-shot
            tasks want it; else both splits have the same classes.
    """

    PLACES: ClassVar[frozenset[str]] = frozenset({"root"})
    NEW_CLASSES: ClassVar[bool] = False

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the dataset is configured to have."""
        return ("train", "test")


class FormatConfig(ReadConfig):
    """The configuration of a format that is a folder of files.

    Attributes:
        root: The dataset's folder; ``~`` is the home folder. It enters no fingerprint.
    """

    root: Annotated[Path, AfterValidator(Path.expanduser)]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        format: Name of the format.
        counts: What there is, such as ``{"train images": 5011}``.
        problems: All that is wrong, each naming its file.
        notes: What is not wrong, but may not be meant: a split that is not there.
    """

    format: str
    counts: dict[str, int]
    problems: tuple[InputError, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Says it in lines for people: the format, the counts, then a line per note and problem."""
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        number = len(self.problems)
        found = f"{number} problem{'s'[: number > 1]}" if number else "nothing wrong"
        first = f"{self.format}: {counts or 'nothing could be counted'}; {found}"
        notes = [f"note: {note}" for note in self.notes]
        return [first, *notes, *map(str, self.problems)]

    def to_plain(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        problems = [
            {"where": p.where, "found": p.found, "expected": p.expected, "todo": p.todo}
            for p in self.problems
        ]
        return {
            "format": self.format,
            "counts": dict(self.counts),
            "problems": problems,
            "notes": list(self.notes),
        }


def distinct(problems: Iterable[InputError]) -> tuple[InputError, ...]:
    """Leaves out problems that were met twice, as when both splits name the same file."""
    return tuple({str(problem): problem for problem in problems}.values())


def refuse(problems: Sequence[InputError]) -> None:
    """Raises the problems, where there are any; of many, the first few and their number."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        shown = list(problems[:_SHOWN])
        if len(problems) > _SHOWN:
            more = f"and {len(problems) - _SHOWN} more problems"
            shown.append(InputError(more, "`whytransfer data check` lists them all"))
        raise InputErrors(shown)


def require_folder(root: Path) -> None:
    """Checks that a dataset's root is a folder.

    Raises:
        InputError: It is missing or is a file.
    """
    if not root.exists():
        raise InputError(root, "no such folder", "the folder of a dataset", "check the path")
    if not root.is_dir():
        raise InputError(root, "is a file", "the folder of a dataset", "give its folder")


def other_level(path: Path, recognise: Recognise) -> str:
    """Says at which neighbouring level the dataset lies, or returns an empty string.

    Looks into the folders that ``path`` holds and at the three above it.
    """
    children = sorted(p for p in path.iterdir() if p.is_dir())[:_MAX_CHILDREN]
    for child in children:
        if recognise(child) is not None:
            return f"the folder is one level too high: give {child}"
    for parent in list(path.absolute().parents)[:3]:
        if recognise(parent) is not None:
            return f"the folder is too low: give {parent}"
    return ""

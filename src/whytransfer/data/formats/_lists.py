"""List files: plain text with one name per line, as published beside many datasets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.data.images import is_image

_SHOWN = 3


@dataclass(frozen=True)
class Line:
    """One line of a list file: its number, counted from 1, and its text."""

    number: int
    text: str


def read_lines(listing: Path, what: str) -> list[Line]:
    """Reads a list file; empty lines are passed over.

    Args:
        what: What the lines name, for the messages.

    Raises:
        InputError: The file is missing, is no text, or lists nothing.
    """
    try:
        text = listing.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(listing, "no such file", f"a list of {what}", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(listing, f"can't be read ({error})", f"a list of {what}") from None
    numbered = enumerate(text.splitlines(), start=1)
    lines = [Line(number, line.strip()) for number, line in numbered if line.strip()]
    if not lines:
        raise InputError(listing, "lists nothing", f"{what}, one per line", "fill the list")
    return lines


def repeated(listing: Path, lines: Sequence[Line]) -> list[InputError]:
    """Returns one problem for each line that repeats an earlier one."""
    first: dict[str, int] = {}
    problems = []
    for line in lines:
        if line.text in first:
            found = f"lists {line.text} again, as line {first[line.text]} does"
            where = f"{listing}, line {line.number}"
            problems.append(InputError(where, found, "each name once", "remove one of the lines"))
        first.setdefault(line.text, line.number)
    return problems


def absent(listing: Path, missing: Sequence[Line], total: int, folder: Path) -> list[InputError]:
    """Returns one problem for all listed files that are not there; none where all are."""
    if not missing:
        return []
    shown = ", ".join(f"{line.text} (line {line.number})" for line in missing[:_SHOWN])
    more = ", ..." if len(missing) > _SHOWN else ""
    found = f"lists {len(missing)} of {total} files that are not under {folder}: {shown}{more}"
    todo = "add the files, or take their lines out of the list"
    return [InputError(listing, found, "files that are there", todo)]


def images_below(folder: Path) -> Iterator[str]:
    """Yields the images under a folder, relative to it, sorted folder by folder."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        below = Path(parent).relative_to(folder)
        yield from ((below / name).as_posix() for name in sorted(files) if is_image(name))

"""Files of rows that people read, too: JSON with one row per line, and errors that name the row.

    {"kind": "detections", "version": 1, "rows": [
    {"image": "000001", ...},
    {"image": "000002", ...}]}

What the rows hold is said where each kind is written and read.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from whytransfer.core.errors import InputError
from whytransfer.core.store import write_text

_VERSION = 1


def write_rows(
    path: Path, kind: str, head: Mapping[str, Any], lists: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """Writes JSON whose lists have one row per line, so that two files can be compared by eye."""
    parts = [f'"kind": "{kind}"', f'"version": {_VERSION}']
    parts += [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in lists.items():
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        parts.append(f"{json.dumps(key)}: [\n{lines}]")
    write_text(path, "{" + ",\n".join(parts) + "}\n")


def read_content(path: Path, kind: str) -> dict[str, Any]:
    """Reads a file of a kind.

    Raises:
        InputError: It is missing, no JSON, or of another kind or version.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(path, "no such file", f"a file of {kind}", "check the path") from None
    except ValueError as error:
        raise InputError(path, f"not readable as JSON ({error})", f"a file of {kind}") from None
    expected = {"kind": kind, "version": _VERSION}
    found = {key: content.get(key) for key in expected} if isinstance(content, dict) else content
    if found != expected:
        shown = json.dumps(found)[:80]
        raise InputError(path, f"begins with {shown}", json.dumps(expected), "give another file")
    return dict(content)


def rows_of(
    path: Path, content: Mapping[str, Any], key: str
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields each row of a list with the words that name it in a message."""
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            path, f"holds no list {key!r} of rows", "see the form in the documentation"
        )
    for number, row in enumerate(rows):
        yield row, f"{path}, {key}[{number}]"


def names_of(path: Path, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Returns a list of names that stands beside the rows."""
    names = content.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(path, f"{key} is {str(names)[:40]!r}", "a list of names")
    return tuple(names)


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """Returns a text of a row."""
    value = row.get(key)
    if not isinstance(value, str):
        raise InputError(where, f"{key} is {value!r}", "a name")
    return value


def finite_of(row: Mapping[str, Any], key: str, count: int, where: str) -> list[float]:
    """Returns so many finite numbers of a row: a list, or a number by itself."""
    value = row.get(key)
    numbers: list[Any] = value if isinstance(value, list) else [value]
    good = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
    if not good or len(numbers) != count:
        words = "a finite number" if count == 1 else f"{count} finite numbers"
        raise InputError(where, f"{key} is {value!r}", words, "correct the file")
    return [float(number) for number in numbers]

"""The errors that say what happened: what is where, what was expected, what to do."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Something the user gave (a file, a field, a name) can't be used.

    The command line prints it as one line and exits with status 2; from Python it is an ordinary
    ``ValueError``.

    Args:
        where: The file, folder or field, as the user wrote it.
        found: What is there, in words.
        expected: What should be there; left out of the message where empty.
        todo: What to do next; left out where empty.
    """

    def __init__(self, where: object, found: str, expected: str = "", todo: str = "") -> None:
        self.where, self.found, self.expected, self.todo = str(where), found, expected, todo
        message = f"{where}: {found}"
        if expected:
            message += f"; expected {expected}"
        if todo:
            message += f"; {todo}"
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.found, self.expected, self.todo)


class InputErrors(InputError):
    """Several problems found at once, one line each."""

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.where, first.found, first.expected, first.todo)
        self.args = ("\n".join(str(problem) for problem in self.problems),)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class UnreadableImage(InputError):
    """One image can't be decoded, or its file is missing; the others are as they were.

    A shard or a server that fails is none of these: what is wrong with it is wrong with many.
    """


class TrainingError(RuntimeError):
    """A training can't go on: its loss or a weight is no longer finite.

    Args:
        message: What happened where, and what to do.
        what: What happened, without where on this machine.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what or message


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Returns a hint such as ``did you mean 'moco_v2'?``, or an empty string.

    >>> nearest("moco2", ["moco_v2", "supervised"])
    "did you mean 'moco_v2'?"
    """
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""

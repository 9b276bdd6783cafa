"""The training log: one JSON line per so many steps, without times, the same for the same run.

A row holds ``step`` (steps done), ``epoch`` (passes over the data, with fraction), ``lr`` (of the
row's last step) and the mean of every scalar over the row's steps; ``null`` where a scalar was
not finite in all of them. The rows are part of the checkpoint, so that the log of an interrupted
run is the log of an undisturbed one, whatever became of the file.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from whytransfer.core.store import writing

_POSITION = ("step", "epoch", "lr")


class TrainingLog:
    """The rows of a run, in memory and in a file.

    Args:
        path: The JSONL file; what it holds is replaced.
        every_steps: Steps per row; the last row may have fewer.
        written: Whether to write the file; of several processes one does.
    """

    def __init__(self, path: Path, every_steps: int, written: bool = True) -> None:
        self._path, self._written = path, written
        self._every_steps = every_steps
        self._lines: list[str] = []
        self._sums: dict[str, tuple[float, int]] = {}
        self._write("", "w")

    def add(self, position: Mapping[str, float], scalars: Mapping[str, float], last: bool) -> None:
        """Takes in one step.

        Args:
            position: Its ``step``, ``epoch`` and ``lr``.
            scalars: What the loss returned.
            last: Whether the run ends here, which ends the row too.
        """
        for name, value in scalars.items():
            total, count = self._sums.get(name, (0.0, 0))
            finite = math.isfinite(value)
            self._sums[name] = (total + value, count + 1) if finite else (total, count)
        if last or position["step"] % self._every_steps == 0:
            means = {name: s / n if n else None for name, (s, n) in self._sums.items()}
            line = json.dumps({**position, **means}, allow_nan=False) + "\n"
            self._lines.append(line)
            self._sums = {}
            self._write(line, "a")

    def state(self) -> dict[str, Any]:
        """Returns all that a resumed run needs to go on with the same rows."""
        return {"lines": list(self._lines), "sums": dict(self._sums)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to what :meth:`state` returned; the file then holds those rows alone."""
        self._lines, self._sums = list(state["lines"]), dict(state["sums"])
        self._write("".join(self._lines), "w")

    def means(self, after_step: float) -> dict[str, float]:
        """Returns each scalar's mean over the rows that end after a step, where it is defined."""
        rows = [row for row in map(json.loads, self._lines) if row["step"] > after_step]
        names = dict.fromkeys(name for row in rows for name in row if name not in _POSITION)
        columns = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
        return {name: fmean(values) for name, values in columns.items() if values}

    def _write(self, text: str, mode: str) -> None:
        if not self._written:
            return
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with writing(self._path.parent), self._path.open(mode, encoding="utf-8") as file:
            file.write(text)

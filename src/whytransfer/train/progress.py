"""How far a training is: a bar with rate, time left and loss on a terminal, else plain lines."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LINE_SECONDS = 15.0


class TrainingProgress:
    """Shows the progress of one run on the standard error stream.

    Args:
        title: What is being trained.
        total_steps: Steps of the whole run.
        shown: Whether to show anything.
        console: Where to; the standard error stream where none is given.
    """

    def __init__(
        self, title: str, total_steps: int, shown: bool, console: Console | None = None
    ) -> None:
        self._title, self._total, self._first = title, total_steps, 0
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._shown = shown
        self._lines = shown and not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            disable=not shown or self._lines,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total_steps, status="")

    def __enter__(self) -> Self:
        """Puts the bar up."""
        self._bar.start()
        self.begin(0)
        return self

    def begin(self, first_step: int) -> None:
        """Starts the clock, where so many steps were done by an interrupted run before."""
        self._first = first_step
        self._started = self._line_at = time.monotonic()
        self._bar.update(self._task, completed=first_step)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def update(self, step: int, loss: float) -> None:
        """Shows that so many steps are done, and the loss of the last one."""
        now = time.monotonic()
        rate = (step - self._first) / max(now - self._started, 1e-9)
        left = timedelta(seconds=round((self._total - step) / rate))
        status = f"{rate:.3g} steps/s, {left} left, loss {loss:.4g}"
        self._bar.update(self._task, completed=step, status=status)
        if self._lines and (now - self._line_at >= _LINE_SECONDS or step == self._total):
            self._line_at = now
            line = f"{self._title}: step {step}/{self._total}, {status}"
            self._console.print(line, markup=False)

    def say(self, text: str) -> None:
        """Tells a person something about the run, in a line of its own."""
        if self._shown:
            self._console.print(f"{self._title}: {text}", markup=False)

"""SIGINT and SIGTERM ask a training to end after its step; a second one doesn't wait."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Those that ask for an end."""


class Interrupted(KeyboardInterrupt):
    """A training was asked to end and did, with a checkpoint; run again, it goes on from there."""


class StopRequest:
    """A context that turns SIGINT and SIGTERM into a request.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.

    Attributes:
        signal: The signal that came, or ``None``.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts back the handlers that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

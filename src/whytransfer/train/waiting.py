"""How much of a training's time goes by in waiting for images, and what to do about it."""

import math
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

BatchT = TypeVar("BatchT")

WARM_UP_STEPS = 10
"""Steps not measured: in them workers start, caches fill and kernels are chosen."""

_MEASURED_STEPS = 20
_MEASURED_SECONDS = 5.0
_WORTH_A_WORD = 0.2


class Waiting(Generic[BatchT]):
    """Passes batches on and measures how long each was waited for.

    Attributes:
        waited: Seconds spent in waiting, after the warm-up.
        measured: Seconds since the warm-up ended.
        steps: How many they were.
    """

    def __init__(self, batches: Iterator[BatchT]) -> None:
        self._batches = batches
        self._passed = 0
        self._since = self._waits = 0.0
        self._found = False
        self.waited = self.measured = 0.0

    @property
    def steps(self) -> int:
        """Counts the steps that were measured."""
        return max(0, self._passed - WARM_UP_STEPS - 1)

    @property
    def share(self) -> float:
        """Returns the share of the time that was spent in waiting, in [0, 1]."""
        return self.waited / self.measured if self.measured else 0.0

    def __next__(self) -> BatchT:
        """Returns the next batch."""
        asked = time.monotonic()
        if self._passed == WARM_UP_STEPS:
            self._since = asked
        elif self._passed > WARM_UP_STEPS:  # whole steps only: a wait and the work after it
            self.waited, self.measured = self._waits, asked - self._since
        batch = next(self._batches)
        if self._passed >= WARM_UP_STEPS:
            self._waits += time.monotonic() - asked
        self._passed += 1
        return batch

    def finding(self, workers: int, cores: int, to_device: bool) -> str | None:
        """Returns :func:`advice` once, when enough steps were measured."""
        enough = self.steps >= _MEASURED_STEPS and self.measured >= _MEASURED_SECONDS
        if self._found or not enough:
            return None
        self._found = True
        return advice(self.waited, self.measured, workers, cores, to_device)


def advice(waited: float, measured: float, workers: int, cores: int, to_device: bool) -> str | None:
    """Says whether the loader is the bottleneck, by what factor, and what to change.

    Args:
        waited: Seconds of waiting for images.
        measured: Seconds in all.
        workers: Processes that read images; with 0 the training process does.
        cores: Processor cores for this training.
        to_device: Whether a GPU could apply the photometry that the CPU applies now.

    Returns:
        One line, or ``None`` where at most a fifth of the time is spent in waiting.

    >>> advice(1.0, 10.0, workers=2, cores=4, to_device=False) is None
    True
    """
    if waited <= _WORTH_A_WORD * measured:
        return None
    working = max(measured - waited, 1e-9)
    factor = f"{measured / working:.1f}" if measured < 100 * working else "over 100"
    # What the workers do in parallel takes, one after the other, this many times a step's work.
    needed = math.ceil((waited if workers == 0 else measured * workers) / working)
    useful = min(cores, max(needed, workers + 1))
    changes = [f"raise --workers from {workers} to {useful}"] if useful > workers else []
    if to_device:
        changes.append("set applier=device, which leaves colours and blur to the GPU")
    if useful <= workers:
        changes.append(f"store the images smaller, since all {cores} cores are in use")
    return (
        f"the loader is the bottleneck: {waited:.1f} s of {measured:.1f} s were spent in waiting "
        f"for images, without which training would be {factor} times as fast; "
        + ", or ".join(changes)
    )

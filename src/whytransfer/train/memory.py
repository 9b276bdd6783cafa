"""Says which settings need less memory, where there was too little."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from whytransfer.core.errors import InputError
from whytransfer.train.config import Training
from whytransfer.train.state import Run

_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")

# How torch says that a process which reads images is gone: SIGKILL is what the kernel sends where
# memory is short, a bus error what full shared memory gives. Other signals are faults.
_WORKER = "DataLoader worker"
_KILLED = ("is killed by signal: Killed", "is killed by signal: Bus error", "out of shared memory")


@contextmanager
def enough_memory(training: Training, device: torch.device, run: Run) -> Iterator[None]:
    """Turns too little memory inside a step into one clear error.

    Raises:
        InputError: There was too little; names the batch size, and settings that need less; or
            the number of workers, where one of these was killed.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if killed := _killed_worker(error):
            raise _fewer_workers(killed, run) from error
        if not _too_little(error):
            raise
        raise _smaller_step(training, device, run) from error


@contextmanager
def enough_memory_for_model(where: str, sizes: Mapping[str, object]) -> Iterator[None]:
    """Turns too little memory for a model, before its first step, into one clear error.

    Args:
        where: What is run, for the message.
        sizes: The settings that the model's size depends on, the one that matters most first.

    Raises:
        InputError: There was too little; names those settings and their values.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _too_little(error):
            raise
        values = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise InputError(
            f"{where}, field {next(iter(sizes))}",
            f"there is too little memory for the model of {values} ({error})",
            "a model that fits",
            f"lower {' or '.join(sizes)}",
        ) from error


def smaller_batch(batch_size: int, accepted: Callable[[int], bool]) -> int | None:
    """Returns the largest accepted batch of at most half the images; ``None`` where none is.

    At most half, because what doesn't fit rarely fits with a few images less.

    >>> smaller_batch(32, lambda size: size % 5 == 0)
    15
    """
    return next((size for size in range(batch_size // 2, 1, -1) if accepted(size)), None)


def with_batch(training: Training, batch_size: int) -> str:
    """Writes the overrides that train with another batch at the rate that goes with it."""
    lr = training.lr * batch_size / training.batch_size
    return f"training.batch_size={batch_size} {training.lr_field}={lr:.6g}"


def _too_little(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _WORDS)


def _killed_worker(error: BaseException | None) -> str:
    """Returns what torch says of a killed worker, itself or as the cause of what it raises."""
    while error is not None:
        text = str(error)
        if _WORKER in text and any(words in text for words in _KILLED):
            return text.partition(". ")[0]
        error = error.__cause__
    return ""


def _fewer_workers(killed: str, run: Run) -> InputError:
    workers = run.execution.workers
    return InputError(
        "--workers",
        f"is {workers}, and one of them was killed, as happens where memory is short ({killed})",
        "as many as memory has room for: each keeps batches and decoded images of its own",
        f"give fewer --workers, such as {workers // 2}",
    )


def _smaller_step(training: Training, device: torch.device, run: Run) -> InputError:
    advice = list(run.lighter())
    if training.precision in ("32-true", "64-true"):
        advice.append("training.precision=bf16-mixed")
    return InputError(
        "training.batch_size",
        f"is {training.batch_size}, for which {device} has too little memory",
        "a step that fits",
        f"give {'; or '.join(advice)}" if advice else "use a smaller model or smaller images",
    )

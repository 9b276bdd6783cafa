"""Says which settings need less memory, where there was too little."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from whytransfer.core.errors import InputError
from whytransfer.train.config import Training

_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


@contextmanager
def enough_memory(training: Training, device: torch.device) -> Iterator[None]:
    """Turns too little memory inside a block into one clear error.

    Raises:
        InputError: There was too little; names the batch size, and settings that need less.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _too_little(error):
            raise
        raise _error(training, device) from error


def _too_little(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _WORDS)


def _error(training: Training, device: torch.device) -> InputError:
    batch_size = training.batch_size
    advice = []
    if batch_size > 1:
        advice.append(f"training.batch_size={batch_size // 2} and half of {training.lr_field}")
    if training.precision in ("32-true", "64-true"):
        advice.append("training.precision=bf16-mixed")
    advice.append("smaller images (crop_px), or more processes: each holds its part of the batch")
    return InputError(
        "training.batch_size",
        f"is {batch_size}, for which {device} has too little memory",
        "a step that fits",
        f"give {'; or '.join(advice)}",
    )

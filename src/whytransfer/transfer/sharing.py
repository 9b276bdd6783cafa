"""How several processes work on one task: which batches they can share, and how they predict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from whytransfer.core.config import to_plain
from whytransfer.core.processes import Processes
from whytransfer.data import part
from whytransfer.data.part import require_equal_parts
from whytransfer.train.learner import place
from whytransfer.transfer.task import TaskConfig, UntrainedConfig

ResultT = TypeVar("ResultT")

GROUP_SIZES = ("bn_group_size", "padded_together")
"""What fields are called, in any part of a task's configuration, that size groups of images: of
BatchNorm, and of what is padded as one. A group lies within one process.
"""


def require_shares(where: str, config: UntrainedConfig, processes: Processes) -> None:
    """Refuses a batch that the processes can't share equally, or not by whole groups of images.

    Statistics of the whole batch (a group size of ``None``) are synchronised, so they fit anyhow.
    A task that trains nothing shares whole batches of what it computes once, which always fit.

    Raises:
        InputError: Names the field, and a value that works.
    """
    if not isinstance(config, TaskConfig):
        return
    batch_size = config.training.batch_size
    require_equal_parts(where, batch_size, 1, processes)
    for field, size in _group_sizes(to_plain(config)):
        require_equal_parts(where, batch_size, size or 1, processes, field)


def _group_sizes(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | None]]:
    for name, value in values.items():
        if name in GROUP_SIZES:
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _group_sizes(value, f"{prefix}{name}.")


def in_turn(own: Iterator[Sequence[ResultT]], processes: Processes) -> Iterator[ResultT]:
    """Yields on the first process what all of them predicted, image after image, in order.

    As :func:`whytransfer.data.part.in_turn` does, wherever the predictions lie.
    """
    cpu = torch.device("cpu")
    return part.in_turn((place(found, cpu, channels_last=False) for found in own), processes)

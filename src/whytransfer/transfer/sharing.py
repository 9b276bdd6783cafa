"""How several processes predict together: each its share, which the first puts in order.

The batches are those of one process, so that every image stands in the same batch and gets the
same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from whytransfer.core.config import to_plain
from whytransfer.core.processes import Processes
from whytransfer.data.part import require_equal_parts
from whytransfer.train.learner import place
from whytransfer.transfer.task import TaskConfig

ResultT = TypeVar("ResultT")

GROUP_SIZES = ("bn_group_size", "padded_together")
"""What fields are called, in any part of a task's configuration, that size groups of images: of
BatchNorm, and of what is padded as one. A group lies within one process.
"""


def require_shares(where: str, config: TaskConfig, processes: Processes) -> None:
    """Refuses a batch that the processes can't share equally, or not by whole groups of images.

    Statistics of the whole batch (a group size of ``None``) are synchronised, so they fit anyhow.

    Raises:
        InputError: Names the field, and a value that works.
    """
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
    """Yields on the first process what all of them found, image after image, in order.

    On the others it works through their own share at once, sends it, and yields nothing: they
    write nothing.

    Args:
        own: What this process finds in each of its batches: those that
            :func:`whytransfer.data.loader.in_order` gives it.
        processes: Those that share the batches.
    """
    if processes.size == 1:
        return (result for results in own for result in results)
    rounds = _rounds(own, processes)
    if processes.leads:
        return (result for results in rounds for result in results)
    for _ in rounds:
        pass
    return iter(())


def _rounds(own: Iterator[Sequence[ResultT]], processes: Processes) -> Iterator[Sequence[ResultT]]:
    """Yields the batches of round after round, in each the next one of every process.

    One round at a time is on its way, so that the label maps of a whole test set never are.
    """
    while True:
        found = next(own, None)
        left = torch.tensor(int(found is not None))
        torch.distributed.all_reduce(left)
        if not left:
            return
        everyone: list[Any] | None = [None] * processes.size if processes.leads else None
        sent = place(found, torch.device("cpu"), channels_last=False)
        torch.distributed.gather_object(sent, everyone)
        yield from (results for results in everyone or () if results is not None)

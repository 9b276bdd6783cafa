"""How processes share images: a part of every batch in training, whole batches in what is scored.

In training each has so many consecutive images of every batch, the same whoever reads them. What is
computed once per image goes by batches that one process would have, too, so that every image gets
the same bits; the first process puts in order what all of them found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from whytransfer.core.errors import InputError
from whytransfer.core.processes import Processes
from whytransfer.data.loader import Order, Place

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Part:
    """The rank-th of equal consecutive parts of each batch of an order.

    Attributes:
        order: Of the whole batches.
        processes: Those that share them.
    """

    order: Order
    processes: Processes

    def batches(self, first_step: int) -> Iterator[list[Place]]:
        """Yields this process's part of the batches from a step on, without end."""
        rank, size = self.processes.rank, self.processes.size
        for batch in self.order.batches(first_step):
            length = len(batch) // size
            yield batch[rank * length : (rank + 1) * length]


def in_turn(own: Iterator[Sequence[ResultT]], processes: Processes) -> Iterator[ResultT]:
    """Yields on the first process what all of them found, result after result, in order.

    The others get nothing, and have computed all of theirs when this returns.

    Args:
        own: What this process finds in each of its batches: those that
            :func:`whytransfer.data.loader.in_order` gives it. Tensors must lie on the CPU.
        processes: Those that share the batches; they are connected.
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
    import torch  # a study that only plans should not wait for it

    while True:
        found = next(own, None)
        left = torch.tensor(int(found is not None))
        torch.distributed.all_reduce(left)
        if not left:
            return
        everyone: list[Any] | None = [None] * processes.size if processes.leads else None
        torch.distributed.gather_object(found, everyone)
        yield from (results for results in everyone or () if results is not None)


def require_equal_parts(
    where: str,
    batch_size: int,
    group_size: int | None,
    processes: Processes,
    field: str = "bn_group_size",
) -> None:
    """Refuses a batch that the processes can't share equally, or not by whole groups.

    Args:
        where: What is run, for the message.
        batch_size: Images per step, over all processes.
        group_size: Images that share BatchNorm statistics; ``None`` means the whole batch.
        processes: Those that share the batch.
        field: What sets the groups' size, for the message.

    Raises:
        InputError: Names the field, and a value that works.
    """
    size = processes.size
    if size == 1:
        return
    if batch_size % size:
        step = size * (group_size or 1)
        raise InputError(
            f"{where}, field training.batch_size",
            f"{batch_size} images can't be shared equally by {size} processes",
            f"a multiple of {size}",
            f"set training.batch_size={max(1, round(batch_size / step)) * step}",
        )
    part = batch_size // size
    if group_size is None:
        raise InputError(
            f"{where}, field {field}",
            f"null means statistics of the whole batch, of which each of {size} processes holds "
            f"{part} images",
            f"a divisor of {part}",
            f"set {field}={part} on any number of processes, or run one process",
        )
    if part % group_size:
        fitting = max(n for n in range(1, min(part, group_size) + 1) if part % n == 0)
        raise InputError(
            f"{where}, field {field}",
            f"each of {size} processes holds {part} of {batch_size} images, which is no multiple "
            f"of groups of {group_size}",
            f"a divisor of {part}: no group is spread over processes",
            f"set {field}={fitting}, or training.batch_size={size * group_size} or a "
            f"multiple of it, or run {max(1, batch_size // group_size)} processes or fewer",
        )

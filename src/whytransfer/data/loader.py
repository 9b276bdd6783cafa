"""In which order images come, and how they are read: the same for any number of workers.

An order is a pure function of (seed, step): a run that was interrupted starts at any step with the
batch it would have had. What is drawn for an image depends on (epoch, index) alone, so which
process reads it does not matter.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.streams import Stream

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT")

Place = tuple[int, int]
"""(epoch, index): which pass over the data, and which image."""

ReadItem = Callable[[int, int], ItemT]
"""Reads the image of (epoch, index); must be picklable where workers are not forked."""

Collate = Callable[[list[ItemT]], BatchT]
"""Makes a batch of a list of items."""


class Order(Protocol):
    """Which images the batch of each step holds."""

    def batches(self, first_step: int) -> Iterator[list[Place]]:
        """Yields the batches of ``first_step``, ``first_step + 1``, ..., without end."""


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_items: int) -> NDArray[np.int64]:
    permutation = Stream(seed, "order", epoch).permutation(num_items)
    permutation.setflags(write=False)
    return permutation


@dataclass(frozen=True)
class EpochOrder:
    """Every image once per epoch, in an order that each epoch draws anew; no partial batches.

    The images left over at the end of an epoch are dropped from it (``drop_last``, as in moco
    main_moco.py @132aea9).

    Raises:
        InputError: A batch is larger than the data.
    """

    num_items: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.num_items:
            raise InputError(
                "training.batch_size",
                f"is {self.batch_size}, the data have {self.num_items} images",
                f"a number from 1 to {self.num_items}",
                "lower batch_size or add images",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Counts the batches of an epoch."""
        return self.num_items // self.batch_size

    def batch(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """Returns the epoch that a step belongs to and the indices of its images."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        permutation = _permutation(self.seed, epoch, self.num_items)
        return epoch, permutation[start : start + self.batch_size]

    def batches(self, first_step: int) -> Iterator[list[Place]]:
        """Yields the batches from a step on, without end."""
        step = first_step
        while True:
            epoch, indices = self.batch(step)
            yield [(epoch, index) for index in indices.tolist()]
            step += 1


@dataclass(frozen=True)
class EndlessOrder:
    """One endless stream of shuffled passes, cut into batches; batches may span two passes.

    With ``groups`` (such as portrait and landscape), images wait in one bucket per group until
    ``group_size`` of them are there; a batch is the next ``batch_size / group_size`` full buckets.
    A first step other than 0 is reached by replaying the order, without reading an image.

    Source: detectron2 TrainingSampler and AspectRatioGroupedDataset @02b5c4e, where every process
    has buckets of its own, of as many images as it has per step.

    Attributes:
        groups: (num_items,) the group of each image; ``None`` mixes all.
        group_size: Images of a batch that are of one group; the whole batch where ``None``.

    Raises:
        InputError: There is no image, or ``group_size`` does not divide ``batch_size``.
    """

    num_items: int
    batch_size: int
    seed: int
    groups: NDArray[np.generic] | None = field(default=None, compare=False)
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.num_items < 1 or self.batch_size < 1:
            found = f"{self.batch_size} of {self.num_items} images"
            raise InputError(
                "training.batch_size", found, "at least one image per batch", "add images"
            )
        if self.group_size is not None and self.batch_size % self.group_size:
            found = f"is {self.batch_size}, not a multiple of the group size {self.group_size}"
            raise InputError("training.batch_size", found)

    def batches(self, first_step: int) -> Iterator[list[Place]]:
        """Yields the batches from a step on, without end."""
        if self.groups is None:
            stream = self._stream(first_step * self.batch_size)
            while True:
                yield list(islice(stream, self.batch_size))
        yield from islice(self._grouped(self.groups), first_step, None)

    def _grouped(self, groups: NDArray[np.generic]) -> Iterator[list[Place]]:
        group_size = self.group_size or self.batch_size
        buckets: dict[Any, list[Place]] = {group: [] for group in np.unique(groups).tolist()}
        group_of = groups.tolist()
        batch: list[Place] = []
        for place in self._stream(0):
            bucket = buckets[group_of[place[1]]]
            bucket.append(place)
            if len(bucket) == group_size:
                batch += bucket
                bucket.clear()
            if len(batch) == self.batch_size:
                yield batch
                batch = []

    def _stream(self, start: int) -> Iterator[Place]:
        epoch, skipped = divmod(start, self.num_items)
        while True:
            permutation = _permutation(self.seed, epoch, self.num_items)[skipped:]
            yield from ((epoch, index) for index in permutation.tolist())
            epoch, skipped = epoch + 1, 0


def load(
    item: ReadItem[ItemT],
    order: Order,
    collate: Collate[ItemT, BatchT],
    first_step: int,
    num_steps: int,
    workers: int,
) -> Iterator[BatchT]:
    """Yields the batches of ``num_steps`` steps from ``first_step`` on; training data.

    Args:
        item: Reads and augments the image of (epoch, index).
        order: Which images the batch of each step holds.
        collate: Makes a batch of the items of one step.
        first_step: The step to start at.
        num_steps: How many batches.
        workers: Processes that read ahead; 0 reads in this one. The batches are the same bits.

    Raises:
        InputError: An image can't be read; the same error from a worker as from this process.
    """
    return _read(item, islice(order.batches(first_step), num_steps), collate, workers)


def in_order(
    item: ReadItem[ItemT],
    num_items: int,
    batch_size: int,
    collate: Collate[ItemT, BatchT],
    workers: int,
    processes: Processes = ALONE,
) -> Iterator[BatchT]:
    """Yields every image once, in the order of the source, the last batch smaller; for scoring.

    ``item`` is called with epoch 0. Of several processes, each gets every so many-th batch, from
    the one of its rank on. Raises as :func:`load` does.
    """
    starts = range(0, num_items, batch_size)[processes.rank :: processes.size]
    batches = ([(0, i) for i in range(s, min(s + batch_size, num_items))] for s in starts)
    return _read(item, batches, collate, workers)


def _read(
    item: ReadItem[ItemT],
    batches: Iterator[list[Place]],
    collate: Collate[ItemT, BatchT],
    workers: int,
) -> Iterator[BatchT]:
    if workers == 0:
        yield from (collate([item(*place) for place in places]) for places in batches)
        return
    import torch
    from torch.utils.data import DataLoader

    items: Any = _Items(item)  # a mapping, not one of torch's classes, which would import torch
    loader: DataLoader[Any] = DataLoader(
        items,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_Collate(collate),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else it draws a seed from the global generator
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise InputError(batch.where, batch.found, batch.expected, batch.todo)
        yield batch


def _start_worker(_number: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # its thread pool does not survive a fork


@dataclass(frozen=True)
class _Failure:
    """An ``InputError`` on its way from a worker, where torch would make a traceback of it."""

    where: str
    found: str
    expected: str
    todo: str


@dataclass(frozen=True)
class _Items(Generic[ItemT]):
    item: ReadItem[ItemT]

    def __getitem__(self, place: Place) -> ItemT | _Failure:
        try:
            return self.item(*place)
        except InputError as error:
            return _Failure(error.where, error.found, error.expected, error.todo)


@dataclass(frozen=True)
class _Collate(Generic[ItemT, BatchT]):
    collate: Collate[ItemT, BatchT]

    def __call__(self, items: list[ItemT | _Failure]) -> BatchT | _Failure:
        good: list[ItemT] = []
        for item in items:
            if isinstance(item, _Failure):
                return item
            good.append(item)
        return self.collate(good)

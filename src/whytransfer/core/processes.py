"""The processes of one run, as torchrun starts them, and the few words they tell each other.

Tensors travel through ``torch.distributed``. What is here is the talk around them: who writes,
what the one who writes has done, and which process failed first, so that one message says why.
It goes through the key-value store that every such run has, so waiting in it is patient, ends when
another process fails, and needs no GPU.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_FAILED = "whytransfer/failed"
_POLL_SECONDS = 0.02
_LEAVING: list[Callable[[], None]] = []


class FailedElsewhere(RuntimeError):
    """Another process of the run failed first; that one says why, this one only ends."""


@dataclass(frozen=True)
class Processes:
    """The processes of one run, seen from one of them.

    Attributes:
        rank: Number of this process; 0 alone writes artifacts, checkpoints, logs and progress.
        size: Number of processes.
        local_rank: Number of this process among those of its machine.
        local_size: Processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Says whether this is the process that writes."""
        return self.rank == 0

    def share(self, make: Callable[[], str]) -> str:
        """Returns on every process what process 0 makes; the others wait for it.

        Raises:
            FailedElsewhere: Process 0 failed instead.
        """
        if self.size == 1:
            return make()
        talk = _talk()
        return talk.tell(make()) if self.leads else talk.hear()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Runs a block in which a failure of one process ends all of them.

        Warnings in it are logged by the first process alone.

        Raises:
            FailedElsewhere: Another process failed first; only that one raises its own error.
        """
        disabled = logging.root.manager.disable
        if not self.leads:
            logging.disable(logging.WARNING)
        try:
            yield
        except FailedElsewhere:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            first = self.failed_first(message)
            self._leave()
            if first:
                raise
            raise FailedElsewhere("another process of this run failed first") from None
        finally:
            logging.disable(disabled)

    def failed_first(self, message: str) -> bool:
        """Says that this process failed; returns whether it is the one that shall say why."""
        if self.size == 1:
            return True
        claim = f"{self.rank} {message}"
        return _talk().store.compare_set(_FAILED, "", claim).startswith(f"{self.rank} ".encode())

    def _leave(self) -> None:
        """Closes the connections, so that processes which wait for this one's tensors fail too.

        Those of torch not on a GPU, where closing itself can wait: there torchrun ends the others.
        """
        if self.size == 1:
            return
        import torch

        for leave in _LEAVING:
            with contextlib.suppress(OSError):  # the others may be gone before
                leave()
        if torch.distributed.is_initialized() and not torch.cuda.is_available():
            torch.distributed.destroy_process_group()


ALONE = Processes()
"""A run of one process, and whatever does not share its work."""


def here() -> Processes:
    """Returns the processes of this run: those that torchrun's variables name, else this one.

    A process that one of them started in its turn (a worker of a study, of a loader) is alone.
    """
    started_by_python = multiprocessing.parent_process() is not None
    if started_by_python or not all(os.environ.get(name) for name in _VARIABLES):
        return ALONE
    size = int(os.environ["WORLD_SIZE"])
    if size == 1:
        return ALONE
    return Processes(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    )


def when_leaving(leave: Callable[[], None]) -> None:
    """Has a function called when this process fails, before it closes its connections."""
    _LEAVING.append(leave)


def key_value_store() -> "Store":
    """Returns the store that all processes of this run are connected to."""
    return _talk().store


def any_failed() -> bool:
    """Says whether a process of this run has failed, or the store is gone with it."""
    try:
        return _talk().store.check([_FAILED])
    except RuntimeError:
        return True


class _Talk:
    """What process 0 has said so far; all processes hear the same words in the same order."""

    def __init__(self, store: "Store") -> None:
        self.store = store
        self._said = 0

    def tell(self, word: str) -> str:
        self.store.set(self._next_key(), word)
        return word

    def hear(self) -> str:
        key = self._next_key()
        while not self.store.check([key]):
            if self.store.check([_FAILED]):
                raise FailedElsewhere("another process of this run failed first")
            time.sleep(_POLL_SECONDS)
        return self.store.get(key).decode()

    def _next_key(self) -> str:
        self._said += 1
        return f"whytransfer/{self._said}"


@functools.cache
def _talk() -> _Talk:
    from torch.distributed.rendezvous import rendezvous

    store, _rank, _size = next(rendezvous("env://"))
    return _Talk(store)

"""Processes that train on one machine: memory that all of them see, and how they wait in it.

Gloo passes tensors through sockets: each number is copied into the kernel and out of it again, by
threads of its own, which a busy machine lets wait for up to a time slice (4 ms). Processes of one
machine can read each other's memory instead, and a byte through a pipe wakes who waits for it.
"""

import functools
import mmap
import os

import torch
from torch import Tensor, distributed

from whytransfer.core.processes import Processes, when_leaving

_HERE, _GONE = b".", b"!"


def can_share(processes: Processes) -> bool:
    """Says whether all processes of a run are on this machine, and it has such memory (Linux)."""
    return 1 < processes.size == processes.local_size and hasattr(os, "memfd_create")


@functools.cache
def neighbours(processes: Processes) -> "Neighbours":
    """Returns the connection of this process to the others; all of them must ask for it."""
    return Neighbours(processes)


class Neighbours:
    """All processes of a run, on one machine, as one of them sees them.

    Args:
        processes: Connected by gloo, through which they learn where each other's pipes are. Nobody
            else can open these: they have no name in any folder.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        others = [rank for rank in range(processes.size) if rank != processes.rank]
        ends = {rank: os.pipe() for rank in others}
        known: list[tuple[int, dict[int, int]]] = [(0, {})] * processes.size
        own = os.getpid(), {rank: write for rank, (_, write) in ends.items()}
        distributed.all_gather_object(known, own)
        self._inboxes = [read for read, _ in ends.values()]
        self._outboxes = [
            os.open(f"/proc/{pid}/fd/{inboxes[processes.rank]}", os.O_WRONLY)
            for rank, (pid, inboxes) in enumerate(known)
            if rank != processes.rank
        ]
        distributed.barrier()  # all have opened them
        for _, write in ends.values():
            os.close(write)  # so that a pipe ends with the process that writes to it
        self._turns = torch.empty(2, 0, 0, dtype=torch.uint8).unbind()
        when_leaving(self._leave)

    def meet(self) -> None:
        """Waits for all processes.

        Raises:
            RuntimeError: One of them is gone.
        """
        try:
            for outbox in self._outboxes:
                os.write(outbox, _HERE)
            all_here = all(os.read(inbox, 1) == _HERE for inbox in self._inboxes)
        except BrokenPipeError:  # nobody reads what was written
            all_here = False
        if not all_here:
            raise RuntimeError("another process of this run is gone")

    def gather(self, own: Tensor) -> Tensor:
        """Returns the tensors of all processes, (processes, ...) of (...), contiguous on the CPU.

        Two pieces of memory take turns: who writes to one again has met all others since, which
        have read it by then.
        """
        size = self.processes.size
        if own.nbytes > self._turns[0].shape[1]:
            self._turns = self.share_bytes(2 * size, own.nbytes).chunk(2)
        self._turns = self._turns[::-1]
        rows = self._turns[0][:, : own.nbytes]
        rows[self.processes.rank] = own.flatten().view(torch.uint8)
        self.meet()
        return rows.clone().view(own.dtype).view(size, *own.shape)

    def share_bytes(self, rows: int, length: int) -> Tensor:
        """Returns (rows, length) uint8 zeros that all processes see; all of them must call it.

        It is a file of the first process that has no name in any folder: /dev/shm is often small,
        and writing beyond its end kills a process. It is gone with the last tensor that shows it.
        """
        leads = self.processes.leads
        file = os.memfd_create("whytransfer") if leads else -1
        if leads:
            os.ftruncate(file, rows * length)
        path = self.processes.share(lambda: f"/proc/{os.getpid()}/fd/{file}")
        if not leads:
            file = os.open(path, os.O_RDWR)
        shared = torch.frombuffer(mmap.mmap(file, rows * length), dtype=torch.uint8)
        self.meet()  # all have opened it
        os.close(file)
        return shared.view(rows, length)

    def _leave(self) -> None:
        """Tells those that wait for this process, or will, that it does not come any more."""
        for outbox in self._outboxes:
            os.write(outbox, _GONE)  # its end would not do: a forked worker has it, too

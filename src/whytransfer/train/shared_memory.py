"""Memory that all processes of one machine see, and how they wait for each other around it.

Gloo passes tensors through sockets: each number is copied into the kernel and out of it again, by
threads that take the core from the training. Processes of one machine can read each other's memory
instead.
"""

import mmap
import os

import torch
from torch import Tensor, distributed

from whytransfer.core.processes import Processes


def can_share(processes: Processes) -> bool:
    """Says whether all processes of a run are on this machine, and it has such memory (Linux)."""
    return 1 < processes.size == processes.local_size and hasattr(os, "memfd_create")


def share_bytes(processes: Processes, rows: int, length: int) -> Tensor:
    """Returns (rows, length) uint8 zeros that all processes see; all of them must call it.

    It is a file of the first process that has no name in any folder: /dev/shm is often small, and
    writing beyond its end kills a process. It is gone with the last tensor that shows it.
    """
    file = os.memfd_create("whytransfer") if processes.leads else -1
    if processes.leads:
        os.ftruncate(file, rows * length)
    path = processes.share(lambda: f"/proc/{os.getpid()}/fd/{file}")
    if not processes.leads:
        file = os.open(path, os.O_RDWR)
    shared = torch.frombuffer(mmap.mmap(file, rows * length), dtype=torch.uint8)
    meet()  # all have opened it
    os.close(file)
    return shared.view(rows, length)


def meet() -> None:
    """Waits for all processes; fails where one of them is gone."""
    distributed.all_reduce(torch.zeros(1))


class SharedGather:
    """Shows each process the tensors of all of them, by way of memory that they share.

    Args:
        processes: All of a run, on one machine, connected by gloo.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._turns = torch.empty(2, 0, 0, dtype=torch.uint8).unbind()

    def __call__(self, own: Tensor) -> Tensor:
        """Returns the tensors of all processes, (processes, ...) of (...), contiguous on the CPU.

        Two pieces of memory take turns: who writes to one again has met all others since, which
        have read it by then.
        """
        size = self._processes.size
        if own.nbytes > self._turns[0].shape[1]:
            self._turns = share_bytes(self._processes, 2 * size, own.nbytes).chunk(2)
        self._turns = self._turns[::-1]
        rows = self._turns[0][:, : own.nbytes]
        rows[self._processes.rank] = own.flatten().view(torch.uint8)
        meet()
        return rows.clone().view(own.dtype).view(size, *own.shape)

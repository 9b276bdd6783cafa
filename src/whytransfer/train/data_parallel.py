"""Gradients of several processes: torch's data parallelism, on one CPU through shared memory.

Gloo passes gradients through sockets: each number is copied into the kernel and out of it again, by
threads that take the core from the training. Processes of one machine can read each other's memory
instead, and then wait for each other once, when the backward is over: there is no network to hide.
"""

import inspect
import mmap
import os
from typing import Any

import torch
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from whytransfer.core.processes import Processes

_ONE_BUCKET_MB = 1 << 20  # more than any model has


class DataParallel(DDPStrategy):
    """Fabric's strategy, which leaves each process its own running statistics of BatchNorm.

    See :mod:`whytransfer.train.running` for these. Gradients lie in the buckets that are averaged,
    not beside them.

    Args:
        processes: Those that train together.
        on_cpu: Whether they train on the CPU: on one machine with Linux they share memory then.
    """

    def __init__(self, processes: Processes, on_cpu: bool) -> None:
        near = processes.size == processes.local_size and hasattr(os, "memfd_create")
        self._shared = SharedMean(processes) if on_cpu and near else None
        options = _own_buffers() | {"gradient_as_bucket_view": True}
        if self._shared:
            options["bucket_cap_mb"] = _ONE_BUCKET_MB
        super().__init__(**options)

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """Wraps a module, whose gradients are then means over the processes."""
        wrapped = super().setup_module(module)
        if self._shared:
            wrapped.register_comm_hook(None, self._shared.of_bucket)
        return wrapped


class SharedMean:
    """Takes means over processes that can read each other's memory; all get the same bits.

    Each process adds up one part of everyone's numbers, and copies the other parts from those that
    added them up: of two processes the bits are gloo's, of more its numbers to rounding.

    Args:
        processes: All of a run, on one machine, connected by gloo.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._memory: dict[int, Tensor] = {}

    def of_bucket(self, _: object, bucket: GradBucket) -> Future[Tensor]:
        """Averages a bucket of gradients in place, as torch's data parallelism calls it."""
        gradients = bucket.buffer()
        self.average(gradients, bucket.index())
        done: Future[Tensor] = Future()
        done.set_result(gradients)
        return done

    def average(self, values: Tensor, number: int = 0) -> None:
        """Replaces values, (N,) on the CPU and as many on every process, by their mean.

        Args:
            values: This process's own.
            number: Of the memory to use, which is kept; the same on every process.
        """
        size, own = self._processes.size, self._processes.rank
        everyone = self._memory.get(number)
        if everyone is None or everyone.shape[1:] != values.shape or everyone.dtype != values.dtype:
            everyone = self._memory[number] = self._map(values)
        torch.mul(values, 1 / size, out=everyone[own])
        _meet()
        parts = everyone.tensor_split(size, dim=1)  # part p: (processes, numbers that p adds up)
        for rank in range(size):
            if rank != own:
                parts[own][own].add_(parts[own][rank])
        _meet()
        for rank, part in enumerate(values.tensor_split(size)):
            part.copy_(parts[rank][rank])
        _meet()  # none writes its next values before all have read these

    def _map(self, values: Tensor) -> Tensor:
        """Returns (processes, N) numbers in memory that all processes see.

        It is a file of the first process that has no name in any folder: /dev/shm is often small,
        and writing beyond its end kills a process. It is gone when all of them are.
        """
        size = values.numel() * values.element_size() * self._processes.size
        file = os.memfd_create("gradients") if self._processes.leads else -1
        if self._processes.leads:
            os.ftruncate(file, size)
        path = self._processes.share(lambda: f"/proc/{os.getpid()}/fd/{file}")
        if not self._processes.leads:
            file = os.open(path, os.O_RDWR)
        shared = torch.frombuffer(mmap.mmap(file, size), dtype=values.dtype)
        _meet()  # all have opened it
        os.close(file)
        return shared.view(self._processes.size, -1)


def _meet() -> None:
    """Waits for all processes; fails where one of them is gone."""
    distributed.all_reduce(torch.zeros(1))


def _own_buffers() -> dict[str, Any]:
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return {name: False}

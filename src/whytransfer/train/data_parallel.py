"""Gradients of several processes: their mean, on one CPU through shared memory.

There they wait for each other when the backward is over: no network's time is to be hidden in it.
"""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from whytransfer.core.processes import Processes
from whytransfer.train.neighbours import Neighbours, can_share, neighbours

_ALIGNED = 64
"""Numbers; a row, and in it each parameter's gradients, begin on a line of the cache."""


def data_parallel(processes: Processes, on_cpu: bool) -> DDPStrategy:
    """Returns the strategy by which a learner's gradients become means over the processes.

    Args:
        processes: Those that train together.
        on_cpu: Whether they train on the CPU: on one machine with Linux they share memory then.
    """
    return SharedDataParallel(processes) if on_cpu and can_share(processes) else DataParallel()


class DataParallel(DDPStrategy):
    """torch's data parallelism, which leaves each process its own running statistics of BatchNorm.

    See :mod:`whytransfer.train.running` for these. Gradients lie in the buckets that are averaged,
    not beside them.
    """

    def __init__(self) -> None:
        super().__init__(**_own_buffers(), gradient_as_bucket_view=True)


class SharedDataParallel(DDPStrategy):
    """The same for processes of one machine that train on its CPU.

    A module stays what it is. After each backward its gradients are replaced by their means, which
    lie in shared memory: they must not be changed in place.

    Args:
        processes: All of a run, on one machine, connected by gloo.
    """

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes
        self._gradients: list[SharedGradients] = []

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """Gives all processes the first one's module, whose gradients are means from then on."""
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                values = tensor.contiguous()
                distributed.broadcast(values, src=0)
                tensor.copy_(values)
        trained = [each for each in module.parameters() if each.requires_grad]
        self._gradients.append(SharedGradients(trained, neighbours(self._processes)))
        return module

    def backward(self, tensor: Tensor, module: nn.Module | None, *args: Any, **kwargs: Any) -> None:
        """Computes this process's gradients, then everyone's mean of them."""
        with ExitStack() as stack:
            for gradients in self._gradients:
                stack.enter_context(gradients.averaged())
            super().backward(tensor, module, *args, **kwargs)


class SharedGradients:
    """Takes means over processes that can read each other's memory; all get the same bits.

    Each process writes its gradients into its row of the memory, each as soon as it is there, and
    adds up one part of everyone's into the row of means, where all read it. Of two processes the
    bits are gloo's, of more its numbers to rounding.

    Args:
        parameters: The same on every process, at least one; where one has no gradient, it counts
            as 0 if another process has one.
        near: The processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], near: Neighbours) -> None:
        by_type: dict[torch.dtype, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            by_type[parameter.dtype].append(parameter)
        self._meet = near.meet
        self._kinds = [_Kind(found, near) for found in by_type.values()]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Runs one backward, after which each gradient is its mean, in shared memory."""
        with ExitStack() as stack:
            for kind in self._kinds:
                stack.enter_context(kind.written())
            yield
        self._meet()
        for kind in self._kinds:
            kind.add()
        self._meet()  # none overwrites its row before, nor a mean before all have met once more
        for kind in self._kinds:
            kind.read()


class _Kind:
    """The gradients of parameters of one type: a row of each process, and one of the means.

    After the gradients of all parameters stands for each of them whether it has one.
    """

    def __init__(self, parameters: list[nn.Parameter], near: Neighbours) -> None:
        self._parameters, self._processes = parameters, near.processes
        lengths = [_aligned(each.numel()) for each in parameters]
        *self._starts, self._end = accumulate(lengths, initial=0)
        dtype, numbers = parameters[0].dtype, self._end + _aligned(len(parameters))
        memory = near.share_bytes(near.processes.size + 1, numbers * dtype.itemsize)
        *self._rows, self._means = memory.view(dtype).unbind()
        self._own = self._rows[near.processes.rank]
        self._shown_own, self._shown_means = self._shown(self._own), self._shown(self._means)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Has a backward write this process's part of the means into its row."""
        part = 1 / self._processes.size
        missing = dict(enumerate(self._shown_own))

        def write(number: int, parameter: Tensor) -> None:
            assert parameter.grad is not None
            torch.mul(parameter.grad, part, out=missing.pop(number))
            parameter.grad = None

        hooks = []
        for number, parameter in enumerate(self._parameters):
            register: Any = parameter.register_post_accumulate_grad_hook
            hooks.append(register(partial(write, number)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        has = self._own[self._end :].fill_(1)
        for number, shown in missing.items():
            shown.zero_()
            has[number] = 0

    def add(self) -> None:
        size, rank = self._processes.size, self._processes.rank
        first, second, *others = (row.tensor_split(size)[rank] for row in self._rows)
        means = self._means.tensor_split(size)[rank]
        torch.add(first, second, out=means)
        for other in others:
            means.add_(other)

    def read(self) -> None:
        has_any = self._means[self._end :][: len(self._parameters)].tolist()
        for parameter, mean, has in zip(self._parameters, self._shown_means, has_any, strict=True):
            parameter.grad = mean if has else None

    def _shown(self, row: Tensor) -> list[Tensor]:
        """Returns the places of a row as gradients, which lie in memory as their parameters do."""
        return [
            row[start:].as_strided(each.shape, torch.empty_like(each).stride())
            for start, each in zip(self._starts, self._parameters, strict=True)
        ]


def _aligned(numbers: int) -> int:
    return -(-numbers // _ALIGNED) * _ALIGNED


def _own_buffers() -> dict[str, Any]:
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return {name: False}

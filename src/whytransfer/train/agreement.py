"""What the processes of a run tell each other in every step, beside their gradients."""

import signal
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from whytransfer.core.processes import Processes
from whytransfer.train.neighbours import can_share, neighbours
from whytransfer.train.stopping import SIGNALS


def gather_all(tensor: Tensor) -> Tensor:
    """Returns the tensors of all processes, (processes, ...) of (...); no gradient flows.

    Images that lie channels-last in memory still do.
    """
    return _as_it_lies(_all, tensor.detach())


def gatherer(processes: Processes) -> Callable[[Tensor], Tensor]:
    """Returns what does as :func:`gather_all`, through shared memory where that is faster.

    With one process it leaves a tensor as it is.
    """
    if processes.size == 1:
        return _itself
    if not can_share(processes):
        return gather_all

    def gather(tensor: Tensor) -> Tensor:
        near = neighbours(processes).gather if tensor.device.type == "cpu" else _all
        return _as_it_lies(near, tensor.detach())

    return gather


def _as_it_lies(gather: Callable[[Tensor], Tensor], own: Tensor) -> Tensor:
    """Gathers images in the order in which they lie in memory, everything else as contiguous."""
    if own.dim() == 4 and own.is_contiguous(memory_format=torch.channels_last):
        return gather(own.permute(0, 2, 3, 1)).permute(0, 1, 4, 2, 3)
    return gather(own.contiguous())


def _all(own: Tensor) -> Tensor:
    everyone = own.new_empty(torch.distributed.get_world_size(), *own.shape)
    torch.distributed.all_gather(list(everyone.unbind()), own)
    return everyone


def agree(
    values: Mapping[str, float], asked: signal.Signals | None, processes: Processes
) -> tuple[dict[str, float], signal.Signals | None]:
    """Returns each scalar's mean over the processes, and the signal that came to any of them.

    Args:
        values: The scalars of this process's part of the batch; the same names on all.
        asked: The signal that came to this process.
        processes: With one, all stays as it is.
    """
    if processes.size == 1:
        return dict(values), asked
    # On the CPU, also where gradients go from GPU to GPU: no GPU has to wait for it.
    flags = [float(asked is number) for number in SIGNALS]
    own = torch.tensor([*values.values(), *flags], dtype=torch.float64)
    sums = gatherer(processes)(own).sum(0)
    means = (sums[: len(values)] / processes.size).tolist()
    came = [number for number, count in zip(SIGNALS, sums[len(values) :], strict=True) if count]
    return dict(zip(values, means, strict=True)), came[0] if came else None


def _itself(tensor: Tensor) -> Tensor:
    return tensor

"""What the processes of a run tell each other in every step, beside their gradients."""

import signal
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from whytransfer.core.processes import Processes
from whytransfer.train.stopping import SIGNALS


def gather_all(tensor: Tensor) -> Tensor:
    """Returns the tensors of all processes, (processes, ...) of (...); no gradient flows."""
    own = tensor.detach().contiguous()
    everyone = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(everyone, own)
    return torch.stack(everyone)


def gatherer(processes: Processes) -> Callable[[Tensor], Tensor]:
    """Returns :func:`gather_all`, or with one process what leaves a tensor as it is."""
    return _itself if processes.size == 1 else gather_all


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
    # On the CPU, by gloo, also where gradients go from GPU to GPU: no GPU has to wait for it.
    flags = [float(asked is number) for number in SIGNALS]
    sums = torch.tensor([*values.values(), *flags], dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    means = (sums[: len(values)] / processes.size).tolist()
    came = [number for number, count in zip(SIGNALS, sums[len(values) :], strict=True) if count]
    return dict(zip(values, means, strict=True)), came[0] if came else None


def _itself(tensor: Tensor) -> Tensor:
    return tensor

"""BatchNorm's running statistics on several processes, each of which sees groups of its own.

A running statistic is linear in the groups' statistics, so the mean over the processes is what one
process would have that saw all groups. While a run goes on each process keeps its own; checkpoints
hold both, the artifact the mean. The query encoder's and the key encoder's are separate layers,
each averaged with itself alone.
"""

import torch
from torch import Tensor, nn

from whytransfer.core.processes import Processes
from whytransfer.train.agreement import gather_all


def statistics(model: nn.Module) -> Tensor:
    """Returns all running means and variances as one vector, float64 so that no bit is lost."""
    tensors = [tensor.double().flatten() for tensor in _buffers(model)]
    return torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.float64)


@torch.no_grad()
def set_statistics(model: nn.Module, values: Tensor) -> None:
    """Writes back what :func:`statistics` returned."""
    start = 0
    for tensor in _buffers(model):
        tensor.copy_(values[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def agree_on_statistics(model: nn.Module, processes: Processes) -> None:
    """Gives the model of every process the mean of what each has."""
    if processes.size > 1:
        set_statistics(model, gather_all(statistics(model)).mean(0))


def _buffers(model: nn.Module) -> list[Tensor]:
    """Lists the statistics; anew each time, because a model that moves gets other tensors."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    found = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
    return [tensor for tensor in found if tensor is not None]

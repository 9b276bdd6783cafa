"""BatchNorm's running statistics on several processes, each of which sees groups of its own.

A running statistic is linear in the groups' statistics, so the mean over the processes is what one
process would have that saw all groups. Layers whose statistics are of the batch's first group have
those of the first process, which holds it. While a run goes on each process keeps its own;
checkpoints hold both, the artifact what was put together. The query encoder's and the key encoder's
are separate layers, each put together with itself alone.
"""

import torch
from torch import Tensor, nn

from whytransfer.core.processes import Processes
from whytransfer.train.agreement import gather_all
from whytransfer.train.norm import GroupedBatchNorm2d


def statistics(model: nn.Module) -> Tensor:
    """Returns all running means and variances as one vector, float64 so that no bit is lost."""
    tensors = [tensor.double().flatten() for _, tensor in _placed(model)]
    return torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.float64)


@torch.no_grad()
def set_statistics(model: nn.Module, values: Tensor) -> None:
    """Writes back what :func:`statistics` returned."""
    start = 0
    for _, tensor in _placed(model):
        tensor.copy_(values[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def together(model: nn.Module, everyone: Tensor) -> Tensor:
    """Returns what one process would have.

    Args:
        everyone: (processes, values), the :func:`statistics` of each.
    """
    firsts = [torch.full((t.numel(),), _is_first(norm)) for norm, t in _placed(model)]
    if not firsts:
        return everyone[0]
    return torch.where(torch.cat(firsts).to(everyone.device), everyone[0], everyone.mean(0))


def agree_on_statistics(model: nn.Module, processes: Processes) -> None:
    """Gives the model of every process what one process would have."""
    if processes.size > 1:
        set_statistics(model, together(model, gather_all(statistics(model))))


def _is_first(norm: nn.Module) -> bool:
    return isinstance(norm, GroupedBatchNorm2d) and norm.running == "first"


def _placed(model: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """Lists layers and statistics; anew each time, as a model that moves gets other tensors."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    found = [(norm, tensor) for norm in norms for tensor in (norm.running_mean, norm.running_var)]
    return [(norm, tensor) for norm, tensor in found if tensor is not None]

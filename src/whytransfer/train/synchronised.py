"""BatchNorm over a batch that several processes hold: the statistics are of the whole of it.

What one process computes with a plain BatchNorm, any number of them compute with this one, to
rounding: every value counts alike, also where the processes have unequally many of them (the
regions of a detector). On a CPU and on a GPU.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whytransfer.core.processes import Processes
from whytransfer.train.agreement import gather_all
from whytransfer.train.norm import GroupedBatchNorm2d


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the whole batch, of which each process holds a part; in eval mode plain.

    The state dict is that of ``nn.BatchNorm2d``. Only the processes of a run in which every one of
    them calls it may train with it.

    Source: Zhang et al. 2018, section 3.2 (synchronised over devices); torch.nn.SyncBatchNorm,
        which needs a GPU.
    Differs: the "naive" one of the reference gives each GPU the same weight, also where it has
        fewer regions than another.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W) by the whole batch's statistics, in eval by the running ones."""
        if not self.training:
            return super().forward(input)
        count, statistics = _statistics(input.detach())
        mean, variance = statistics
        assert self.momentum is not None
        with torch.no_grad():
            unbiased = variance * (count / (count - 1.0))
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
            self.num_batches_tracked.add_(1)
        scale_and_shift: tuple[Tensor, Tensor] = self.weight, self.bias
        if not self.affine:
            scale_and_shift = torch.ones_like(mean), torch.zeros_like(mean)
        args = input, *scale_and_shift, statistics, count, self.eps
        return cast(Tensor, _Synchronised.apply(*args))


def _statistics(input: Tensor) -> tuple[Tensor, Tensor]:
    """Returns of all processes: values per channel (), and (2, C) means and biased variances.

    Each process gives the mean of its own values and the sum of squares around it, which are then
    put together as Chan et al. 1983 do: sums of squares around zero would cancel.
    """
    exact = input.dtype == torch.float64
    values = input if exact else input.float()
    own = values.new_zeros(3, input.shape[1])
    own[0] = input.numel() / input.shape[1]
    if len(input):
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        own[1], own[2] = mean, variance
    counts, means, variances = gather_all(own.double()).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return total[0], torch.stack([mean, variance]).to(values)


class _Synchronised(torch.autograd.Function):
    """The plain kernels under given statistics, whose dependence on the batch is added backwards.

    A value moves the output in three ways: directly, through the mean, and through the variance.
    The kernel for given statistics computes the first, and as the gradients of scale and shift the
    two sums over the batch that the others need.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        mean, variance = statistics
        ctx.save_for_backward(input, weight, statistics, count)
        ctx.eps = eps
        return F.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, statistics, count = ctx.saved_tensors
        mean, variance = statistics
        scale = (variance + ctx.eps).rsqrt()
        direct, (grad_weight, grad_bias) = grad, torch.zeros_like(statistics)
        if len(input):  # the kernel divides by the number of rows
            direct, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                grad, input, weight, mean, variance, None, None, False, ctx.eps, (True, True, True)
            )
        # The loss of each process is its own, but its values moved the others' outputs, too.
        sums = torch.stack([grad_weight, grad_bias]).double()
        torch.distributed.all_reduce(sums)
        by_weight, by_bias = (sums / count).to(scale)
        # scale·weight·(by_bias + (input - mean)·scale·by_weight), as one line per channel
        slope = weight * scale * scale * by_weight
        level = weight * scale * by_bias - slope * mean
        shape = (1, -1, 1, 1)
        through = torch.addcmul(level.view(shape), input, slope.view(shape))
        grad_input = direct - through.to(direct)
        return grad_input, grad_weight, grad_bias, None, None, None


def synchronise(module: nn.Module, processes: Processes) -> None:
    """Replaces every plain BatchNorm2d inside a module, in place, for several processes.

    Groups of fewer images than the batch are left as they are: each lies within one process.

    Args:
        module: Whose layers are replaced; it can't be one itself.
        processes: Those that share each batch.
    """
    if processes.size == 1:
        return
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _converted(child))
        elif not isinstance(child, GroupedBatchNorm2d):
            synchronise(child, processes)


def _converted(norm: nn.BatchNorm2d) -> SynchronisedBatchNorm2d:
    if norm.momentum is None or not norm.track_running_stats:
        raise ValueError(f"needs a BatchNorm with running statistics, not {norm}")
    converted = SynchronisedBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
    for name in (*norm._parameters, *norm._buffers):
        setattr(converted, name, getattr(norm, name))
    return converted.train(norm.training)

"""BatchNorm whose statistics are of groups of images: a part of the recipe, not of the machine.

The reference trains with plain BatchNorm on several GPUs, each of which normalises by the images
that it happens to hold: 256 images on 8 GPUs are 8 groups of 32. Here the group is a setting, so
one process computes what 8 did. Instance discrimination needs the groups: with statistics over
the whole batch a query and its key would share them, and so give each other away.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Running = Literal["mean", "first"]
"""What running statistics move towards: the mean over a batch's groups, or its first group's."""


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over groups of ``group_size`` consecutive images; in eval mode plain BatchNorm.

    The state dict is that of ``nn.BatchNorm2d``. The running statistics move towards the mean
    over the groups, of their means and of their unbiased variances; or towards the first group's.

    Args:
        num_features: Channels of the input.
        group_size: Images per group; a batch in training must be a multiple of it.
        eps: Added to the variance.
        momentum: Weight of the newest statistics in the running ones.
        running: Of which groups the running statistics are.

    Attributes:
        region_counts: Rows of the input that belong to each image; ``None`` means one, the image
            itself. Set by :func:`regions_of`.

    Source: He et al. 2020, section 3.3 (shuffling BN); moco main_moco.py @132aea9, where a group
        is the batch of one GPU.
    Differs: The reference's checkpoint holds the running statistics of one process's groups only,
        which is ``first``; the mean over the groups has the same expectation and less noise.
    """

    num_features: int
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        group_size: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        running: Running = "mean",
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.group_size, self.running = group_size, running
        self.region_counts: tuple[int, ...] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W) by its groups' statistics, or in eval mode by the running ones.

        Raises:
            ValueError: In training, the images are no multiple of the group size, or a group has
                one value per channel, or the regions are not as many as was said.
        """
        if not self.training:
            return super().forward(input)
        rows = self._rows_of_groups(len(input))
        if min(rows) * input[0, 0].numel() < 2:
            raise ValueError(f"a group has one value per channel: {tuple(input.shape)}, {rows}")
        # With momentum 1 the kernel leaves each group's own statistics in its row. It multiplies
        # what was there by 0, so that must be finite.
        statistics = self.running_mean.new_zeros(2, len(rows), self.num_features)
        # One group needs no slices, and what torch.compile fuses is the plain form.
        plain = len(rows) == 1 or torch.compiler.is_compiling()
        normalise = split_and_cat if plain else _in_slices
        normalised = normalise(input, self.weight, self.bias, statistics, rows, self.eps)
        with torch.no_grad():
            means, variances = statistics[:, 0] if self.running == "first" else statistics.mean(1)
            self.running_mean.lerp_(means, self.momentum)
            self.running_var.lerp_(variances, self.momentum)
            self.num_batches_tracked.add_(1)
        return normalised

    def extra_repr(self) -> str:
        """Says in print what distinguishes this layer."""
        return f"{self.num_features}, group_size={self.group_size}, eps={self.eps}"

    def _rows_of_groups(self, num_rows: int) -> list[int]:
        """Counts the rows of each group, of groups that have any."""
        counts, size = self.region_counts, self.group_size
        num_images = num_rows if counts is None else len(counts)
        if num_images % size or not num_images:
            raise ValueError(f"{num_images} images are no multiple of groups of {size}")
        if counts is None:
            return [size] * (num_images // size)
        if sum(counts) != num_rows or not num_rows:
            raise ValueError(f"{num_rows} regions, but the images have {counts} of them")
        sums = [sum(counts[start : start + size]) for start in range(0, num_images, size)]
        return [rows for rows in sums if rows]


@contextmanager
def regions_of(module: nn.Module, counts: Sequence[int]) -> Iterator[None]:
    """Lets a module read regions of images inside the block: each stays in its image's group.

    Args:
        module: Its grouped BatchNorm layers are told; others are left alone.
        counts: Regions of each image of the batch; the input's rows are those of the first image,
            then those of the second, and so on.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, GroupedBatchNorm2d)]
    for norm in norms:
        norm.region_counts = tuple(counts)
    try:
        yield
    finally:
        for norm in norms:
            norm.region_counts = None


def split_and_cat(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    rows: list[int],
    eps: float,
) -> Tensor:
    """Normalises group after group: the plain form, whose bits the faster one has too.

    Args:
        input: (N, C, H, W).
        weight: (C,) the scale.
        bias: (C,) the shift.
        statistics: (2, groups, C) finite numbers, which each group's means and unbiased variances
            replace.
        rows: Length of each group.
        eps: Added to the variance.
    """
    normalised = [
        F.batch_norm(group, mean, variance, weight, bias, True, 1.0, eps)
        for group, mean, variance in zip(torch.split(input, rows), *statistics, strict=True)
    ]
    return normalised[0] if len(rows) == 1 else torch.cat(normalised)


def _in_slices(*args: Any) -> Tensor:
    return cast(Tensor, _InSlices.apply(*args))


class _InSlices(torch.autograd.Function):
    """:func:`split_and_cat` whose groups are written where they belong, and copied nowhere."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: Tensor,
        rows: list[int],
        eps: float,
    ) -> Tensor:
        output = torch.empty_like(input)
        exact = input.dtype == torch.float64
        saved = torch.empty_like(statistics, dtype=torch.float64 if exact else torch.float32)
        split = torch.split(input, rows), torch.split(output, rows)
        groups = zip(*split, *statistics, *saved, strict=True)
        for group, out, mean, variance, own_mean, own_scale in groups:
            torch.ops.aten.native_batch_norm.out(
                group, weight, bias, mean, variance, True, 1.0, eps,
                out=out, save_mean=own_mean, save_invstd=own_scale,
            )  # fmt: skip
        ctx.save_for_backward(input, weight, saved)
        ctx.rows, ctx.eps = rows, eps
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, saved = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        grad_input = torch.empty_like(input) if wanted[0] else input
        groups = zip(torch.split(grad, ctx.rows), torch.split(input, ctx.rows), *saved, strict=True)
        slices = torch.split(grad_input, ctx.rows)
        sums: list[Tensor | None] = [None, None]
        # The last group first, as autograd would go: sums of floats depend on the order.
        for place, (above, group, mean, scale) in reversed(list(enumerate(groups))):
            own, *parts = torch.ops.aten.native_batch_norm_backward(
                above, group, weight, None, None, mean, scale, True, ctx.eps, wanted
            )
            if wanted[0]:
                slices[place].copy_(own)
            sums = [_plus(*pair) for pair in zip(sums, parts, strict=True)]
        return (grad_input if wanted[0] else None, *sums, None, None, None)


def _plus(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """Adds gradients, where there are any."""
    return part if total is None or part is None else total + part


def convert_groups(module: nn.Module, group_size: int | None, running: Running = "mean") -> None:
    """Replaces every BatchNorm2d inside a module, in place, keeping its parameters and buffers.

    Args:
        module: Whose BatchNorm layers are replaced; it can't be one itself.
        group_size: Images per group; ``None`` makes them plain BatchNorm over the whole batch.
        running: Of which groups the running statistics are.
    """
    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm2d, GroupedBatchNorm2d):
            setattr(module, name, _converted(child, group_size, running))  # type: ignore[arg-type]
        else:
            convert_groups(child, group_size, running)


def _converted(norm: nn.BatchNorm2d, group_size: int | None, running: Running) -> nn.BatchNorm2d:
    if norm.momentum is None or not norm.affine or not norm.track_running_stats:
        raise ValueError(f"grouping needs an affine BatchNorm with running statistics, not {norm}")
    converted = (
        nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
        if group_size is None
        else GroupedBatchNorm2d(norm.num_features, group_size, norm.eps, norm.momentum, running)
    )
    converted.weight, converted.bias = norm.weight, norm.bias
    converted.running_mean, converted.running_var = norm.running_mean, norm.running_var
    converted.num_batches_tracked = norm.num_batches_tracked
    return converted.train(norm.training)

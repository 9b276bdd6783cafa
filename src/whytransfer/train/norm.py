"""BatchNorm whose statistics are of groups of images: a part of the recipe, not of the machine.

The reference trains with plain BatchNorm on several GPUs, each of which normalises by the images
that it happens to hold: 256 images on 8 GPUs are 8 groups of 32. Here the group is a setting, so
one process computes what 8 did. Instance discrimination needs the groups: with statistics over
the whole batch a query and its key would share them, and so give each other away.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over groups of ``group_size`` consecutive images; in eval mode plain BatchNorm.

    The state dict is that of ``nn.BatchNorm2d``. The running statistics move towards the mean
    over the groups, of their means and of their unbiased variances.

    Args:
        num_features: Channels of the input.
        group_size: Images per group; a batch in training must be a multiple of it.
        eps: Added to the variance.
        momentum: Weight of the newest statistics in the running ones.

    Source: He et al. 2020, section 3.3 (shuffling BN); moco main_moco.py @132aea9, where a group
        is the batch of one GPU.
    Differs: The reference's checkpoint holds the running statistics of one process's groups only;
        the mean over the groups has the same expectation and less noise.
    """

    num_features: int
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, num_features: int, group_size: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.group_size = group_size

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W) by its groups' statistics, or in eval mode by the running ones.

        Raises:
            ValueError: In training, N is no multiple of the group size.
        """
        if not self.training:
            return super().forward(input)
        num_groups, rest = divmod(len(input), self.group_size)
        if rest or not num_groups:
            raise ValueError(f"{len(input)} images are no multiple of groups of {self.group_size}")
        # With momentum 1 the kernel leaves each group's own statistics in its row. It multiplies
        # what was there by 0, so that must be finite.
        means = self.running_mean.new_zeros(num_groups, self.num_features)
        variances = torch.zeros_like(means)
        normalised = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(
                torch.split(input, self.group_size), means, variances, strict=True
            )
        ]
        with torch.no_grad():
            self.running_mean.lerp_(means.mean(0), self.momentum)
            self.running_var.lerp_(variances.mean(0), self.momentum)
            self.num_batches_tracked.add_(1)
        return normalised[0] if num_groups == 1 else torch.cat(normalised)

    def extra_repr(self) -> str:
        """Says in print what distinguishes this layer."""
        return f"{self.num_features}, group_size={self.group_size}, eps={self.eps}"


def convert_groups(module: nn.Module, group_size: int | None) -> None:
    """Replaces every BatchNorm2d inside a module, in place, keeping its parameters and buffers.

    Args:
        module: Whose BatchNorm layers are replaced; it can't be one itself.
        group_size: Images per group; ``None`` makes them plain BatchNorm over the whole batch.
    """
    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm2d, GroupedBatchNorm2d):
            setattr(module, name, _converted(child, group_size))  # type: ignore[arg-type]
        else:
            convert_groups(child, group_size)


def _converted(norm: nn.BatchNorm2d, group_size: int | None) -> nn.BatchNorm2d:
    if norm.momentum is None or not norm.affine or not norm.track_running_stats:
        raise ValueError(f"grouping needs an affine BatchNorm with running statistics, not {norm}")
    converted = (
        nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
        if group_size is None
        else GroupedBatchNorm2d(norm.num_features, group_size, norm.eps, norm.momentum)
    )
    converted.weight, converted.bias = norm.weight, norm.bias
    converted.running_mean, converted.running_var = norm.running_mean, norm.running_var
    converted.num_batches_tracked = norm.num_batches_tracked
    return converted.train(norm.training)

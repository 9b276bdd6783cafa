"""Precise BatchNorm: running statistics of the final weights, not of those on the way there."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def recompute_statistics(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], object]
) -> None:
    """Sets every BatchNorm's running statistics to their plain mean over some batches, in place.

    The mean is over calls, of means and of unbiased variances. Layers in evaluation mode (frozen
    ones) keep theirs.

    Args:
        model: In training mode; its weights stay as they are.
        batches: What to run; without any, nothing changes.
        forward: Runs the model on one of them.

    Source: Wu and Johnson 2021, section 3; fvcore precise_bn.py @1256a64, ``update_bn_stats``.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    calls: Counter[nn.Module] = Counter()

    def average(norm: nn.Module, _inputs: object) -> None:
        # A running mean whose newest term weighs 1/n is the plain mean of n terms.
        calls[norm] += 1
        norm.momentum = 1.0 / calls[norm]  # type: ignore[assignment]

    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(average) for norm in norms]
    try:
        for batch in batches:
            forward(batch)
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()

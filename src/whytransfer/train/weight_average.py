"""The exponential moving average of a model's weights, which is what is evaluated."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """After t steps: ``decay`` times the average after t - 1, plus the rest of the weights now.

    It begins at the weights before the first step. Running statistics of BatchNorm are averages
    already, and stay those of the training.

    Args:
        model: Whose trainable parameters are averaged; already where it is trained.
        decay: Weight of the past, in (0, 1).
        kept: The averages of an interrupted run, in the order of the parameters.

    Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017, equation 1.
    """

    def __init__(
        self, model: nn.Module, decay: float, kept: Sequence[Tensor] | None = None
    ) -> None:
        self._decay = decay
        self._weights = [p for p in model.parameters() if p.requires_grad]
        self._averages = [p.detach().clone() for p in self._weights]
        for average, value in zip(self._averages, kept or (), strict=kept is not None):
            average.copy_(value)

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after one more step."""
        torch._foreach_lerp_(self._averages, list(self._weights), 1.0 - self._decay)

    def state(self) -> list[Tensor]:
        """Returns the averages, for a checkpoint."""
        return self._averages

    @torch.no_grad()
    def apply(self) -> None:
        """Puts the averages in the place of the weights."""
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.copy_(average)

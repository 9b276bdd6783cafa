"""Exemplar v2: instance discrimination against other classes only; labels pull nothing together.

MoCo v2 in all but one thing: queued keys that share the query's label are left out of the loss.
So images of one class need be neither told apart nor made alike.

Source: Zhao et al. 2021, section 5; settings of MoCo v2.
"""

from typing import ClassVar

from torch import Tensor

from whytransfer.ops.contrast import Contrast, contrastive_loss
from whytransfer.pretrain.parts.discrimination import Discrimination, DiscriminationConfig


class Config(DiscriminationConfig):
    """MoCo v2's settings."""


class Method(Discrimination):
    """Queued keys of other labels, and the random keys of the start, are the negatives."""

    NEEDS_LABELS: ClassVar[bool] = True

    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Returns InfoNCE over the queued keys of other labels."""
        queue = self.queue
        return contrastive_loss(
            queries, keys, queue.clone_keys(), self.config.temperature, labels, queue.labels
        )

"""What instance discrimination holds a query against: the one thing that its methods differ in."""

from typing import ClassVar

from torch import Tensor

from whytransfer.ops.contrast import Contrast, contrastive_loss, supervised_contrastive_loss
from whytransfer.pretrain.parts.discrimination import Discrimination


class AgainstAll(Discrimination):
    """Every queued key is a negative."""

    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Returns InfoNCE over the whole queue."""
        return contrastive_loss(queries, keys, self.queue.keys, self.config.temperature)


class AgainstOtherLabels(Discrimination):
    """Queued keys of other labels, and the random keys of the start, are the negatives."""

    NEEDS_LABELS: ClassVar[bool] = True

    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Returns InfoNCE over the queued keys of other labels.

        Raises:
            ValueError: The batch has no labels.
        """
        queue, temperature = self.queue, self.config.temperature
        return contrastive_loss(queries, keys, queue.keys, temperature, labels, queue.labels)


class WithOwnLabel(Discrimination):
    """Queued keys of the query's label are positives beside its own key, all others negatives."""

    NEEDS_LABELS: ClassVar[bool] = True

    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Returns the supervised contrastive loss over own key and queue.

        Raises:
            ValueError: The batch has no labels.
        """
        if labels is None:
            raise ValueError("keys of the same label are positives, but the batch has no labels")
        queue, temperature = self.queue, self.config.temperature
        return supervised_contrastive_loss(
            queries, keys, queue.keys, temperature, labels, queue.labels
        )

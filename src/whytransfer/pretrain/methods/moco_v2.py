"""MoCo v2: instance discrimination, in which every image is its own class; needs no labels.

Source: Chen et al. 2020 (arXiv 2003.04297) on He et al. 2020; moco main_moco.py @132aea9 with
``--mlp --moco-t 0.2 --aug-plus --cos``.
"""

from torch import Tensor

from whytransfer.ops.contrast import Contrast, contrastive_loss
from whytransfer.pretrain.parts.discrimination import Discrimination, DiscriminationConfig


class Config(DiscriminationConfig):
    """MoCo v2's own settings."""


class Method(Discrimination):
    """Every queued key is a negative."""

    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Returns InfoNCE over the whole queue."""
        return contrastive_loss(queries, keys, self.queue.clone_keys(), self.config.temperature)

"""Exemplar v1: instance discrimination against other classes only; labels pull nothing together.

MoCo v1 in all but one thing: queued keys that share the query's label are left out of the loss.
So images of one class need be neither told apart nor made alike.

Source: Zhao et al. 2021, section 5; settings of MoCo v1.
"""

from whytransfer.pretrain.parts.contrasts import AgainstOtherLabels
from whytransfer.pretrain.parts.discrimination import FirstDiscriminationConfig


class Config(FirstDiscriminationConfig):
    """MoCo v1's settings."""


class Method(AgainstOtherLabels):
    """Queued keys of other labels, and the random keys of the start, are the negatives."""

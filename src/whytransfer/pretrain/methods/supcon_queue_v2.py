"""Supervised contrast over a queue: exemplar's counterpart, labels pull a class's images together.

Exemplar v2 in all but one thing: queued keys that share the query's label are positives, where
exemplar leaves them out. So the two differ in nothing but whether a class is made alike.

Source: Khosla et al. 2020 (arXiv 2004.11362), equation 2; settings of MoCo v2.
Differs: Positives and negatives come from MoCo's queue of momentum keys, there from the batch.
"""

from whytransfer.pretrain.parts.contrasts import WithOwnLabel
from whytransfer.pretrain.parts.discrimination import DiscriminationConfig


class Config(DiscriminationConfig):
    """MoCo v2's settings."""


class Method(WithOwnLabel):
    """Queued keys of the query's label are positives."""

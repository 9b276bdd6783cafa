"""MoCo v2: instance discrimination, in which every image is its own class; needs no labels.

Source: Chen et al. 2020 (arXiv 2003.04297) on He et al. 2020; moco main_moco.py @132aea9 with
``--mlp --moco-t 0.2 --aug-plus --cos``.
"""

from whytransfer.pretrain.parts.contrasts import AgainstAll
from whytransfer.pretrain.parts.discrimination import DiscriminationConfig


class Config(DiscriminationConfig):
    """MoCo v2's own settings."""


class Method(AgainstAll):
    """Every queued key is a negative."""

"""MoCo v1: instance discrimination, in which every image is its own class; needs no labels.

Source: He et al. 2020 (arXiv 1911.05722); moco main_moco.py @132aea9 without options.
"""

from whytransfer.pretrain.parts.contrasts import AgainstAll
from whytransfer.pretrain.parts.discrimination import FirstDiscriminationConfig


class Config(FirstDiscriminationConfig):
    """MoCo v1's own settings."""


class Method(AgainstAll):
    """Every queued key is a negative."""

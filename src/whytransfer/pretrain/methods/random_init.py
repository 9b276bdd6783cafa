"""Random initialisation: the control that was never trained.

Source: He et al. 2015 (fan-out initialisation), as torchvision's ResNet draws it.
"""

from whytransfer.pretrain.method import MethodConfig, Untrained


class Config(MethodConfig):
    """The network alone: there is nothing to train."""


class Method(Untrained):
    """A backbone as it was initialised."""

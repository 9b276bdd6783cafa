"""Checkpoint: a backbone that somebody else trained, taken as it is."""

from whytransfer.backbone.architecture import Architecture
from whytransfer.pretrain.method import MethodConfig, Untrained


class Config(MethodConfig):
    """What the checkpoint holds, as far as it does not say so itself.

    Attributes:
        architecture: What it must be; ``None`` recognises it by the weights' names and shapes.
        preprocessing: What it was trained with.
    """

    architecture: Architecture | None = None  # type: ignore[assignment]


class Method(Untrained):
    """A backbone as it was loaded."""

"""From transfer: the backbone that a finished transfer left, such as a detector's or a segmenter's.

It makes supervision by boxes or masks a pretraining like any other: what trained the network was
a downstream task.
"""

from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.pretrain.method import MethodConfig, Untrained


class Config(MethodConfig):
    """Nothing is left to say: the transfer's backbone describes itself.

    Attributes:
        architecture: ``None``, the one that was fine-tuned.
        preprocessing: ``None``, what it was fine-tuned with.
    """

    architecture: Architecture | None = None  # type: ignore[assignment]
    preprocessing: Preprocessing | None = None  # type: ignore[assignment]


class Method(Untrained):
    """A backbone as fine-tuning left it."""

"""The protocol of a pretraining method, and what it is given.

A method is one module in ``pretrain/methods``: a docstring whose first line says what it is, a
frozen ``Config`` that holds every default, and a class ``Method``. It knows neither devices nor
processes; what it needs from other processes it gets through ``context.gather``.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator
from torch import Tensor, nn

from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.config import Config, assumed
from whytransfer.core.streams import Stream
from whytransfer.data.device_views import Photometry
from whytransfer.data.views import Augmentation
from whytransfer.train.config import Training
from whytransfer.train.loop import Context
from whytransfer.train.norm import Running


class MethodConfig(Config):
    """What every method's configuration holds: the network."""

    architecture: Architecture = Architecture()
    preprocessing: Preprocessing = Preprocessing()


class TrainedConfig(MethodConfig):
    """What the configuration of a method that trains holds besides.

    Attributes:
        bn_group_size: Images that share BatchNorm statistics; ``None`` means the whole batch.
        bn_running: What BatchNorm's running statistics move towards: the ``mean`` over a batch's
            groups, or the ``first`` group's, as the reference's checkpoint has them.
        limit: Train on that many images only, for a smoke run.
        applier: What applies the photometry of views: the ``cpu``, or the ``device`` that trains,
            which is then sent crops. They agree within 2/255. ``auto``: the device where it is a
            GPU, else the CPU.
        unreadable: What an image that can't be read does: ``error`` stops the run, ``skip`` shows
            the next one that can be read in its place, and counts it in the record.
        max_unreadable: With ``skip``, the largest share of an epoch's images that may be replaced;
            above it the run stops.
    """

    augmentation: Augmentation = Augmentation()
    training: Training
    bn_group_size: int | None = assumed(
        32, "the reference trains 256 images on 8 GPUs with BatchNorm per GPU", ge=2
    )
    bn_running: Running = "mean"
    limit: int | None = None
    applier: Literal["auto", "cpu", "device"] = "auto"
    unreadable: Literal["error", "skip"] = "error"
    max_unreadable: float = Field(default=0.01, ge=0, le=1)

    @field_validator("architecture")
    @classmethod
    def _is_a_resnet(cls, architecture: Architecture) -> Architecture:
        if architecture.transformer:
            raise ValueError(
                f"{architecture.name} is a vision transformer, and what trains here trains ResNets:"
                " name one, or take the transformer as it starts (random_init) or as somebody"
                " trained it (checkpoint)"
            )
        return architecture


@dataclass(frozen=True)
class Setting:
    """What a method is built for.

    Attributes:
        num_images: Images to train on; 0 for a method that does not train.
        num_classes: Length of the data's class list; 0 where images have no labels.
        seed: Of every stream that the method draws from.
    """

    num_images: int = 0
    num_classes: int = 0
    seed: int = 0

    def stream(self, name: str) -> Stream:
        """Returns the stream for one part of the initialisation."""
        return Stream(self.seed, f"init/{name}")


class ViewBatch(NamedTuple):
    """A batch of N images, each seen ``NUM_VIEWS`` times.

    Attributes:
        views: Per view (N, crop, crop, 3) uint8, RGB.
        labels: (N,) int64, ``None`` where images have no label.
        indices: (N,) int64, the images' numbers in the source.
        photometry: Per view what is still to be done to it on the device; a method never sees it,
            since ``Pretext`` has done it by then.
        unreadable: (N,) bool, where an image stands in for one that can't be read.
    """

    views: tuple[Tensor, ...]
    labels: Tensor | None
    indices: Tensor
    photometry: tuple[Photometry, ...] | None = None
    unreadable: Tensor | None = None


class Method(nn.Module):
    """A pretraining method: a backbone, what trains it, and the loss.

    Attributes:
        TRAINS: Whether there is anything to train; where not, ``loss`` is never called.
        NEEDS_LABELS: Whether every image must have a label.
        NUM_VIEWS: Augmented views per image.
        ACCURACY: What the scalar ``accuracy`` of the loss measures, as records name it.
        FURTHER: Scalars of the loss, in [0, 1], that records hold beside it.
        SIZES: Fields of the configuration that the method's memory grows with.
    """

    TRAINS: ClassVar[bool] = True
    NEEDS_LABELS: ClassVar[bool] = False
    NUM_VIEWS: ClassVar[int] = 1
    ACCURACY: ClassVar[str] = "accuracy"
    FURTHER: ClassVar[tuple[str, ...]] = ()
    SIZES: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The network that pretraining is for."""

    @classmethod
    def check(cls, config: Any, setting: Setting, where: str) -> None:
        """Refuses settings that can't work together, before anything is computed.

        Raises:
            InputError: Names the field under ``where``, and a value that works.
        """

    @classmethod
    def remarks(cls, config: Any, setting: Setting, where: str) -> list[str]:
        """Says what works and is worth a warning nevertheless, a line each."""
        return []

    @abstractmethod
    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """Returns scalars; ``loss`` is minimised, ``accuracy`` (in [0, 1]) is logged."""

    def after_step(self) -> None:
        """Runs after each step of the optimiser."""


class Untrained(Method):
    """A method with nothing to train: the backbone is taken as it is given."""

    TRAINS: ClassVar[bool] = False
    NUM_VIEWS: ClassVar[int] = 0

    def __init__(self, config: MethodConfig, backbone: Backbone, setting: Setting) -> None:
        super().__init__()
        self.network = backbone

    @property
    def backbone(self) -> Backbone:
        """The network as it was given."""
        return self.network

    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """There is none.

        Raises:
            NotImplementedError: Always; ``TRAINS`` says that nobody may ask.
        """
        raise NotImplementedError(f"{type(self).__module__} does not train")

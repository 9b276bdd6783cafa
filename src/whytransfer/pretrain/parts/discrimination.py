"""Instance discrimination with a queue: what moco and exemplar have in common."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.data.augmentation import MOCO_V1, Augmentation
from whytransfer.ops.contrast import Contrast, found_among
from whytransfer.pretrain.method import Method, Setting, TrainedConfig, ViewBatch
from whytransfer.pretrain.parts.heads import Embedding, linear_head, mlp_head
from whytransfer.pretrain.parts.momentum import follow, follower_of
from whytransfer.pretrain.parts.queue import KeyQueue
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.loop import Context

_READING = "the paper's own value is not known; {}'s is the natural reading"
_V1, _V2 = _READING.format("MoCo v1"), _READING.format("MoCo v2")
_VIEWS = (
    "the paper's crop scale, whether its jitter and blur have a probability, and how the flip-only "
    "row of its Table 1 cuts images are not known; {} is the natural reading"
)


class DiscriminationConfig(TrainedConfig):
    """MoCo v2's settings, of moco main_moco.py @132aea9.

    Attributes:
        num_keys: Length of the queue; a multiple of the batch.
        num_dims: Length of the embedding.
        head: What maps features to the embedding: one ``linear`` layer, or an ``mlp`` of two.
        momentum: Of the key encoder.
        temperature: Divides every similarity.
    """

    augmentation: Augmentation = assumed(Augmentation(), _VIEWS.format("MoCo v2's"))
    training: Training = assumed(
        Training(
            epochs=200,
            batch_size=256,
            sgd=Sgd(lr=0.03),
            schedule=Schedule(kind="cosine", per="epoch"),
            precision="auto",
            memory_format="auto",
            convolution="auto",
            compile="auto",
        ),
        _V2,
    )
    num_keys: int = assumed(65536, _V2, ge=1)
    num_dims: int = assumed(128, _V2, ge=1)
    head: Literal["linear", "mlp"] = assumed("mlp", _V2)
    momentum: float = assumed(0.999, _V2, ge=0, le=1)
    temperature: float = assumed(0.2, _V2, gt=0)


class FirstDiscriminationConfig(DiscriminationConfig):
    """MoCo v1's settings, of moco main_moco.py @132aea9 without options.

    Attributes:
        num_keys: Length of the queue; a multiple of the batch.
        num_dims: Length of the embedding.
        head: What maps features to the embedding: one ``linear`` layer, or an ``mlp`` of two.
        momentum: Of the key encoder.
        temperature: Divides every similarity.
    """

    augmentation: Augmentation = assumed(MOCO_V1, _VIEWS.format("MoCo v1's"))
    training: Training = assumed(
        Training(
            epochs=200,
            batch_size=256,
            sgd=Sgd(lr=0.03),
            schedule=Schedule(kind="multistep", per="epoch", milestones=(120, 160), gamma=0.1),
            precision="auto",
            memory_format="auto",
            convolution="auto",
            compile="auto",
        ),
        _V1,
    )
    num_keys: int = assumed(65536, _V1, ge=1)
    num_dims: int = assumed(128, _V1, ge=1)
    head: Literal["linear", "mlp"] = assumed("linear", _V1)
    momentum: float = assumed(0.999, _V1, ge=0, le=1)
    temperature: float = assumed(0.07, _V1, gt=0)


class Discrimination(Method):
    """A query encoder, a momentum encoder of keys, and a queue of earlier keys.

    Every step: momentum update of the key encoder; keys, in shuffled order; queries; the loss
    against the queue as it stands; then the keys enter the queue.

    Source: He et al. 2020, algorithm 1 and section 3.3; moco moco/builder.py @132aea9.
    Differs: Keys are made before queries, which changes no bit, as neither encoder reads what the
        other's forward writes: what the keys take in memory is free again before the queries keep
        theirs for the backward, and processes wait for each other's keys when all have done both.
        One permutation shuffles a batch's keys, drawn from the step's own stream; it is
        shuffled also where BatchNorm has one group, which then changes nothing but rounding.
    """

    NUM_VIEWS: ClassVar[int] = 2
    ACCURACY: ClassVar[str] = "keys_found"
    FURTHER: ClassVar[tuple[str, ...]] = ("batch_keys_found",)
    SIZES: ClassVar[tuple[str, ...]] = ("num_keys", "num_dims")

    def __init__(self, config: DiscriminationConfig, backbone: Backbone, setting: Setting) -> None:
        super().__init__()
        self.config = config
        make_head = {"linear": linear_head, "mlp": mlp_head}[config.head]
        head = make_head(backbone.num_features, config.num_dims, setting.stream("head"))
        self.query_encoder = Embedding(backbone, head)
        self.key_encoder = follower_of(self.query_encoder)
        self.queue = KeyQueue(config.num_keys, config.num_dims, setting.stream("queue"))

    @property
    def backbone(self) -> Backbone:
        """The query encoder's network."""
        return self.query_encoder.backbone

    @classmethod
    def check(cls, config: Any, setting: Setting, where: str) -> None:
        """Refuses a queue that batches would not fill evenly.

        A method that needs labels is refused data of one class: exemplar would have no negatives.
        """
        batch = config.training.batch_size
        if cls.NEEDS_LABELS and setting.num_classes < 2:
            raise InputError(
                where, f"the data have {setting.num_classes} class", "at least 2 classes",
                "use a method without labels, such as moco_v2",
            )  # fmt: skip
        if config.num_keys % batch:
            raise InputError(
                f"{where}, field num_keys",
                f"a queue of {config.num_keys} keys is no multiple of the batch of {batch}",
                f"a multiple of training.batch_size={batch}",
                f"set num_keys={max(1, round(config.num_keys / batch)) * batch}",
            )

    @classmethod
    def remarks(cls, config: Any, setting: Setting, where: str) -> list[str]:
        """Warns of a queue longer than the data."""
        if config.num_keys <= setting.num_images:
            return []
        batch = config.training.batch_size
        negatives = "" if cls.NEEDS_LABELS else ", and these are negatives"
        return [
            f"{where}, field num_keys: a queue of {config.num_keys} keys is longer than the data "
            f"of {setting.num_images} images, so for every query it holds earlier keys of the same "
            f"image{negatives}; num_keys={max(1, setting.num_images // batch) * batch} holds none "
            "twice"
        ]

    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """Returns the contrastive loss, and how many keys were found.

        ``accuracy`` is the share found in the queue, as the reference reports it. The queue's keys
        are of earlier encoders; while the encoder moves fast a new key stands out from them
        without any likeness to its query. ``batch_keys_found`` is the share found among the new
        keys of the batch, which one encoder made: chance is one in the batch.
        """
        query_view, key_view = batch.views
        with torch.no_grad():
            follow(self.key_encoder, self.query_encoder, self.config.momentum)
            keys, order = self._some_keys(key_view, context)
        queries = self.query_encoder(query_view)
        all_keys = _all(keys, context)[order]
        contrast = self.contrast(queries, _own(all_keys, context), batch.labels)
        labels = batch.labels
        all_labels = None if labels is None else _all(labels, context)
        self.queue.enqueue(all_keys, all_labels)
        own = _own(torch.arange(len(all_keys), device=all_keys.device), context)
        known = (labels, all_labels) if self.NEEDS_LABELS else (None, None)
        found = found_among(queries, all_keys, own, *known)
        return {"loss": contrast.loss, "accuracy": contrast.keys_found, "batch_keys_found": found}

    @abstractmethod
    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Holds queries against their keys and the queue."""

    def _some_keys(self, images: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Embeds this process's share of all images, in shuffled order.

        One permutation of the whole batch, the same on every process, says which images this one
        embeds. So no key is in its query's BatchNorm group.

        Returns:
            The keys, and where each image's key lies among those of all processes.
        """
        all_images = _all(images, context)
        drawn = context.stream("shuffle").permutation(len(all_images))
        shuffle = torch.from_numpy(drawn).to(images.device)
        keys: Tensor = self.key_encoder(all_images[_own(shuffle, context)])
        return keys, shuffle.argsort()


def _all(rows: Tensor, context: Context) -> Tensor:
    """Returns the rows of all processes, in their order."""
    return context.gather(rows).reshape(-1, *rows.shape[1:])


def _own(rows: Tensor, context: Context) -> Tensor:
    """Returns this process's part of the rows of all."""
    return rows.chunk(context.world_size)[context.rank]

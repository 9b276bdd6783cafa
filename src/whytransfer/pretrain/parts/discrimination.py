"""Instance discrimination with a queue: what moco and exemplar have in common."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.ops.contrast import Contrast
from whytransfer.pretrain.method import Method, Setting, TrainedConfig, ViewBatch
from whytransfer.pretrain.parts.heads import Embedding, mlp_head
from whytransfer.pretrain.parts.momentum import follow, follower_of
from whytransfer.pretrain.parts.queue import KeyQueue
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.loop import Context

_READING = "the paper's own value is not known; MoCo v2's is the natural reading"


class DiscriminationConfig(TrainedConfig):
    """MoCo v2's settings, of moco main_moco.py @132aea9.

    Attributes:
        num_keys: Length of the queue; a multiple of the batch.
        num_dims: Length of the embedding.
        momentum: Of the key encoder.
        temperature: Divides every similarity.
    """

    training: Training = assumed(
        Training(
            epochs=200,
            batch_size=256,
            sgd=Sgd(lr=0.03),
            schedule=Schedule(kind="cosine", per="epoch"),
        ),
        _READING,
    )
    num_keys: int = assumed(65536, _READING, ge=1)
    num_dims: int = Field(128, ge=1)
    momentum: float = assumed(0.999, _READING, ge=0, le=1)
    temperature: float = assumed(0.2, _READING, gt=0)


class Discrimination(Method):
    """A query encoder, a momentum encoder of keys, and a queue of earlier keys.

    Every step goes in the reference's order: queries; momentum update of the key encoder; keys,
    in shuffled order; the loss against the queue as it stands; then the keys enter the queue.

    Source: He et al. 2020, algorithm 1 and section 3.3; moco moco/builder.py @132aea9.
    Differs: One permutation shuffles a batch's keys, drawn from the step's own stream; it is
        shuffled also where BatchNorm has one group, which then changes nothing but rounding.
    """

    NUM_VIEWS: ClassVar[int] = 2
    ACCURACY: ClassVar[str] = "keys_found"

    def __init__(self, config: DiscriminationConfig, backbone: Backbone, setting: Setting) -> None:
        super().__init__()
        self.config = config
        head = mlp_head(backbone.num_features, config.num_dims, setting.stream("head"))
        self.query_encoder = Embedding(backbone, head)
        self.key_encoder = follower_of(self.query_encoder)
        self.queue = KeyQueue(config.num_keys, config.num_dims, setting.stream("queue"))

    @property
    def backbone(self) -> Backbone:
        """The query encoder's network."""
        return self.query_encoder.backbone

    @classmethod
    def check(cls, config: Any, setting: Setting, where: str) -> None:
        """Refuses a queue that batches would not fill evenly."""
        batch = config.training.batch_size
        if config.num_keys % batch:
            raise InputError(
                f"{where}, field num_keys",
                f"a queue of {config.num_keys} keys is no multiple of the batch of {batch}",
                f"a multiple of training.batch_size={batch}",
                f"set num_keys={max(1, round(config.num_keys / batch)) * batch}",
            )

    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """Returns the contrastive loss and the share of keys found."""
        query_view, key_view = batch.views
        queries = self.query_encoder(query_view)
        with torch.no_grad():
            follow(self.key_encoder, self.query_encoder, self.config.momentum)
            keys = self._keys(key_view, context)
        contrast = self.contrast(queries, keys, batch.labels)
        labels = batch.labels
        self.queue.enqueue(_all(keys, context), None if labels is None else _all(labels, context))
        return {"loss": contrast.loss, "accuracy": contrast.keys_found}

    @abstractmethod
    def contrast(self, queries: Tensor, keys: Tensor, labels: Tensor | None) -> Contrast:
        """Holds queries against their keys and the queue."""

    def _keys(self, images: Tensor, context: Context) -> Tensor:
        """Embeds images in shuffled order, so that no key is in its query's BatchNorm group."""
        drawn = context.stream("shuffle").permutation(len(images))
        shuffle = torch.from_numpy(drawn).to(images.device)
        keys: Tensor = self.key_encoder(images[shuffle])
        return keys[shuffle.argsort()]


def _all(rows: Tensor, context: Context) -> Tensor:
    """Returns the rows of all processes, in their order."""
    return context.gather(rows).reshape(-1, *rows.shape[1:])

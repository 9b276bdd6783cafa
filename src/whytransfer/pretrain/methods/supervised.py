"""Supervised: cross-entropy on class labels, with the views of the self-supervised arms.

Source: Zhao et al. 2021, table 2: the supervised network of the comparison has MoCo v2's full
augmentation. Its recipe is not known; PyTorch's ImageNet example is taken for it.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.data.views import Augmentation
from whytransfer.pretrain.method import Method as BaseMethod
from whytransfer.pretrain.method import Setting, TrainedConfig, ViewBatch
from whytransfer.pretrain.parts.heads import linear_head
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.loop import Context


class Config(TrainedConfig):
    """The settings of PyTorch's ImageNet example, with MoCo v2's augmentation."""

    augmentation: Augmentation = assumed(
        Augmentation(),
        "that it is MoCo v2's is read from the names of the checkpoints of Tables 1 and 2; the "
        "paper's crop scale for supervised training, whether its jitter and blur have a "
        "probability, and how the flip-only row of Table 1 cuts images are not known",
    )
    training: Training = assumed(
        Training(
            epochs=90,
            batch_size=256,
            sgd=Sgd(lr=0.1),
            schedule=Schedule(kind="multistep", per="epoch", milestones=(30, 60)),
            precision="auto",
            memory_format="auto",
            convolution="auto",
            compile="auto",
        ),
        "the paper's recipe is not known; PyTorch's ImageNet example",
    )


class Method(BaseMethod):
    """A linear classifier on pooled features, trained together with the backbone."""

    NEEDS_LABELS: ClassVar[bool] = True
    ACCURACY: ClassVar[str] = "training_top1"

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        super().__init__()
        self.network = backbone
        self.head = linear_head(backbone.num_features, setting.num_classes, setting.stream("head"))

    @property
    def backbone(self) -> Backbone:
        """The classifier's network, without its last layer."""
        return self.network

    @classmethod
    def check(cls, config: Any, setting: Setting, where: str) -> None:
        """Refuses data of fewer than two classes."""
        if setting.num_classes < 2:
            raise InputError(
                where, f"the data have {setting.num_classes} class", "at least 2 classes",
                "use a method without labels, such as moco_v2",
            )  # fmt: skip

    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """Returns the cross-entropy and the share of images classified rightly."""
        if batch.labels is None:
            raise ValueError("supervised pretraining was given a batch without labels")
        pooled = self.network(self.network.preprocessing.normalise(batch.views[0]))
        logits = self.head(pooled)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        loss = F.cross_entropy(logits.to(dtype), batch.labels)
        with torch.no_grad():
            top1 = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": loss, "accuracy": top1}

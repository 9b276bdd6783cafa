"""Linear readout: how well one linear layer names the image from frozen, pooled features.

The backbone stays in evaluation mode and is compared with itself at the end, bit by bit. A
learning rate of 30 suits MoCo's features; other features may want another one.

Source: He et al. 2020, section 4.1; moco main_lincls.py @132aea9.
Differs: the last epoch is scored, never the best one on the test images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.errors import InputError
from whytransfer.core.streams import seeded_torch
from whytransfer.data.loader import EpochOrder, in_order, load
from whytransfer.data.predictions import (
    ClassPredictions,
    read_classifications,
    write_classifications,
)
from whytransfer.data.sample import Source
from whytransfer.data.views import (
    Augmentation,
    CropFlip,
    apply_view,
    center_view,
    sample_view,
    view_stream,
)
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.learner import Context
from whytransfer.transfer.measure import Measure, shares
from whytransfer.transfer.sharing import in_turn
from whytransfer.transfer.task import PREDICTIONS, Setting, TaskConfig, require_batch
from whytransfer.transfer.task import Task as TaskProtocol

_NUM_GUESSES = 5


class ReadoutTraining(Training):
    """100 epochs at learning rate 30, a tenth of it after 60 and again after 80."""

    epochs: PositiveFloat | None = 100.0
    batch_size: PositiveInt = 256
    sgd: Sgd = Sgd(lr=30.0, momentum=0.9, weight_decay=0.0)
    schedule: Schedule = Schedule(kind="multistep", per="epoch", milestones=(60, 80))


class Config(TaskConfig):
    """All settings of the recipe.

    Attributes:
        training: Epochs, batch, optimiser and schedule.
        augmentation: Of the training images: crop and flip.
        resize_px: Shorter side of a test image.
        crop_px: Middle square of it that is classified.
        init_std: Of the layer's normal weights; its bias starts at 0.
        cached_views: With k > 0, the features of k views of each training image are computed once
            and epoch e shows view e modulo k. That is fast, but not the reference, which draws a
            new view in every epoch (0).
    """

    training: ReadoutTraining = ReadoutTraining()
    augmentation: CropFlip = CropFlip(crop_px=224)
    resize_px: PositiveInt = 256
    crop_px: PositiveInt = 224
    init_std: PositiveFloat = 0.01
    cached_views: NonNegativeInt = 0


class ReadoutBatch(NamedTuple):
    """A batch of N images, or what the backbone makes of them.

    Attributes:
        inputs: (N, H, W, 3) uint8 RGB, or features (N, C) float32.
        labels: (N,) int64.
    """

    inputs: Tensor
    labels: Tensor


class Readout(nn.Module):
    """A linear layer on a frozen backbone.

    Args:
        backbone: Never trained, always in evaluation mode.
        num_classes: Outputs of the layer.
        init_std: Of its weights.
    """

    def __init__(self, backbone: Backbone, num_classes: int, init_std: float) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.linear = nn.Linear(backbone.num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=init_std)
        nn.init.zeros_(self.linear.bias)

    def train(self, mode: bool = True) -> "Readout":
        """Sets the mode of the linear layer alone."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns class logits (N, C) of images or features."""
        logits: Tensor = self.linear(self.features(inputs) if inputs.dim() == 4 else inputs)
        return logits.float()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Returns pooled features (N, channels) of images (N, H, W, 3)."""
        device = self.linear.weight.device
        pooled: Tensor = self.backbone(self.backbone.preprocessing.normalise(images.to(device)))
        return pooled

    def loss(self, batch: ReadoutBatch, _context: Context) -> dict[str, Tensor]:
        """Returns the cross entropy, and the share of the batch that is named rightly."""
        logits = self(batch.inputs)
        correct = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": correct}

    def after_step(self) -> None:
        """Nothing is left to do after an optimiser step."""


class Task(TaskProtocol):
    """Trains the linear layer and writes its five best guesses for every test image."""

    FINE_TUNES: ClassVar[bool] = False
    PREDICTS: ClassVar[Literal["detections", "classes"]] = "classes"
    PARALLEL: ClassVar[bool] = True

    model: Readout

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config, self.setting = config, setting
        num_images = len(setting.train)
        for source in (setting.train, setting.test):
            _require_labels(source)
        require_batch(num_images, config.training.batch_size, "training images")
        self._order = EpochOrder(num_images, config.training.batch_size, setting.seed)
        self._frozen = {name: value.clone() for name, value in backbone.state_dict().items()}
        with seeded_torch(setting.stream("readout")):
            self.model = Readout(backbone, len(setting.train.classes), config.init_std)

    @property
    def steps_per_epoch(self) -> int:
        """How many whole batches the training images make."""
        return self._order.steps_per_epoch

    def batches(self, first_step: int) -> Iterator[ReadoutBatch]:
        """Yields the batch of every step from one on."""
        num_steps = self.config.training.total_steps(self.steps_per_epoch) - first_step
        if self.config.cached_views:
            return self._cached(first_step, num_steps)
        order = self.setting.part(self._order)
        return load(self._views, order, _collate, first_step, num_steps, self.setting.workers)

    def finish(self) -> None:
        """Makes sure that the backbone is still the one that was given.

        Raises:
            RuntimeError: A weight or a running statistic has changed.
        """
        for name, value in self.model.backbone.state_dict().items():
            if not torch.equal(value.cpu(), self._frozen[name].cpu()):
                raise RuntimeError(f"the frozen backbone's {name} has changed")

    def predict(self, folder: Path) -> None:
        """Writes the best guesses for all test images, with their true classes."""
        test, processes = self.setting.test, self.setting.processes
        self.model.eval()
        batches = in_order(
            CentreViews(test, self.config.resize_px, self.config.crop_px), len(test),
            self.config.training.batch_size, _collate, self.setting.workers, processes,
        )  # fmt: skip
        with torch.no_grad():
            own = (self.model(batch.inputs).cpu() for batch in batches)
            scores = list(in_turn(own, processes))
        if not processes.leads:
            return
        # A stable order: of two classes with equal scores the first one stands first.
        order = torch.stack(scores).sort(dim=1, descending=True, stable=True).indices
        predictions = ClassPredictions(
            names=tuple(test.name(i) for i in range(len(test))),
            classes=test.classes,
            labels=np.array([test.label(i) for i in range(len(test))], dtype=np.int64),
            topk=order[:, :_NUM_GUESSES].numpy(),
        )
        write_classifications(folder / PREDICTIONS, predictions)

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures top1 and top5, in percent."""
        predictions = read_classifications(folder / PREDICTIONS)
        return shares({f"top{k}": predictions.correct(k) for k in (1, 5)})

    @property
    def _views(self) -> "CropViews":
        return CropViews(self.setting.train, self.config.augmentation, self.setting.seed)

    def _cached(self, first_step: int, num_steps: int) -> Iterator[ReadoutBatch]:
        """Yields batches of features, all of which are computed before the first one.

        Several processes each compute all of them: the images' number, not the steps', is small.
        """
        views = [self._features(view) for view in range(self.config.cached_views)]
        labels = torch.tensor([self.setting.train.label(i) for i in range(len(self.setting.train))])
        for places in islice(self.setting.part(self._order).batches(first_step), num_steps):
            epoch, indices = places[0][0], torch.tensor([index for _, index in places])
            yield ReadoutBatch(views[epoch % len(views)][indices], labels[indices])

    def _features(self, epoch: int) -> Tensor:
        """Returns the features (N, channels) of all training images as one epoch shows them."""
        batches = in_order(
            AtEpoch(self._views, epoch), len(self.setting.train), self.config.training.batch_size,
            _collate, self.setting.workers,
        )  # fmt: skip
        return torch.cat([self.model.features(batch.inputs).float().cpu() for batch in batches])


Item = tuple[Tensor, int]
"""A view, (H, W, 3) uint8, and the image's label."""


@dataclass(frozen=True)
class CropViews:
    """The training view of an image in an epoch: crop and flip."""

    source: Source
    augmentation: Augmentation
    seed: int

    def __call__(self, epoch: int, index: int) -> Item:
        """Reads and augments one image."""
        image = self.source[index].image
        stream = view_stream(self.seed, epoch, index, 0)
        parameters = sample_view(self.augmentation, stream, *image.shape[:2])
        view = apply_view(image, parameters, self.augmentation.crop_px)
        return torch.from_numpy(view), _label(self.source, index)


@dataclass(frozen=True)
class AtEpoch:
    """The training views of one epoch, whatever epoch they are asked for."""

    views: CropViews
    epoch: int

    def __call__(self, _epoch: int, index: int) -> Item:
        """Reads and augments one image."""
        return self.views(self.epoch, index)


@dataclass(frozen=True)
class CentreViews:
    """The test view of an image: its middle."""

    source: Source
    resize_px: int
    crop_px: int

    def __call__(self, _epoch: int, index: int) -> Item:
        """Reads, resizes and crops one image."""
        view = center_view(self.source[index].image, self.resize_px, self.crop_px)
        return torch.from_numpy(view), _label(self.source, index)


def _collate(items: Sequence[Item]) -> ReadoutBatch:
    return ReadoutBatch(
        inputs=torch.stack([view for view, _ in items]),
        labels=torch.tensor([label for _, label in items]),
    )


def _label(source: Source, index: int) -> int:
    label = source.label(index)
    if label is None:
        raise InputError(
            source.path(index),
            "the image has no label",
            "images that belong to a class",
            "give data with one folder per class",
        )
    return label


def _require_labels(source: Source) -> None:
    for index in range(len(source)):
        _label(source, index)

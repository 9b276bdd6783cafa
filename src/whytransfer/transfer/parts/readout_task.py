"""A readout as a task: linear layers trained on frozen features by SGD, and their best guesses.

predictions.json    the guesses of the protocol's layer and, under ``further``, of all others
choices.json        what the grid of learning rates scored on the held-out images
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor

from whytransfer.backbone import features
from whytransfer.backbone.model import Backbone, Level
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.core.streams import seeded_torch
from whytransfer.data.dataset import subset
from whytransfer.data.held_out import held_out_mask
from whytransfer.data.loader import EpochOrder, load
from whytransfer.data.predictions import ClassPredictions, write_classifications
from whytransfer.data.sample import Source, Split
from whytransfer.data.views import Augmentation, CropFlip, apply_view, sample_view, view_stream
from whytransfer.train.agreement import gatherer
from whytransfer.transfer.parts.choice import Choice, write_choices
from whytransfer.transfer.parts.readout import Head, HeadPlan, ReadoutBatch, Readouts, Unmoved
from whytransfer.transfer.sharing import in_turn
from whytransfer.transfer.task import PREDICTIONS, Setting, TaskConfig, require_batch
from whytransfer.transfer.task import Task as TaskProtocol

_log = logging.getLogger(__name__)

NUM_GUESSES = 5
GRID = "grid"
"""How the guesses of the layer that the grid chose are named, before the level's name."""


class ReadoutConfig(TaskConfig):
    """What the configuration of every readout by SGD holds.

    Attributes:
        augmentation: Of the training images: crop and flip.
        resize_px: Shorter side of a test image.
        crop_px: Middle square of it that is classified.
        init_std: Of a layer's normal weights; its bias starts at 0.
        lr_grid: Learning rates that are tried beside the protocol's, with the same schedule; none
            tries none.
        held_out: Share of the training images that the best of them is chosen on. The protocol's
            layer, and the layer that is scored once the rate is chosen, are trained on them, too.
        cached_views: With k > 0, the features of k views of each training image are computed once
            and epoch e shows view e modulo k. That is fast, but not the reference, which draws a
            new view in every epoch (0).
    """

    augmentation: CropFlip = CropFlip(crop_px=224)
    resize_px: PositiveInt = 256
    crop_px: PositiveInt = 224
    init_std: PositiveFloat = 0.01
    lr_grid: tuple[PositiveFloat, ...] = assumed(
        (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        "the protocol has one rate, which suits MoCo's features; half decades around all rates in "
        "use, from 0.01 (VISSL) to 30 (MoCo)",
    )
    held_out: float = assumed(0.1, "the reference chooses nothing; a tenth is usual", gt=0, lt=1)
    cached_views: NonNegativeInt = 0

    @field_validator("lr_grid")
    @classmethod
    def _rising(cls, grid: tuple[float, ...]) -> tuple[float, ...]:
        if list(grid) != sorted(set(grid)):
            raise ValueError("the learning rates must rise")
        return grid

    @model_validator(mode="after")
    def _crop_lies_inside(self) -> Self:
        features.require_inside(self.crop_px, self.resize_px)
        return self


class SgdReadout(TaskProtocol):
    """Trains linear layers on frozen features and writes their five best guesses for every image.

    Args:
        config: Of the task.
        backbone: Never trained, and compared with itself at the end.
        setting: Data and seed.
        wanted: Which features: levels and pooling.
        normalise: Normalise each channel by BatchNorm without scale and shift.
        stores_all: Whether features of held-out and test images are few enough to be kept even
            where those of training views are not.

    Attributes:
        levels: That are read, from the image on.
    """

    FINE_TUNES: ClassVar[bool] = False
    PREDICTS: ClassVar[Literal["classes"]] = "classes"

    model: Readouts

    def __init__(
        self,
        config: ReadoutConfig,
        backbone: Backbone,
        setting: Setting,
        wanted: features.Config,
        normalise: bool = False,
        stores_all: bool = True,
    ) -> None:
        self.config, self.setting = config, setting
        num_images = len(setting.train)
        for source in (setting.train, setting.test):
            require_classes(source)
        require_batch(num_images, config.training.batch_size, "training images")
        self._order = EpochOrder(num_images, config.training.batch_size, setting.seed)
        self._held_out = held_out_mask(setting.train, config.held_out)
        self._unmoved = Unmoved(backbone)
        self._keeps = stores_all or config.cached_views > 0
        self.levels = features.named_levels(backbone, wanted.levels)
        fields = {
            "levels": tuple(level.name for level in self.levels),
            "precision": config.training.precision,
        }
        wanted = wanted.model_copy(update=fields)
        plan = HeadPlan(
            len(setting.train.classes), config.init_std, config.lr_grid, config.training.sgd,
            normalise,
        )  # fmt: skip
        heads = {level.name: self._head(level, wanted, plan) for level in self.levels}
        self.model = Readouts(backbone, heads, wanted)

    @property
    def steps_per_epoch(self) -> int:
        """How many whole batches the training images make."""
        return self._order.steps_per_epoch

    def batches(self, first_step: int) -> Iterator[ReadoutBatch]:
        """Yields the batch of every step from one on."""
        num_steps = self.config.training.total_steps(self.steps_per_epoch) - first_step
        if self.config.cached_views:
            return self._cached(first_step, num_steps)
        views = TrainingViews(
            self.setting.train, self.config.augmentation, self.setting.seed, self._held_out
        )
        order = self.setting.part(self._order)
        return load(views, order, _collate, first_step, num_steps, self.setting.workers)

    def finish(self) -> None:
        """Makes sure that the backbone is still the one that was given.

        Raises:
            RuntimeError: A weight or a running statistic has changed.
        """
        self._unmoved.require(self.model.backbone)

    def predict(self, folder: Path) -> None:
        """Chooses a rate of the grid, and writes the best guesses for all test images."""
        self.model.eval()
        choices = self._choices() if self.config.lr_grid else {}
        scored = {
            level: choice.index + self.model.head(level).num_rates
            for level, choice in choices.items()
        }
        further = self._guesses(scored)
        if not self.setting.processes.leads:
            return
        write_choices(folder, list(choices.values()))
        test, last = self.setting.test, self.levels[-1].name
        predictions = ClassPredictions(
            names=tuple(test.name(i) for i in range(len(test))),
            classes=test.classes,
            labels=labels_of(test).numpy(),
            topk=further[last],
            further=further,
        )
        write_classifications(folder / PREDICTIONS, self._named(predictions))

    def _named(self, predictions: ClassPredictions) -> ClassPredictions:
        """Returns the predictions with what else was guessed under the names of the task."""
        return predictions

    def _head(self, level: Level, wanted: features.Config, plan: HeadPlan) -> Head:
        sizes = {
            features.num_values(level, side, wanted.num_values)
            for side in (self.config.augmentation.crop_px, self.config.crop_px)
        }
        if len(sizes) > 1:
            raise InputError(
                "crop_px", f"{self.config.crop_px} px make another number of features at "
                f"{level.name} than the {self.config.augmentation.crop_px} px of training",
                "crops of one size", "set crop_px and augmentation.crop_px alike",
            )  # fmt: skip
        with seeded_torch(self.setting.stream(self._stream(level.name))):
            return Head(level.channels, sizes.pop(), plan)

    def _stream(self, level: str) -> str:
        """Names the stream that the head of a level starts from."""
        return f"readout/{level}"

    def _cached(self, first_step: int, num_steps: int) -> Iterator[ReadoutBatch]:
        """Yields batches of features, all of which are computed before the first one."""
        views = [
            self._features(
                self.setting.train,
                "train",
                features.Drawn(
                    augmentation=self.config.augmentation, seed=self.setting.seed, epoch=epoch
                ),
            )
            for epoch in range(self.config.cached_views)
        ]
        labels, held_out = labels_of(self.setting.train), torch.from_numpy(self._held_out)
        for places in islice(self.setting.part(self._order).batches(first_step), num_steps):
            epoch, indices = places[0][0], torch.tensor([index for _, index in places])
            view = views[epoch % len(views)]
            found = {level: values[indices] for level, values in view.items()}
            yield ReadoutBatch(found, labels[indices], held_out[indices], indices)

    def _features(self, source: Source, split: Split, view: features.View) -> dict[str, Tensor]:
        return features.features(
            self.model.backbone, source, split, self.model.wanted.model_copy(update={"view": view}),
            cache=self.setting.cache, workers=self.setting.workers,
        )  # fmt: skip

    def _centres(self, source: Source, split: Split) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yields of the images as they are scored the features of this process's batches.

        In order, and with each batch the number of its first image.
        """
        view = features.Centre(resize_px=self.config.resize_px, crop_px=self.config.crop_px)
        config = self.model.wanted.model_copy(update={"view": view})
        processes = self.setting.processes
        starts = range(0, len(source), config.batch_size)[processes.rank :: processes.size]
        if not self._keeps:
            batches = features.stream(
                self.model.backbone, source, config, self.setting.workers, processes
            )
            yield from zip(starts, batches, strict=True)
            return
        found = self._features(source, split, view)
        for start in starts:
            rows = slice(start, start + config.batch_size)
            yield start, {level: values[rows] for level, values in found.items()}

    @torch.no_grad()
    def _choices(self) -> dict[str, Choice]:
        """Scores the grid on the held-out images and chooses, for every level."""
        held_out = subset(self.setting.train, np.flatnonzero(self._held_out))
        labels, grid = labels_of(held_out), self.config.lr_grid
        right = {level.name: torch.zeros(len(grid), dtype=torch.int64) for level in self.levels}
        for start, batch in self._centres(held_out, "train"):
            for level, values in batch.items():
                head = self.model.head(level)
                guesses = head.bank(head.normalised(values))[:, : len(grid)].argmax(dim=2).cpu()
                true = labels[start : start + len(values), None]
                right[level] += (guesses == true).sum(dim=0)
        total = gatherer(self.setting.processes)
        choices = {
            level: Choice(
                level, "lr", grid, tuple(total(counts).view(-1, len(grid)).sum(0).tolist()),
                len(held_out),
            )
            for level, counts in right.items()
        }  # fmt: skip
        for choice in choices.values():
            _log.info("%s: of the grid, learning rate %g reads best", choice.readout, choice.value)
        return choices

    @torch.no_grad()
    def _guesses(self, scored: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
        """Returns the best guesses for the test images, by level, and of the layers chosen.

        All of them on the first process, none on the others.
        """
        own = self._centres(self.setting.test, self.setting.test_split)
        batches = ([self._guessed(batch, scored)] for _, batch in own)
        found: dict[str, list[Tensor]] = {}
        for guessed in in_turn(batches, self.setting.processes):
            for name, rows in guessed.items():
                found.setdefault(name, []).append(rows)
        return {name: torch.cat(rows).numpy() for name, rows in found.items()}

    def _guessed(self, batch: Mapping[str, Tensor], scored: Mapping[str, int]) -> dict[str, Tensor]:
        found = {}
        for level, values in batch.items():
            head = self.model.head(level)
            seen = head.normalised(values)
            found[level] = best(head.logits(seen))
            if level in scored:
                found[f"{GRID} {level}"] = best(head.bank(seen)[:, scored[level]])
        return found


def best(scores: Tensor) -> Tensor:
    """Returns the classes of the best scores (N, K) → (N, 5 or K); of equals the first class."""
    order = scores.cpu().sort(dim=1, descending=True, stable=True).indices
    return order[:, :NUM_GUESSES]


Item = tuple[Tensor, int, bool, int]
"""A view, (H, W, 3) uint8, the image's label, whether it is held out, and its number."""


@dataclass(frozen=True)
class TrainingViews:
    """The training view of an image in an epoch: crop and flip."""

    source: Source
    augmentation: Augmentation
    seed: int
    held_out: NDArray[np.bool_]

    def __call__(self, epoch: int, index: int) -> Item:
        """Reads and augments one image."""
        image = self.source[index].image
        stream = view_stream(self.seed, epoch, index, 0)
        parameters = sample_view(self.augmentation, stream, *image.shape[:2])
        view = torch.from_numpy(apply_view(image, parameters, self.augmentation.crop_px))
        return view, label_of(self.source, index), bool(self.held_out[index]), index


def _collate(items: Sequence[Item]) -> ReadoutBatch:
    views, labels, held_out, indices = zip(*items, strict=True)
    return ReadoutBatch(
        torch.stack(views), torch.tensor(labels), torch.tensor(held_out), torch.tensor(indices)
    )


def label_of(source: Source, index: int) -> int:
    """Returns an image's label.

    Raises:
        InputError: It has none.
    """
    label = source.label(index)
    if label is None:
        raise InputError(
            source.path(index),
            "the image has no label",
            "images that belong to a class",
            "give data with one folder per class",
        )
    return label


def labels_of(source: Source) -> Tensor:
    """Returns the labels of all images, (N,) int64; raises as :func:`label_of` does."""
    return torch.tensor([label_of(source, index) for index in range(len(source))])


def require_classes(source: Source) -> None:
    """Checks that every image has a label, and that there is something to tell apart.

    Raises:
        InputError: An image has no label, or the data have fewer than two classes.
    """
    labels_of(source)
    if len(source.classes) < 2:
        raise InputError(
            source.path(0).parent, f"the data have {len(source.classes)} class",
            "two or more, to be told apart", "give data with one folder per class",
        )  # fmt: skip
